//! What the end-to-end tests share: the cluster under test, a namespace for each test, calls
//! through the activator, and waiting on conditions. No test sleeps.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this crate is test code: a panic is how a test fails"
)]

pub mod activators;
pub mod cluster;
pub mod hollow;
pub mod http;
pub mod load;
pub mod process;
pub mod scope;
pub mod steady;
pub mod wait;
pub mod wire;

pub use cluster::Cluster;
pub use scope::Scope;
