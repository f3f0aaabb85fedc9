//! What runs the sources of a namespace: a Deployment, its ServiceAccount and what that may do. They
//! are there while the namespace has a Trigger that needs them. Pure.

use std::collections::BTreeSet;

use rouse_crds::v1alpha1::{
    Entrance, NatsCredentials, NatsServer, NatsTrigger, PostgresTrigger, S3Credentials, S3Trigger,
    SecretKey, SourceTls,
};
use serde_json::{Value, json};

use super::{SourceKind, ValidatedSource};
use crate::delivery::Heir;
use crate::function::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::function::plan::{ChildKind, Deletion, SeenChild, Write, create, put_right};

/// Name of all of them.
pub const SOURCE_NAME: &str = "rouse-source";
/// Value of the label `app.kubernetes.io/component` on all of them, and on the pods.
pub const SOURCE_COMPONENT: &str = "source";
/// Labels of all of them, and of the pods, as a selector.
pub const SOURCE_SELECTOR: &str =
    "app.kubernetes.io/component=source,app.kubernetes.io/managed-by=rouse";
/// Name of the pods' container in the chart's template.
pub const SOURCE_CONTAINER: &str = "source";
/// Name of the container's port at which it takes events that senders send.
pub const DOORS_PORT: &str = "doors";
/// Where the container finds the Secrets: a folder for each, a file for each key.
pub const SECRETS_FOLDER: &str = "/var/run/secrets/rouse.dev/source";
/// Name of the volume that holds them.
const SECRETS_VOLUME: &str = "secrets";
/// Longest name of a Secret.
const LONGEST_NAME: usize = 253;

/// The pod template of source pods, as the chart writes it: image, arguments, resources.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTemplate(Value);

/// Why a pod template can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateMistake {
    /// It is no JSON.
    #[error("the template of source pods is no JSON")]
    Json(#[from] serde_json::Error),
    /// It has no container of the name that is looked for.
    #[error("the template of source pods has no container {SOURCE_CONTAINER}")]
    Container,
}

impl PodTemplate {
    /// Reads JSON.
    pub fn parse(text: &str) -> Result<Self, TemplateMistake> {
        let template: Value = serde_json::from_str(text)?;
        let containers = template.pointer("/spec/containers").and_then(Value::as_array);
        let mut containers = containers.into_iter().flatten();
        if containers.any(|container| container["name"] == SOURCE_CONTAINER) {
            Ok(Self(template))
        } else {
            Err(TemplateMistake::Container)
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
pub struct SourcePlan {
    /// What is written.
    pub writes: Vec<Write>,
    /// What goes.
    pub deletions: Vec<Deletion>,
}

impl SourcePlan {
    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.deletions.is_empty()
    }
}

/// Decides what to do in `namespace`, whose Triggers that need a source name `secrets`; none of them
/// means that no Trigger does.
pub fn decide_children(
    namespace: &str,
    secrets: Option<&BTreeSet<SecretKey>>,
    seen: &SeenChildren,
    template: &PodTemplate,
) -> SourcePlan {
    let SeenChildren { service_account, role_binding, deployment } = seen;
    let Some(secrets) = secrets else {
        let kinds = [
            (ChildKind::Deployment, deployment),
            (ChildKind::RoleBinding, role_binding),
            (ChildKind::ServiceAccount, service_account),
        ];
        let there = kinds.into_iter().filter_map(|(kind, seen)| Some((kind, seen.as_ref()?)));
        let there = there.filter(|(_, seen)| !seen.leaving);
        let deletions = there.map(|(kind, seen)| delete(kind, seen)).collect();
        return SourcePlan { writes: Vec::new(), deletions };
    };
    let wanted = [
        (ChildKind::ServiceAccount, service_account, render_service_account(namespace)),
        (ChildKind::RoleBinding, role_binding, render_role_binding(namespace)),
        (ChildKind::Deployment, deployment, render_deployment(namespace, secrets, template)),
    ];
    let writes = wanted.into_iter().filter_map(|(kind, seen, body)| match seen {
        None => Some(create(kind, SOURCE_NAME.to_owned(), body)),
        Some(seen) => put_right(kind, SOURCE_NAME.to_owned(), seen, body),
    });
    SourcePlan { writes: writes.collect(), deletions: Vec::new() }
}

fn delete(kind: ChildKind, seen: &SeenChild) -> Deletion {
    Deletion {
        kind,
        name: SOURCE_NAME.to_owned(),
        uid: seen.uid.clone(),
        resource_version: seen.resource_version.clone(),
    }
}

/// Labels by which the pods are found; they can't be changed.
fn selector_labels() -> Value {
    json!({
        "app.kubernetes.io/name": "rouse",
        "app.kubernetes.io/component": SOURCE_COMPONENT,
        LABEL_MANAGED_BY: MANAGED_BY,
    })
}

fn metadata(namespace: &str) -> Value {
    json!({"name": SOURCE_NAME, "namespace": namespace, "labels": selector_labels()})
}

fn render_service_account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(namespace),
        "automountServiceAccountToken": false,
    })
}

