//! The activator: carries every request, holds those that find no pod, wakes and scales the
//! Functions that it owns.

pub mod admission;
pub mod body;
mod forward;
pub mod function;
mod headers;
pub mod pod;
pub mod problem;
pub mod proxy;
pub mod request_metrics;
pub mod server;
mod server_timing;
pub mod upstream;
