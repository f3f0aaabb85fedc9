//! The data path from the client's connection to the pod's, over connections in memory, so that
//! every timer runs on the paused clock. Each test ends with every count at zero.

mod answers;
mod bodies;
mod conformance;
mod doors;
mod drain;
mod failing;
mod fairness;
mod forward;
mod hops;
mod hostile;
mod limits;
mod pairs;
mod plain;
mod protocols;
mod refusals;
pub(super) mod rig;
mod slow;
mod spread;
mod streams;
mod tls;
mod waiting;