fn render_role_binding(namespace: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(namespace),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": SOURCE_NAME,
        },
        "subjects": [
            {"kind": "ServiceAccount", "name": SOURCE_NAME, "namespace": namespace},
        ],
    })
}

fn render_deployment(
    namespace: &str,
    secrets: &BTreeSet<SecretKey>,
    template: &PodTemplate,
) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(namespace),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            // Two at once would only be in each other's way: some servers let one in.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector_labels()},
            "template": render_template(secrets, template),
        },
    })
}

fn render_template(secrets: &BTreeSet<SecretKey>, PodTemplate(template): &PodTemplate) -> Value {
    let mut template = template.clone();
    if let Value::Object(labels) = &mut template["metadata"]["labels"]
        && let Value::Object(own) = selector_labels()
    {
        labels.extend(own);
    } else {
        template["metadata"]["labels"] = selector_labels();
    }
    if secrets.is_empty() {
        return template;
    }
    let volume = json!({"name": SECRETS_VOLUME, "projected": {"sources": sources(secrets)}});
    push(&mut template["spec"]["volumes"], volume);
    let mount = json!({"name": SECRETS_VOLUME, "mountPath": SECRETS_FOLDER, "readOnly": true});
    if let Value::Array(containers) = &mut template["spec"]["containers"] {
        for container in containers.iter_mut().filter(|it| it["name"] == SOURCE_CONTAINER) {
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

/// The keys of Secrets that `trigger` names, as far as there can be such keys: the API server would
/// refuse the pods of all Triggers for the sake of one that can't.
pub fn secrets_of(trigger: &ValidatedSource) -> BTreeSet<SecretKey> {
    let mut named = Named::default();
    match &trigger.kind {
        SourceKind::Nats(NatsTrigger { server, jet_stream: _, subject: _ }) => named.nats(server),
        SourceKind::S3(S3Trigger { notifications, credentials, tls, .. }) => {
            if let Some(Entrance { token, .. }) = notifications {
                named.key(token);
            }
            if let Some(credentials) = credentials {
                let S3Credentials { access_key_id, secret_access_key, session_token } = credentials;
                named.key(access_key_id);
                named.key(secret_access_key);
                named.keys(session_token);
            }
            named.tls(tls.as_ref());
        }
        SourceKind::Postgres(PostgresTrigger { password, tls, .. }) => {
            named.keys(password);
            named.tls(tls.as_ref());
        }
        SourceKind::Webhook(webhook) => named.key(&webhook.secret),
        SourceKind::CloudEvents(events) => named.key(&events.at.token),
    }
    if let Some(Heir::Nats(letters)) = &trigger.settings.dead_letter {
        named.nats(&letters.server);
    }
    named.0
}

#[derive(Default)]
struct Named(BTreeSet<SecretKey>);

impl Named {
    fn key(&mut self, key: &SecretKey) {
        let is_name = !key.name.is_empty() && key.name.len() <= LONGEST_NAME;
        let is_key = !key.key.starts_with("..") && key.key != ".";
        if is_name && is_key {
            self.0.insert(key.clone());
        }
    }

    fn keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a SecretKey>) {
        keys.into_iter().for_each(|key| self.key(key));
    }

    fn tls(&mut self, tls: Option<&SourceTls>) {
        if let Some(SourceTls { ca, certificate, key }) = tls {
            self.keys([ca, certificate, key].into_iter().flatten());
        }
    }

    fn nats(&mut self, server: &NatsServer) {
        let NatsServer { servers: _, credentials, tls } = server;
        if let Some(credentials) = credentials {
            let NatsCredentials { file, nkey, token, user, password } = credentials;
            self.keys([file, nkey, token, user, password].into_iter().flatten());
        }
        self.tls(tls.as_ref());
    }
}

#[cfg(test)]
mod tests;
