//! The children as the controller watches them: metadata as a type, the rest as it came, so that
//! fields that are newer than this build are not lost, and packed, because there are many.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use rouse_core::function::code::leave_out_of;
use rouse_core::function::plan::{ChildKind, SeenChild};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// A kind of child.
pub(crate) trait Kind: Send + Sync + Clone + fmt::Debug + 'static {
    /// Which.
    const KIND: ChildKind;
    /// Its API group; empty for the core one.
    const GROUP: &'static str;
    /// Its name in paths.
    const PLURAL: &'static str;
}

#[derive(Clone, Debug)]
pub(crate) struct DeploymentKind;
#[derive(Clone, Debug)]
pub(crate) struct RecordKind;
#[derive(Clone, Debug)]
pub(crate) struct ServiceKind;

#[derive(Clone, Debug)]
pub(crate) struct ServiceAccountKind;
#[derive(Clone, Debug)]
pub(crate) struct RoleBindingKind;

impl Kind for DeploymentKind {
    const KIND: ChildKind = ChildKind::Deployment;
    const GROUP: &'static str = "apps";
    const PLURAL: &'static str = "deployments";
}

impl Kind for RecordKind {
    const KIND: ChildKind = ChildKind::ControllerRevision;
    const GROUP: &'static str = "apps";
    const PLURAL: &'static str = "controllerrevisions";
}

impl Kind for ServiceKind {
    const KIND: ChildKind = ChildKind::Service;
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "services";
}

impl Kind for ServiceAccountKind {
    const KIND: ChildKind = ChildKind::ServiceAccount;
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "serviceaccounts";
}

impl Kind for RoleBindingKind {
    const KIND: ChildKind = ChildKind::RoleBinding;
    const GROUP: &'static str = "rbac.authorization.k8s.io";
    const PLURAL: &'static str = "rolebindings";
}

pub(crate) type Deployment = Child<DeploymentKind>;
pub(crate) type Record = Child<RecordKind>;
pub(crate) type Service = Child<ServiceKind>;
pub(crate) type ServiceAccount = Child<ServiceAccountKind>;
pub(crate) type RoleBinding = Child<RoleBindingKind>;

/// A child in the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Child<K> {
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Of a Deployment and a Service.
    #[serde(default)]
    pub spec: Packed,
    /// Of a `ControllerRevision`, without the code that it may keep.
    #[serde(default, deserialize_with = "without_code")]
    pub data: Packed,
    /// Of a `ControllerRevision`.
    #[serde(default)]
    pub revision: i64,
    /// Of a Deployment.
    #[serde(default)]
    pub status: Counts,
    /// Of a `RoleBinding`.
    #[serde(default, rename = "roleRef")]
    pub role_ref: Packed,
    /// Of a `RoleBinding`.
    #[serde(default)]
    pub subjects: Packed,
    /// Of a `ServiceAccount`.
    #[serde(default, rename = "automountServiceAccountToken")]
    pub automount: Option<bool>,
    #[serde(skip)]
    kind: PhantomData<K>,
}

/// What the controller reads of a Deployment's status.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    #[serde(default)]
    pub replicas: i64,
    #[serde(default)]
    pub observed_generation: i64,
    #[serde(default)]
    pub available_replicas: i64,
}

/// A JSON value as compact text: a quarter of what the parsed one takes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Packed(Box<str>);

impl Packed {
    fn of(value: &Value) -> Self {
        Self(value.to_string().into_boxed_str())
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    pub fn clear(&mut self) {
        self.0 = Box::default();
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn without_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Packed, D::Error> {
    let mut value = Value::deserialize(deserializer)?;
    leave_out_of(&mut value);
    Ok(Packed::of(&value))
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(&Value::deserialize(deserializer)?))
    }
}

impl<K: Kind> Child<K> {
    /// The object as the plan compares it.
    pub fn seen(&self) -> SeenChild {
        let mut body = json!({
            "apiVersion": Self::api_version(&()),
            "kind": Self::kind(&()),
            "metadata": self.metadata,
        });
        if let Value::Object(members) = &mut body {
            members.insert("spec".into(), self.spec.value());
            let automount = Value::from(self.automount);
            let (role, subjects) = (self.role_ref.value(), self.subjects.value());
            let own = [
                ("automountServiceAccountToken", automount),
                ("roleRef", role),
                ("subjects", subjects),
            ];
            let said = own.into_iter().filter(|(_, value)| !value.is_null());
            members.extend(said.map(|(name, value)| (name.to_owned(), value)));
        }
        SeenChild {
            uid: self.metadata.uid.clone().unwrap_or_default(),
            resource_version: self.metadata.resource_version.clone().unwrap_or_default(),
            leaving: self.metadata.deletion_timestamp.is_some(),
            body,
        }
    }
}

impl Deployment {
    /// Whether it asks for no pods and has none.
    pub fn at_zero(&self) -> bool {
        let settled =
            self.metadata.generation.is_some_and(|g| self.status.observed_generation >= g);
        let asked = self.spec.value().get("replicas").and_then(Value::as_i64);
        settled && asked == Some(0) && self.status.replicas == 0
    }
}

impl<K: Kind> Resource for Child<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.as_str().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
