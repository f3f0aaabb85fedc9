//! What Rouse itself runs in namespaces of tenants: a Deployment, its ServiceAccount and what that may
//! do. They are there while the namespace has something that needs them. Pure.

use std::collections::BTreeSet;

use rouse_crds::v1alpha1::SecretKey;
use serde_json::{Value, json};

use crate::function::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::function::plan::{ChildKind, Deletion, SeenChild, Write, create, put_right};

/// Label that says which resident an object is of.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// Labels of the objects of all residents, as a selector.
pub const RESIDENTS: &str =
    "app.kubernetes.io/managed-by=rouse,app.kubernetes.io/component in (source,keeper)";
/// Name of a source container's port at which it takes events that senders send.
pub const DOORS_PORT: &str = "doors";
/// Where a container finds the Secrets: a folder for each, a file for each key.
pub const SECRETS_FOLDER: &str = "/var/run/secrets/rouse.dev/source";
/// Name of the volume that holds them.
const SECRETS_VOLUME: &str = "secrets";

/// What Rouse runs in namespaces of tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resident {
    /// Runs the sources of the namespace's Triggers.
    Source,
    /// Keeps what the pods of the namespace's Functions with source printed.
    Keeper,
}

impl Resident {
    /// All.
    pub const ALL: [Self; 2] = [Self::Source, Self::Keeper];

    /// Name of its Deployment, its `ServiceAccount`, its `RoleBinding` and the `ClusterRole` of that.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "rouse-source",
            Self::Keeper => "rouse-keeper",
        }
    }

    /// Value of [`LABEL_COMPONENT`] on all of them and on the pods, and name of the pods' container.
    pub const fn component(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Keeper => "keeper",
        }
    }

    /// Labels of all of them, and of the pods, as a selector.
    pub const fn selector(self) -> &'static str {
        match self {
            Self::Source => "app.kubernetes.io/component=source,app.kubernetes.io/managed-by=rouse",
            Self::Keeper => "app.kubernetes.io/component=keeper,app.kubernetes.io/managed-by=rouse",
        }
    }

    /// How a pod gives way to the next.
    fn strategy(self) -> Value {
        match self {
            // Two at once would only be in each other's way: some servers let one in.
            Self::Source => json!({"type": "Recreate"}),
            // The next takes over what is kept before the former goes.
            Self::Keeper => json!({
                "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            }),
        }
    }
}

/// The pod template of a resident, as the chart writes it: image, arguments, resources.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTemplate(Value);

/// Why a pod template can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateMistake {
    /// It is no JSON.
    #[error("the template of the pods is no JSON")]
    Json(#[from] serde_json::Error),
    /// It has no container of the name that is looked for.
    #[error("the template of the pods has no container {0}")]
    Container(&'static str),
}

impl PodTemplate {
    /// Reads JSON.
    pub fn parse(resident: Resident, text: &str) -> Result<Self, TemplateMistake> {
        let template: Value = serde_json::from_str(text)?;
        let containers = template.pointer("/spec/containers").and_then(Value::as_array);
        let mut containers = containers.into_iter().flatten();
        if containers.any(|container| container["name"] == resident.component()) {
            Ok(Self(template))
        } else {
            Err(TemplateMistake::Container(resident.component()))
        }
    }
}

/// What there is of them. What bears their name and not their labels is somebody else's, and not
/// among these.
#[derive(Clone, Debug, Default)]
pub struct SeenChildren {
    /// The `ServiceAccount`.
    pub service_account: Option<SeenChild>,
    /// The `RoleBinding`.
    pub role_binding: Option<SeenChild>,
    /// The Deployment.
    pub deployment: Option<SeenChild>,
}

/// What to do about them: writes in their order, then deletions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResidentPlan {
    /// What is written.
    pub writes: Vec<Write>,
    /// What goes.
    pub deletions: Vec<Deletion>,
}

impl ResidentPlan {
    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.deletions.is_empty()
    }
}

