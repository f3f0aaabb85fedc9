//! What a Function's task does to the world, and how it asks a pod. Behind a trait, so that tests
//! bring a cluster of their own, and another kind of instances than pods can come.

pub mod client;
mod codes;
pub mod kubernetes;
pub mod shim;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rouse_core::function::FunctionKey;
use rouse_core::function::names::revision_child;
use rouse_core::membership::Membership;
use rouse_crds::v1alpha1::Protocol;

use shim::ShimState;

/// A Deployment whose pods are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentRef {
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
}

/// Where the code of a revision is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRef {
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// UID of the Function: a namesake's code may be another.
    pub function: Arc<str>,
}

impl RecordRef {
    /// That of a revision of the Function `key`, which has this UID.
    pub fn new(key: &FunctionKey, uid: &Arc<str>, revision: &str) -> Self {
        let name = revision_child(&key.name, revision).into();
        Self { namespace: Arc::clone(&key.namespace), name, function: Arc::clone(uid) }
    }
}

/// A scale that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// Version of the Deployment that has it.
    pub version: u64,
}

/// Why a scale was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// There is no such Deployment (yet, or any more).
    #[error("there is no such deployment")]
    Missing,
    /// The API server refuses it, and will do so again.
    #[error("the API server refuses the scale: {0}")]
    Refused(String),
    /// It may work later. Whether it was written is not known.
    #[error("writing the scale failed: {message}")]
    Unavailable {
        /// What went wrong.
        message: String,
        /// When the API server wants to be asked again.
        retry_after: Option<Duration>,
    },
}

/// A deletion cost that was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("writing the deletion cost failed: {0}")]
pub struct CostError(pub String);

/// What became of claiming a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The claim stands on the pod.
    Ours,
    /// Another stands there.
    Others(Arc<str>),
    /// There is no such pod any more.
    Gone,
}

/// A call that did not do what it should, or of which nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// Whom to ask whether it is ready, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where its container listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Path that must answer; none where an accepted connection is enough.
    pub path: Option<Arc<str>>,
}

/// The world of a Function's task.
pub trait Instances: Send + Sync + 'static {
    /// Sets the number of pods of `deployment`. Ends within a few seconds, one way or the other,
    /// and tries once.
    fn apply_scale(
        &self,
        deployment: &DeploymentRef,
        replicas: u32,
    ) -> impl Future<Output = Result<Scaled, ScaleError>> + Send;

    /// Sets what the loss of `pod` costs when a Deployment shrinks: the lowest goes first.
    fn apply_deletion_cost(
        &self,
        pod: &PodRef,
        cost: i32,
    ) -> impl Future<Output = Result<(), CostError>> + Send;

    /// Writes `claim` on the pod with this `uid` if none stands there, as one step: of all who try
    /// one succeeds. A claim that stands already and is this very one counts as made.
    fn apply_claim(
        &self,
        pod: &PodRef,
        uid: &str,
        claim: &str,
    ) -> impl Future<Output = Result<Claimed, CallError>> + Send;

    /// Deletes the pod with this `uid`, in its own time: it finishes what it serves. One that is
    /// gone is no error.
    fn delete_pod(
        &self,
        pod: &PodRef,
        uid: &str,
    ) -> impl Future<Output = Result<(), CallError>> + Send;

    /// The membership as it stands, not as a cache remembers it.
    fn fetch_membership(&self) -> impl Future<Output = Result<Membership, CallError>> + Send;

    /// Whether the pod is ready, asked once. Ends within a second or so.
    fn fetch_readiness(&self, question: &Question) -> impl Future<Output = bool> + Send;

    /// The code that is kept in `record`, to be pushed. It is kept for the next who asks.
    fn fetch_code(
        &self,
        record: &RecordRef,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send;

    /// Brings `code` to the pod whose control port this is.
    fn push_code(
        &self,
        control: SocketAddr,
        code: Bytes,
    ) -> impl Future<Output = Result<(), CallError>> + Send;

    /// What the pod says of itself whose control port this is.
    fn fetch_state(
        &self,
        control: SocketAddr,
    ) -> impl Future<Output = Result<ShimState, CallError>> + Send;
}
