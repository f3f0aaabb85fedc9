//! Version `v1alpha1` of the group `rouse.dev`.

mod conditions;
mod container;
mod function;
mod scaling;
mod trigger;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use conditions::ConditionType;
pub use container::{
    ConfigMapKeyRef, EnvFromSource, EnvVar, EnvVarSource, FieldRef, LocalRef, Resources,
    SecretKeyRef,
};
pub use function::{
    Activation, Exposure, Function, FunctionSpec, FunctionStatus, LastError, Protocol, Readiness,
};
pub use scaling::{Buffer, Concurrency, Idle, Scaling, Timeouts};
pub use trigger::{HttpMethod, HttpTrigger, Trigger, TriggerSpec, TriggerStatus};

/// The API group of every type of this crate.
pub const GROUP: &str = "rouse.dev";

/// The definitions of all kinds, in the order in which they should be installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Function::crd(), Trigger::crd()]
}
