//! The controller: makes the children of Functions and what runs beside them, publishes the membership
//! of activators and writes all status. It decides nothing itself; decisions are `rouse-core`'s.
//!
//! Data moves one way: `watch` fills the stores, `fetch` reads them, `rouse-core` decides, `apply`
//! writes children and `status` writes status. Only what holds the lead runs any of this, and its
//! client refuses to write once the [`Fence`] has fallen.

mod apply;
mod backoff;
mod context;
mod error;
mod events;
mod fence;
mod fetch;
mod index;
mod line;
mod members;
mod memory;
mod metrics;
mod objects;
mod propagation;
mod reconcile_function;
mod reconcile_trigger;
mod reports;
mod residents;
mod run;
mod schedules;
mod status;
mod usage;
mod watch;

#[cfg(test)]
mod scenarios;

pub use fence::{Fence, FenceFallen, FenceKeeper};
pub use metrics::Metrics;
pub use run::{Config, RunError, run};
