//! The API of Rouse as Rust types: what a user may write, its bounds, defaults and rules.
//!
//! Types only: no client, no decision. What the fields mean for a cluster is decided in
//! `rouse-core`.

pub mod v1alpha1;
