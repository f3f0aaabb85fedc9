//! Every name, label and annotation that Rouse gives to what it makes, in one place.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Label with the name of the Function, on all of its children and their pods.
pub const LABEL_FUNCTION: &str = "rouse.dev/function";
/// Label with the UID of the Function, so that a Function that was deleted and made again never
/// takes its predecessor's children for its own.
pub const LABEL_FUNCTION_UID: &str = "rouse.dev/function-uid";
/// Label with the hash of the revision, on Deployments, pods and ControllerRevisions.
pub const LABEL_REVISION: &str = "rouse.dev/revision";
/// Recommended label that says who manages an object; its value is [`MANAGED_BY`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_MANAGED_BY`] on all that Rouse makes.
pub const MANAGED_BY: &str = "rouse";
/// Annotation that the controller of ReplicaSets reads when it chooses which pods go first.
pub const ANNOTATION_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Annotation by which an activator claims a pod of a Function with a hard limit: set once, by
/// compare-and-swap, and never changed (see `handover`).
pub const ANNOTATION_CLAIM: &str = "rouse.dev/claim";
/// Annotation on the pods of a revision whose container speaks another protocol than HTTP/1.1: the
/// activator reads it there, for the newest spec need not be theirs.
pub const ANNOTATION_PROTOCOL: &str = "rouse.dev/protocol";
/// Value of [`ANNOTATION_PROTOCOL`] for HTTP/2 without TLS and with prior knowledge.
pub const PROTOCOL_H2C: &str = "h2c";
/// Annotation on the pods of a revision whose Function is given as source, beside the container's
/// port [`CONTROL_PORT`]: [`CODE_PUSHED`] or [`CODE_FETCHED`].
pub const ANNOTATION_CODE: &str = "rouse.dev/code";
/// Value of [`ANNOTATION_CODE`] where the activator brings the code.
pub const CODE_PUSHED: &str = "pushed";
/// Value of [`ANNOTATION_CODE`] where the pod fetches the code itself.
pub const CODE_FETCHED: &str = "fetched";
/// Port of such a pod at which `rouse-shim` takes code and answers how it goes.
pub const CONTROL_PORT: u16 = 8079;
/// Name of that port.
pub const CONTROL_PORT_NAME: &str = "rouse-control";
/// Name of the Function's own container within its pods.
pub const CONTAINER: &str = "function";
/// Field manager of the controller.
pub const MANAGER_CONTROLLER: &str = "rouse-controller";
/// Field manager of the activator, owner of `spec.replicas`.
pub const MANAGER_ACTIVATOR: &str = "rouse-activator";
/// Name of the `ConfigMap` in Rouse's namespace that holds the membership of activators.
pub const MEMBERSHIP_CONFIG_MAP: &str = "rouse-membership";
/// Key of the membership within [`MEMBERSHIP_CONFIG_MAP`].
pub const MEMBERSHIP_KEY: &str = "membership.json";
/// Audience of the tokens by which activators and controllers prove themselves to one another.
pub const PEER_AUDIENCE: &str = "rouse.dev/peer";

/// Namespace and name of a Function. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FunctionKey {
    /// Namespace of the Function.
    pub namespace: Arc<str>,
    /// Name of the Function.
    pub name: Arc<str>,
}

impl FunctionKey {
    /// The key of the Function `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Host by which callers in the cluster reach the Function, without scheme.
    pub fn cluster_host(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Name of the Deployment and of the ControllerRevision of one revision.
pub fn revision_child(function: &str, revision: &str) -> String {
    format!("{function}-{revision}")
}
