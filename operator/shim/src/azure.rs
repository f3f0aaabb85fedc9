//! Custom handlers of Azure Functions: a folder for each function with its bindings, and one process
//! that is called over HTTP for all of them.

mod app;
mod call;
mod front;
mod route;

pub use app::{App, Unfit};
pub use front::Front;
