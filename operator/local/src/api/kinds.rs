//! The kinds of objects that are served: those of Kubernetes that Rouse's roles and command line use,
//! and those of Rouse's own definitions. Pure.

use std::any::TypeId;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::definition::{Broken, Definition};

/// Names a kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KindId(usize);

/// How objects of a kind are checked.
pub(super) enum Shape {
    /// By a definition's schema and rules.
    Custom(Box<Definition>),
    /// By the type that Kubernetes has for them: reads one and writes it again.
    Typed(fn(Value) -> Result<Value, serde_json::Error>),
}

/// A column of what people see of a kind.
pub(super) struct Column {
    pub name: String,
    /// Type of its values.
    pub sort: String,
    pub path: String,
    /// Shown where it is 0, else only if more is asked for.
    pub priority: i32,
}

/// A kind of objects.
pub(super) struct Kind {
    pub id: KindId,
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    /// As objects name it.
    pub name: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Whether its status is written by a subresource.
    pub has_status: bool,
    /// Whether its replicas can be written by a subresource.
    pub has_scale: bool,
    pub columns: Vec<Column>,
    pub shape: Shape,
}

impl Kind {
    fn typed<K>(short_names: &[&str], subresources: &[&str]) -> Self
    where
        K: k8s_openapi::Resource + Serialize + DeserializeOwned,
        K::Scope: 'static,
    {
        fn again<K: Serialize + DeserializeOwned>(
            value: Value,
        ) -> Result<Value, serde_json::Error> {
            serde_json::to_value(serde_json::from_value::<K>(value)?)
        }
        Self {
            id: KindId(0),
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            plural: K::URL_PATH_SEGMENT.to_owned(),
            singular: K::KIND.to_ascii_lowercase(),
            name: K::KIND.to_owned(),
            short_names: short_names.iter().map(|name| (*name).to_owned()).collect(),
            categories: categories_of(K::KIND),
            namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
            has_status: subresources.contains(&"status"),
            has_scale: subresources.contains(&"scale"),
            columns: columns_of(K::GROUP, K::KIND),
            shape: Shape::Typed(again::<K>),
        }
    }

    /// The kind that a definition makes; none where none of its versions is served.
    fn custom(definition: &CustomResourceDefinition) -> Result<Option<Self>, Broken> {
        let spec = &definition.spec;
        let Some(version) = spec.versions.iter().find(|version| version.served) else {
            return Ok(None);
        };
        let subresources = version.subresources.as_ref();
        let columns = version.additional_printer_columns.as_ref();
        Ok(Some(Self {
            id: KindId(0),
            group: spec.group.clone(),
            version: version.name.clone(),
            plural: spec.names.plural.clone(),
            singular: spec.names.singular.clone().unwrap_or_default(),
            name: spec.names.kind.clone(),
            short_names: spec.names.short_names.clone().unwrap_or_default(),
            categories: spec.names.categories.clone().unwrap_or_default(),
            namespaced: spec.scope == "Namespaced",
            has_status: subresources.is_some_and(|all| all.status.is_some()),
            has_scale: false,
            columns: columns.into_iter().flatten().map(Column::of).collect(),
            shape: Shape::Custom(Box::new(Definition::of(version)?)),
        }))
    }

    /// The version as objects name it.
    pub(super) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// As errors name its objects: `functions.rouse.dev`.
    pub(super) fn resource(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// As errors name the kind itself: `Function.rouse.dev`.
    pub(super) fn qualified_kind(&self) -> String {
        qualified(&self.name, &self.group)
    }

    /// Whether it is known who wrote which field. Of what only Kubernetes' own parts write nobody asks.
    pub(super) fn is_tracked(&self) -> bool {
        !matches!(self.name.as_str(), "Pod" | "ReplicaSet" | "Event" | "Lease")
    }

    /// Whether it is this kind of Kubernetes' own.
    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.name == kind
    }
}

impl Column {
    fn of(column: &CustomResourceColumnDefinition) -> Self {
        Self {
            name: column.name.clone(),
            sort: column.type_.clone(),
            path: column.json_path.clone(),
            priority: column.priority.unwrap_or_default(),
        }
    }
}

