//! The sources of Rouse: what brings the events of brokers, buckets and databases to Functions, by
//! way of the activators.
//!
//! A [`Source`] speaks to one server: it brings events, in the order of the server, and carries out
//! what it is told to acknowledge. A [`Runner`] stands between it and one Function: it asks for no
//! more than the Function may run, lets `rouse-core` decide what becomes of each event, and
//! connects again. A [`Supervisor`] keeps one of both for each Trigger of its namespace. Nothing
//! here is kept: what was not acknowledged is brought again.

pub mod address;
mod bury;
pub mod credentials;
mod failure;
mod kinds;
mod link;
mod metrics;
#[cfg(feature = "brokers")]
pub mod nats;
#[cfg(feature = "brokers")]
mod office;
#[cfg(feature = "brokers")]
pub mod postgres;
mod runner;
#[cfg(feature = "brokers")]
pub mod s3;
#[cfg(test)]
mod scripted;
mod source;
#[cfg(test)]
mod stage;
mod supervisor;
#[cfg(feature = "brokers")]
mod tls;
pub mod webhook;

pub use bury::ToFunction;
pub use failure::Failure;
pub use kinds::Means;
pub use link::{Batch, Link, Next, Order, Progress, Room};
pub use metrics::{Metrics, TriggerMetrics};
pub use runner::{Bury, Outlook, Trouble, Wires, Work, run};
pub use source::{Brought, Source, Terms};
pub use supervisor::Supervisor;