/// Decides what to do in `namespace` about `resident`, which is `wanted` by a template and with the keys
/// of Secrets that it needs, or not at all.
pub fn decide_children(
    resident: Resident,
    namespace: &str,
    wanted: Option<(&PodTemplate, &BTreeSet<SecretKey>)>,
    seen: &SeenChildren,
) -> ResidentPlan {
    let SeenChildren { service_account, role_binding, deployment } = seen;
    let Some(wanted) = wanted else {
        let kinds = [
            (ChildKind::Deployment, deployment),
            (ChildKind::RoleBinding, role_binding),
            (ChildKind::ServiceAccount, service_account),
        ];
        let there = kinds.into_iter().filter_map(|(kind, seen)| Some((kind, seen.as_ref()?)));
        let there = there.filter(|(_, seen)| !seen.leaving);
        let deletions = there.map(|(kind, seen)| delete(resident, kind, seen)).collect();
        return ResidentPlan { writes: Vec::new(), deletions };
    };
    let wanted = [
        (ChildKind::ServiceAccount, service_account, render_service_account(resident, namespace)),
        (ChildKind::RoleBinding, role_binding, render_role_binding(resident, namespace)),
        (ChildKind::Deployment, deployment, render_deployment(resident, namespace, wanted)),
    ];
    let writes = wanted.into_iter().filter_map(|(kind, seen, body)| match seen {
        None => Some(create(kind, resident.name().to_owned(), body)),
        Some(seen) => put_right(kind, resident.name().to_owned(), seen, body),
    });
    ResidentPlan { writes: writes.collect(), deletions: Vec::new() }
}

fn delete(resident: Resident, kind: ChildKind, seen: &SeenChild) -> Deletion {
    Deletion {
        kind,
        name: resident.name().to_owned(),
        uid: seen.uid.clone(),
        resource_version: seen.resource_version.clone(),
    }
}

/// Labels by which the pods are found; they can't be changed.
fn selector_labels(resident: Resident) -> Value {
    json!({
        "app.kubernetes.io/name": "rouse",
        LABEL_COMPONENT: resident.component(),
        LABEL_MANAGED_BY: MANAGED_BY,
    })
}

fn metadata(resident: Resident, namespace: &str) -> Value {
    json!({
        "name": resident.name(), "namespace": namespace, "labels": selector_labels(resident),
    })
}

fn render_service_account(resident: Resident, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(resident, namespace),
        "automountServiceAccountToken": false,
    })
}

fn render_role_binding(resident: Resident, namespace: &str) -> Value {
    let name = resident.name();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(resident, namespace),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name,
        },
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    })
}

fn render_deployment(
    resident: Resident,
    namespace: &str,
    (template, secrets): (&PodTemplate, &BTreeSet<SecretKey>),
) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(resident, namespace),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "strategy": resident.strategy(),
            "selector": {"matchLabels": selector_labels(resident)},
            "template": render_template(resident, template, secrets),
        },
    })
}

fn render_template(
    resident: Resident,
    PodTemplate(template): &PodTemplate,
    secrets: &BTreeSet<SecretKey>,
) -> Value {
    let mut template = template.clone();
    if let Value::Object(labels) = &mut template["metadata"]["labels"]
        && let Value::Object(own) = selector_labels(resident)
    {
        labels.extend(own);
    } else {
        template["metadata"]["labels"] = selector_labels(resident);
    }
    if secrets.is_empty() {
        return template;
    }
    let volume = json!({"name": SECRETS_VOLUME, "projected": {"sources": sources(secrets)}});
    push(&mut template["spec"]["volumes"], volume);
    let mount = json!({"name": SECRETS_VOLUME, "mountPath": SECRETS_FOLDER, "readOnly": true});
    if let Value::Array(containers) = &mut template["spec"]["containers"] {
        for container in containers.iter_mut().filter(|it| it["name"] == resident.component()) {
            push(&mut container["volumeMounts"], mount.clone());
        }
    }
    template
}

/// Each key alone, and none has to be there: one that is missing stops its Trigger, and no other.
fn sources(secrets: &BTreeSet<SecretKey>) -> Vec<Value> {
    let source = |SecretKey { name, key }: &SecretKey| {
        json!({"secret": {
            "name": name,
            "optional": true,
            "items": [{"key": key, "path": format!("{name}/{key}")}],
        }})
    };
    secrets.iter().map(source).collect()
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

#[cfg(test)]
mod tests;