/// What people mean by all that runs.
fn categories_of(kind: &str) -> Vec<String> {
    let runs = matches!(kind, "Pod" | "Service" | "Deployment" | "ReplicaSet");
    runs.then(|| "all".to_owned()).into_iter().collect()
}

/// What is shown of Kubernetes' own kinds that people of Rouse look at.
fn columns_of(group: &str, kind: &str) -> Vec<Column> {
    let columns: &[(&str, &str, &str)] = match (group, kind) {
        ("", "Pod") => &[
            ("Status", "string", ".status.phase"),
            ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status"),
            ("Restarts", "integer", ".status.containerStatuses[0].restartCount"),
            ("IP", "string", ".status.podIP"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        ("apps", "Deployment" | "ReplicaSet") => &[
            ("Desired", "integer", ".spec.replicas"),
            ("Current", "integer", ".status.replicas"),
            ("Ready", "integer", ".status.readyReplicas"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        ("events.k8s.io", "Event") => &[
            ("Type", "string", ".type"),
            ("Reason", "string", ".reason"),
            ("Kind", "string", ".regarding.kind"),
            ("Object", "string", ".regarding.name"),
            ("Message", "string", ".note"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        _ => &[],
    };
    let column = |(name, sort, path): &(&str, &str, &str)| Column {
        name: (*name).to_owned(),
        sort: (*sort).to_owned(),
        path: (*path).to_owned(),
        priority: 0,
    };
    columns.iter().map(column).collect()
}

fn qualified(name: &str, group: &str) -> String {
    match group {
        "" => name.to_owned(),
        group => format!("{name}.{group}"),
    }
}

/// All kinds.
pub(super) struct Kinds {
    all: Vec<Arc<Kind>>,
    // Those that the controllers look for.
    pub namespace: Arc<Kind>,
    pub pod: Arc<Kind>,
    pub service_account: Arc<Kind>,
    pub deployment: Arc<Kind>,
    pub replica_set: Arc<Kind>,
    pub event: Arc<Kind>,
    pub core_event: Arc<Kind>,
}

impl Kinds {
    /// Those of Kubernetes, and those of `definitions`.
    pub(super) fn new(definitions: &[CustomResourceDefinition]) -> Result<Self, Broken> {
        let mut all = Vec::new();
        let mut add = |kind: Kind| {
            let kind = Arc::new(Kind { id: KindId(all.len()), ..kind });
            all.push(Arc::clone(&kind));
            kind
        };
        let namespace = add(Kind::typed::<Namespace>(&["ns"], &["status"]));
        let pod = add(Kind::typed::<Pod>(&["po"], &["status"]));
        let service_account = add(Kind::typed::<ServiceAccount>(&["sa"], &[]));
        let deployment = add(Kind::typed::<Deployment>(&["deploy"], &["status", "scale"]));
        let replica_set = add(Kind::typed::<ReplicaSet>(&["rs"], &["status", "scale"]));
        let event = add(Kind::typed::<NewEvent>(&["ev"], &[]));
        let core_event = add(Kind::typed::<Event>(&["ev"], &[]));
        for other in [
            Kind::typed::<Node>(&["no"], &["status"]),
            Kind::typed::<Service>(&["svc"], &["status"]),
            Kind::typed::<ConfigMap>(&["cm"], &[]),
            Kind::typed::<Secret>(&[], &[]),
            Kind::typed::<ControllerRevision>(&[], &[]),
            Kind::typed::<Lease>(&[], &[]),
            Kind::typed::<EndpointSlice>(&[], &[]),
            Kind::typed::<Role>(&[], &[]),
            Kind::typed::<RoleBinding>(&[], &[]),
            Kind::typed::<ClusterRole>(&[], &[]),
            Kind::typed::<ClusterRoleBinding>(&[], &[]),
        ] {
            add(other);
        }
        for definition in definitions {
            if let Some(kind) = Kind::custom(definition)? {
                add(kind);
            }
        }
        Ok(Self {
            all,
            namespace,
            pod,
            service_account,
            deployment,
            replica_set,
            event,
            core_event,
        })
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.all.iter()
    }

    /// The kind that a path names.
    pub(super) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let is =
            |kind: &Kind| kind.group == group && kind.version == version && kind.plural == plural;
        self.all.iter().find(|kind| is(kind))
    }
}
