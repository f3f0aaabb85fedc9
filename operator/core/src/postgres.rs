//! What PostgreSQL tells of its changes by logical replication (plugin `pgoutput`, protocol 1), and
//! what a Function learns of it. Pure: connecting and acknowledging are the source's.
//!
//! With protocol 1 a transaction is told when it was committed, as a whole and in the order of
//! commits, so that nothing has to be kept until its end: a change is known by where its
//! transaction was committed in the log and by its number in it, and that is the same whenever the
//! slot brings it again.

mod change;
mod frame;
mod ledger;
mod lsn;
mod reader;
mod row;
mod wire;

pub use change::{Change, Operation, Place, Selection, Table};
pub use frame::{Frame, Report};
pub use ledger::Ledger;
pub use lsn::Lsn;
pub use reader::{Reader, Told};
pub use wire::Malformed;

#[cfg(test)]
mod tests;
