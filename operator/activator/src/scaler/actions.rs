//! What the state of a Function asks its task to do, and what it is told of it afterwards.

use std::sync::Arc;

use rouse_core::function::start_failure::StartFailure;
use rouse_core::handover::{Answer, ClaimId, Found};
use rouse_core::report::FunctionReport;
use tokio::time::Instant;

use super::pods::Asking;
use crate::instances::{
    CallError, CostError, DeploymentRef, PodRef, RecordRef, ScaleError, Scaled,
};
use crate::supply::Supply;

/// Something to be done.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Ask a pod, or ask it no more.
    Ask(Asking),
    /// Tell a Deployment how many pods to have.
    Scale {
        /// The revision.
        revision: Arc<str>,
        /// Its Deployment.
        deployment: DeploymentRef,
        /// Pods.
        replicas: u32,
        /// Whether these are fewer than before: then only if the Function is still owned here.
        shrinks: bool,
    },
    /// Read code that pods are about to need.
    FetchCode(RecordRef),
    /// Set the deletion cost of a pod.
    SetCost {
        /// UID of the pod.
        uid: Arc<str>,
        /// The pod.
        pod: PodRef,
        /// Its cost.
        cost: i32,
    },
    /// Claim a pod.
    Claim {
        /// UID of the pod.
        uid: Arc<str>,
        /// The pod.
        pod: PodRef,
        /// The claim.
        claim: ClaimId,
    },
    /// Ask another activator to release the Function.
    AskFor {
        /// UID of the activator.
        member: Arc<str>,
    },
    /// Delete a pod that keeps failing, if the Function is still owned here, so that another comes in
    /// its place.
    ReplaceFailing {
        /// UID of the pod.
        uid: Arc<str>,
        /// The pod.
        pod: PodRef,
    },
    /// Delete a pod, if the Function is still owned here.
    Replace {
        /// UID of the pod.
        uid: Arc<str>,
        /// The pod.
        pod: PodRef,
    },
    /// Tell the controller.
    Publish(Box<FunctionReport>),
}

/// Something that was done.
#[derive(Debug)]
pub enum Done {
    /// A pod answered.
    Answered {
        /// UID of the pod.
        uid: Arc<str>,
        /// How often its container had ended.
        exits: u32,
        /// When it answered.
        at: Instant,
    },
    /// The shim of a pod says something new of what keeps it from serving.
    Told {
        /// UID of the pod.
        uid: Arc<str>,
        /// How often its container had ended.
        exits: u32,
        /// What it is; none where it is over.
        failure: Option<StartFailure>,
        /// What goes on from there.
        supply: Supply,
    },
    /// A scale was written, or not.
    Scaled {
        /// The revision.
        revision: Arc<str>,
        /// What became of it.
        result: Result<Scaled, ScaleError>,
    },
    /// A cost was written, or not.
    CostSet {
        /// UID of the pod.
        uid: Arc<str>,
        /// The cost.
        cost: i32,
        /// What became of it.
        result: Result<(), CostError>,
    },
    /// A pod was claimed, or not.
    Claimed {
        /// UID of the pod.
        uid: Arc<str>,
        /// What became of it.
        found: Found,
    },
    /// Another activator was asked to release the Function.
    AskedFor {
        /// UID of the activator.
        member: Arc<str>,
        /// What it said, of which the claims know.
        answer: Answer,
    },
    /// A pod was not deleted.
    NotReplaced {
        /// UID of the pod.
        uid: Arc<str>,
    },
    /// A failing pod was deleted, or not.
    FailingReplaced {
        /// The pod.
        pod: PodRef,
        /// What became of it.
        result: Result<(), CallError>,
    },
}
