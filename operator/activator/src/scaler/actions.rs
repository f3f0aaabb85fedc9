//! What the state of a Function asks its task to do, and what it is told of it afterwards.

use std::sync::Arc;

use rouse_core::report::FunctionReport;
use tokio::time::Instant;

use super::pods::Asking;
use crate::instances::{CostError, DeploymentRef, PodRef, ScaleError, Scaled};

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
    },
    /// Set the deletion cost of a pod.
    SetCost {
        /// UID of the pod.
        uid: Arc<str>,
        /// The pod.
        pod: PodRef,
        /// Its cost.
        cost: i32,
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
}
