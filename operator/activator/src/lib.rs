//! The activator: carries every request, holds those that find no pod, wakes and scales the
//! Functions that it owns.

mod access_log;
pub mod admission;
pub mod body;
pub mod buffer;
mod community;
pub mod control;
pub mod exemplar;
mod forward;
pub mod function;
mod headers;
pub mod instances;
mod metering;
mod namespaces;
mod ndjson;
pub mod observe;
mod ownership;
mod peer_auth;
mod pings;
pub mod pod;
pub mod problem;
pub mod proxy;
mod readiness;
mod reading;
mod release;
mod reports;
pub mod request_metrics;
mod scaler;
mod seats;
pub mod server;
mod server_timing;
mod spread;
pub mod table;
mod tick;
mod told;
mod trace;
pub mod upstream;
