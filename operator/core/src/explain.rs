//! Says in words what happened to a Function and why. Pure: it reads what the status holds.

pub mod cold;
pub mod health;
pub mod why;
