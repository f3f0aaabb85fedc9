//! Custom handlers of Azure Functions: a folder for each function with its bindings, and one process
//! that is called over HTTP for all of them.

mod app;
mod call;
mod event;
mod front;
mod nats;

pub use app::{Ready, Unfit};
pub use front::Front;
