//! What the policies would have done: a trace of requests replayed, without a cluster and without a
//! clock. The same code decides here as in the activator.

pub mod cases;
pub mod chance;
pub mod classes;
pub mod plant;
pub mod plot;
pub mod replay;
pub mod rivals;
pub mod scalers;
pub mod summary;
pub mod trace;
