//! Version `v1alpha1` of the group `rouse.dev`.

mod code;
mod conditions;
mod container;
mod delivery;
mod function;
mod history;
mod learned;
mod nats;
mod postgres;
mod s3;
mod scaling;
mod schedule;
mod source;
mod trigger;
mod usage;
mod webhook;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

pub use code::{CodeArchive, Contract, FunctionSource, MOST_INLINE, Signature};
pub use conditions::ConditionType;
pub use container::{
    ConfigMapKeyRef, EnvFromSource, EnvVar, EnvVarSource, FieldRef, LocalRef, Resources,
    SecretKeyRef,
};
pub use delivery::{DeadLetter, Delivery, DeliveryBatch, EventFormat};
pub use function::{
    Activation, Exposure, Function, FunctionSpec, FunctionStatus, LastError, Protocol, Readiness,
};
pub use history::ScaleDecision;
pub use learned::Learned;
pub use nats::{
    JetStreamSource, NatsCredentials, NatsDeadLetters, NatsServer, NatsSubject, NatsTrigger,
};
pub use postgres::{PostgresOperation, PostgresTable, PostgresTrigger};
pub use s3::{S3Credentials, S3Event, S3Notifications, S3Start, S3Trigger};
pub use scaling::{Buffer, Concurrency, Economy, Idle, IdlePolicy, Scaling, Timeouts};
pub use schedule::{CatchUp, ConcurrencyPolicy, ScheduleStatus, ScheduleTrigger};
pub use source::{SecretKey, SourceError, SourceStatus, SourceTls};
pub use trigger::{HttpMethod, HttpTrigger, Trigger, TriggerSpec, TriggerStatus};
pub use usage::{DayUsage, RevisionUsage, Usage, UsageMark, UsageSums};
pub use webhook::{Address, CloudEventsTrigger, Entrance, WebhookSender, WebhookTrigger};

/// The API group of every type of this crate.
pub const GROUP: &str = "rouse.dev";

/// The definitions of all kinds, in the order in which they should be installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![Function::crd(), Trigger::crd()];
    let versions = crds.iter_mut().flat_map(|crd| &mut crd.spec.versions);
    for schema in versions.filter_map(|version| version.schema.as_mut()) {
        schema.open_api_v3_schema.iter_mut().for_each(drop_unsigned_formats);
    }
    crds
}

/// Kubernetes knows no unsigned numbers and warns of their formats; the bounds say it all.
fn drop_unsigned_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flat_map(|all| all.values_mut()).for_each(drop_unsigned_formats);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_unsigned_formats(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        drop_unsigned_formats(values);
    }
}
