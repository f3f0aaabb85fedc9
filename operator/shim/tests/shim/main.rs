//! The program as a pod has it: started with an environment, given code, called over HTTP. The
//! language process is `examples/handler.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod azure;
mod code;
mod http;
mod lambda;
mod logs;
mod rig;
