//! What the policies would have done: a trace of requests replayed, without a cluster and without a
//! clock. The same code decides here as in the activator.

pub mod chance;
pub mod plot;
pub mod replay;
pub mod rivals;
pub mod summary;
pub mod trace;
