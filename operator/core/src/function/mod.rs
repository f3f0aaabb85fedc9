//! A Function as the rest of Rouse sees it: its names and its validated form.

pub mod names;
mod validate;

pub use names::FunctionKey;
pub use validate::{
    BufferBounds, Concurrency, Invalid, ScalingBounds, Timeouts, ValidatedFunction, Workload,
    parse_bytes, parse_duration, validate,
};
