//! What a gate tells the Function's task of its load.

use std::sync::Arc;

use rouse_core::scaling::Traffic;
use tokio::time::Instant;

use super::health::Failing;
use crate::exemplar::Caller;

/// What a gate tells the Function's task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that pods are serving, whoever sent them.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Most of both together since [`super::Gate::take_load`] was last called.
    pub peak: u32,
    /// When the last request left; none while there is one, and where there was none yet.
    pub idle_since: Option<Instant>,
    /// The longest time without a request that ended since then: when it began and when it ended.
    pub rest: Option<(Instant, Instant)>,
    /// Requests by pod, closed pods too.
    pub pods: Vec<PodLoad>,
    /// The request that is waking the Function or woke it last.
    pub activation: Option<ActivationMark>,
    /// What went through.
    pub traffic: Traffic,
}

/// Requests that one pod is serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLoad {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Hash of its revision.
    pub revision: Arc<str>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether it gets new requests.
    pub open: bool,
    /// Whether other activators may be sending to it, even if it is closed.
    pub awaited: bool,
    /// That requests to it fail, if they do.
    pub failing: Option<Failing>,
}

/// The request that wakes a Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationMark {
    /// When it came.
    pub arrived: Instant,
    /// When the first byte of the first answer to a request that waited went back.
    pub first_byte: Option<Instant>,
    /// Where that request came from, if somebody records its trace.
    pub caller: Option<Caller>,
}
