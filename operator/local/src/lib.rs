//! Rouse on one machine, without a cluster: what its roles find of Kubernetes, within the process.

pub mod api;
pub mod logs;
pub mod node;
