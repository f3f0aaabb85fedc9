//! A Function as the rest of Rouse sees it: its names and its validated form, which of its
//! revisions serves, and why its pods fail to start.

pub mod code;
mod drift;
#[cfg(test)]
mod fixtures;
pub mod names;
pub mod plan;
pub mod render;
mod revision;
pub mod rollback;
pub mod runtime;
pub mod start_failure;
pub mod status;
pub mod switch;
mod validate;

pub use drift::covers;
pub use names::FunctionKey;
pub use revision::revision_hash;
pub use validate::{
    BufferBounds, Concurrency, Invalid, RequestRules, ScalingBounds, Timeouts, ValidatedFunction,
    Workload, parse_bytes, parse_duration, validate,
};
