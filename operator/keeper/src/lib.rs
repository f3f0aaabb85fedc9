//! Keeps what the pods of one namespace's Functions with source printed, for when they are gone: the last
//! MiB of each Function at least.
//!
//! A [`Keeper`] watches the pods, fetches the lines of each from its shim as they are printed, and puts
//! them into files (`store`). People ask for them on its loopback address, by way of the API server;
//! the keeper that comes after it takes them over before it goes. It reads, and writes nothing in the
//! cluster.

mod fetch;
mod follow;
mod heir;
mod metrics;
mod pods;
mod serve;
mod store;
mod tasks;

pub use metrics::Metrics;
pub use store::{Store, StoreError};
pub use tasks::{Keeper, Listeners};
