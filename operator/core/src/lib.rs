//! The decisions of Rouse: what a Function becomes, which Trigger holds a host, where a request
//! goes, who owns a Function, how many pods it gets, when an event is sent again.
//!
//! Everything here is pure: no task, no client, no clock, no source of chance. Time comes in as an
//! argument, so that the same code decides in the activator, in tests and in simulations.

pub mod delivery;
pub use rouse_event as event;
pub mod explain;
#[cfg(test)]
mod exploration;
pub mod filter;
pub mod function;
pub mod handover;
pub mod history;
pub mod kept;
pub mod letter;
pub mod membership;
pub mod peer;
pub mod postgres;
pub mod reach;
pub mod report;
pub mod resident;
pub mod routing;
pub mod s3;
pub mod scaling;
pub mod schedule;
pub mod simulation;
pub mod source;
pub mod spread;
pub mod trigger;
pub mod usage;
pub mod webhook;
