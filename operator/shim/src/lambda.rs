//! The contract of AWS Lambda: language processes that ask for work by the Runtime API. Requests
//! wait in one line for all of them.

pub mod answer;
mod api;
mod event;
mod front;
mod line;
mod prelude;
mod tongue;

pub use answer::{Answer, Malformed};
pub use event::parameters;
pub use front::{Front, new_id};
pub use line::Line;
pub use tongue::LambdaTongue;
