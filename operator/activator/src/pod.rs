//! A pod that serves a Function: its identity, its address, its connections, and how it came up.
//! A connection belongs to one pod for good, whoever gets its address later.

use std::net::SocketAddr;
use std::sync::Arc;

use rouse_crds::v1alpha1::Protocol;
use tokio::time::Instant;

use crate::upstream::Connections;

/// A pod of a Function that has answered the activator's asking.
#[derive(Debug)]
pub struct Pod {
    /// UID of the object.
    pub uid: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// Hash of the revision.
    pub revision: Arc<str>,
    /// Where its container listens.
    pub address: SocketAddr,
    /// What its container speaks.
    pub protocol: Protocol,
    /// Memory that it counts for, in bytes.
    pub memory: u64,
    /// How it came up.
    pub start: Start,
    /// The connections that it has; [`Connections::default`] for a new pod.
    pub connections: Connections,
}

/// When each phase of a pod's start was seen on this activator's clock. A phase that this activator
/// did not see (the pod was there before it looked) is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The API server had acknowledged the scale that asked for the pod.
    pub scaled: Option<Instant>,
    /// The pod was there as an object.
    pub created: Option<Instant>,
    /// The pod had a node.
    pub scheduled: Option<Instant>,
    /// The pod's address was known.
    pub addressed: Option<Instant>,
    /// The pod answered the activator's asking.
    pub listening: Option<Instant>,
}
