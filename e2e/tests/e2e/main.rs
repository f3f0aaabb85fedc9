//! What Rouse promises, on a real cluster. Each test has a namespace of its own and they run side
//! by side; those that disturb the operator itself are in `disruption`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod api;
mod code;
mod commands;
mod compiled;
mod dev;
mod doors;
mod explain;
mod failures;
mod flow;
mod guide;
mod handlers;
mod lifecycle;
mod names;
mod peers;
mod postgres;
mod protocols;
mod rights;
mod rollout;
mod samples;
mod schedules;
mod sources;
mod spread;
mod templates;
mod tls;
