//! What a Function's children look like. Bodies are JSON, not typed structs, so that fields of the
//! user's template that are newer than this build survive.

mod shim;

use rouse_crds::v1alpha1::{EnvFromSource, GROUP, Protocol};
use serde_json::{Map, Value, json};

use super::code::{Code, keep_in};
use super::drift::lay_over;
use super::names::{
    ANNOTATION_CLAIM, ANNOTATION_CODE, ANNOTATION_PROTOCOL, CODE_FETCHED, CODE_PUSHED, CONTAINER,
    CONTROL_PORT_NAME, FunctionKey, LABEL_FUNCTION, LABEL_FUNCTION_UID, LABEL_MANAGED_BY,
    LABEL_REVISION, MANAGED_BY, PROTOCOL_H2C, revision_child,
};
use super::runtime::{Runtimes, Unfit};
use super::{ValidatedFunction, Workload};

/// Name of the Function's port within its pods and its Service.
pub const PORT_NAME: &str = "http";
/// Port of a Function's Service.
pub const SERVICE_PORT: u16 = 80;
/// Seconds that a stopping pod gets beyond the request timeout, for its own end.
const GRACE_MARGIN_SECONDS: u64 = 5;

/// Why a pod template can't be laid under the Function's own fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.template.{path} must be {expected}")]
pub struct TemplateError {
    /// Path below `spec.template`.
    path: String,
    /// What must stand there.
    expected: &'static str,
}

/// Why there is no pod template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The user's own part of it has another shape.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The code can't be run here.
    #[error(transparent)]
    Runtime(#[from] Unfit),
}

impl RenderError {
    /// One word: the reason of conditions.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Template(_) => "TemplateRefused",
            Self::Runtime(unfit) => unfit.reason(),
        }
    }
}

/// Whose children are rendered: what names, labels and owner references are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace and name of the Function.
    pub key: FunctionKey,
    /// UID of the Function.
    pub uid: String,
}

impl Owner {
    /// The owner that `function` is.
    pub fn of(function: &ValidatedFunction) -> Self {
        Self { key: function.key.clone(), uid: function.uid.clone() }
    }

    /// Labels of all children; those that belong to a revision have its label too.
    fn labels(&self, revision: Option<&str>) -> Value {
        let mut labels = json!({
            "app.kubernetes.io/name": &*self.key.name,
            "app.kubernetes.io/component": "function",
            "app.kubernetes.io/part-of": "rouse",
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_FUNCTION: &*self.key.name,
            LABEL_FUNCTION_UID: self.uid,
        });
        if let (Some(revision), Value::Object(labels)) = (revision, &mut labels) {
            labels.insert(LABEL_REVISION.into(), revision.into());
        }
        labels
    }

    fn metadata(&self, name: &str, revision: Option<&str>) -> Value {
        json!({
            "name": name,
            "namespace": &*self.key.namespace,
            "labels": self.labels(revision),
            "ownerReferences": [{
                "apiVersion": format!("{GROUP}/v1alpha1"),
                "kind": "Function",
                "name": &*self.key.name,
                "uid": self.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        })
    }
}

/// The Deployment of a revision as it is applied: without `replicas`, which are the scaler's.
pub fn render_deployment(owner: &Owner, revision: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(&revision_child(&owner.key.name, revision), Some(revision)),
        "spec": {
            "selector": {"matchLabels": {LABEL_FUNCTION_UID: owner.uid, LABEL_REVISION: revision}},
            "revisionHistoryLimit": 0,
            "template": template,
        },
    })
}

/// What a revision is made of, for its record.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// What the user wrote.
    pub workload: &'a Value,
    /// What we made of it.
    pub template: &'a Value,
    /// The code that its pods are pushed.
    pub code: Option<&'a Code>,
}

/// The record of a revision: what it is made of. `number` grows with each revision of the Function.
pub fn render_record(owner: &Owner, revision: &str, made: Made<'_>, number: i64) -> Value {
    let mut data = json!({"workload": made.workload, "template": made.template});
    keep_in(&mut data, made.code);
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": owner.metadata(&revision_child(&owner.key.name, revision), Some(revision)),
        "revision": number,
        "data": data,
    })
}

/// The Service by which callers in the cluster find the Function: another name for the activators'.
pub fn render_service(owner: &Owner, activator_host: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(&owner.key.name, None),
        "spec": {
            "type": "ExternalName",
            "externalName": activator_host,
            "ports": [{"name": PORT_NAME, "port": SERVICE_PORT, "protocol": "TCP"}],
        },
    })
}

/// The pod template of a revision: the user's own, with the Function's labels, identity and port
/// laid over it, and Rouse's defaults where it says nothing.
pub fn render_template(
    function: &ValidatedFunction,
    revision: &str,
    runtimes: &Runtimes,
) -> Result<Value, RenderError> {
    let user: Map<String, Value> = function.workload.template.clone().into_iter().collect();
    let mut template = without_nulls(Value::Object(user));
    let metadata = object_at(&mut template, "", "metadata")?;
    let labels = object_at(metadata, "metadata", "labels")?;
    if let (Value::Object(labels), Value::Object(ours)) =
        (labels, Owner::of(function).labels(Some(revision)))
    {
        lay_over(labels, &ours);
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        // Nobody could ever give the claim that stands on all pods from the start.
        annotations.remove(ANNOTATION_CLAIM);
        annotations.remove(ANNOTATION_CODE);
    }
    let code = function.workload.source.as_ref().map(|source| match source.url {
        Some(_) => CODE_FETCHED,
        None => CODE_PUSHED,
    });
    let h2c = (function.workload.protocol == Protocol::H2c).then_some(PROTOCOL_H2C);
    let told = [(ANNOTATION_CODE, code), (ANNOTATION_PROTOCOL, h2c)];
    for (name, value) in told.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        set(object_at(metadata, "metadata", "annotations")?, name, value);
    }
    let spec = object_at(&mut template, "", "spec")?;
    let windows = spec.pointer("/os/name").and_then(Value::as_str) == Some("windows");
    set_default(spec, "automountServiceAccountToken", false);
    set_default(spec, "enableServiceLinks", false);
    let grace = function.workload.grace_seconds.saturating_add(GRACE_MARGIN_SECONDS);
    set_default(spec, "terminationGracePeriodSeconds", grace);
    if !windows {
        let security = object_at(spec, "spec", "securityContext")?;
        set_default(security, "seccompProfile", json!({"type": "RuntimeDefault"}));
    }
    let container = own_container(spec)?;
    lay_container(container, function)?;
    match &function.workload.source {
        Some(source) => {
            let fit = runtimes.fit(source, &function.workload)?;
            let variables = shim::variables(
                (function, revision),
                source,
                fit.folder,
                container.get("resources"),
            );
            set(container, "image", fit.image);
            set(container, "args", fit.words);
            lay_shim(container, variables)?;
        }
        None => lay_image(container, &function.workload),
    }
    if !windows {
        restrict_container(container)?;
    }
    Ok(template)
}

/// The container named `function`; put first where the user's template has none.
fn own_container(spec: &mut Value) -> Result<&mut Value, TemplateError> {
    let containers = array_at(spec, "spec", "containers")?;
    if containers.iter().any(|container| !container.is_object()) {
        return Err(wrong_shape("spec.containers", "a list of containers"));
    }
    let named =
        |container: &Value| container.get("name").and_then(Value::as_str) == Some(CONTAINER);
    let index = containers.iter().position(named).unwrap_or_else(|| {
        containers.insert(0, json!({"name": CONTAINER}));
        0
    });
    let missing = || wrong_shape("spec.containers", "a list of containers");
    containers.get_mut(index).ok_or_else(missing)
}

/// Lays the Function's own fields over its container.
fn lay_container(container: &mut Value, function: &ValidatedFunction) -> Result<(), TemplateError> {
    const PATH: &str = "spec.containers[function]";
    let workload = &function.workload;
    let resources = object_at(container, PATH, "resources")?;
    if let (Value::Object(under), Value::Object(over)) = (resources, to_json(&workload.resources)) {
        lay_over(under, &over);
    }
    remove_if_empty(container, "resources");
    lay_env(container, function)?;
    lay_env_from(container, &workload.env_from)?;
    lay_port(container, workload.port)
}

fn lay_image(container: &mut Value, workload: &Workload) {
    set(container, "image", workload.image.clone());
    if !workload.command.is_empty() {
        set(container, "command", workload.command.clone());
    }
    if !workload.args.is_empty() {
        set(container, "args", workload.args.clone());
    }
}

/// The image's own entry point is the shim; its variables come right behind `PORT`.
fn lay_shim(container: &mut Value, variables: Vec<Value>) -> Result<(), TemplateError> {
    const PATH: &str = "spec.containers[function]";
    if let Value::Object(members) = container {
        members.remove("command");
    }
    let env = array_at(container, PATH, "env")?;
    env.retain(|variable| !variable.get("name").is_some_and(shim::is_own));
    drop(env.splice(1..1, variables));
    let port = shim::control_port();
    let ports = array_at(container, PATH, "ports")?;
    ports.retain(|other| {
        other.get("containerPort") != port.get("containerPort")
            && other.get("name").is_none_or(|name| name != CONTROL_PORT_NAME)
    });
    ports.push(port);
    Ok(())
}

/// `PORT` first, so that the other variables may refer to it; then the template's, then the
/// Function's.
fn lay_env(container: &mut Value, function: &ValidatedFunction) -> Result<(), TemplateError> {
    let workload = &function.workload;
    let env = array_at(container, "spec.containers[function]", "env")?;
    let ours: Vec<Value> = workload.env.iter().map(to_json).collect();
    let is_ours = |name: &Value| {
        name == "PORT" || ours.iter().any(|variable| variable.get("name") == Some(name))
    };
    env.retain(|variable| !variable.get("name").is_some_and(is_ours));
    env.insert(0, json!({"name": "PORT", "value": workload.port.to_string()}));
    env.extend(ours);
    Ok(())
}

/// Of two sources with the same key the later wins: the Function's.
fn lay_env_from(container: &mut Value, ours: &[EnvFromSource]) -> Result<(), TemplateError> {
    if !ours.is_empty() {
        array_at(container, "spec.containers[function]", "envFrom")?
            .extend(ours.iter().map(to_json));
    }
    Ok(())
}

fn lay_port(container: &mut Value, port: u16) -> Result<(), TemplateError> {
    let ports = array_at(container, "spec.containers[function]", "ports")?;
    ports.retain(|other| {
        let tcp = other.get("protocol").is_none_or(|protocol| protocol == "TCP");
        let same_port = other.get("containerPort") == Some(&Value::from(port)) && tcp;
        let same_name = other.get("name").is_some_and(|name| name == PORT_NAME);
        !same_port && !same_name
    });
    ports.insert(0, json!({"name": PORT_NAME, "containerPort": port, "protocol": "TCP"}));
    Ok(())
}

/// The API server refuses a privileged container that may not gain privileges.
fn restrict_container(container: &mut Value) -> Result<(), TemplateError> {
    let security = object_at(container, "spec.containers[function]", "securityContext")?;
    let adds_admin =
        security.pointer("/capabilities/add").and_then(Value::as_array).is_some_and(|added| {
            added.iter().any(|name| name == "SYS_ADMIN" || name == "CAP_SYS_ADMIN")
        });
    if security.get("privileged") != Some(&Value::Bool(true)) && !adds_admin {
        set_default(security, "allowPrivilegeEscalation", false);
    }
    remove_if_empty(container, "securityContext");
    Ok(())
}

fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A null means that nothing is said; applied, it would take the API server's default away.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(key, member)| (key, without_nulls(member)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        leaf => leaf,
    }
}

fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(members) = object {
        members.insert(key.to_owned(), value.into());
    }
}

fn set_default(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(members) = object {
        members.entry(key).or_insert_with(|| value.into());
    }
}

fn remove_if_empty(object: &mut Value, key: &str) {
    if let Value::Object(members) = object
        && members.get(key).and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        members.remove(key);
    }
}

fn object_at<'a>(
    object: &'a mut Value,
    parent: &str,
    key: &str,
) -> Result<&'a mut Value, TemplateError> {
    let member = member_at(object, parent, key, || json!({}))?;
    if member.is_object() { Ok(member) } else { Err(wrong_shape(&join(parent, key), "an object")) }
}

fn array_at<'a>(
    object: &'a mut Value,
    parent: &str,
    key: &str,
) -> Result<&'a mut Vec<Value>, TemplateError> {
    match member_at(object, parent, key, || json!([]))? {
        Value::Array(items) => Ok(items),
        _ => Err(wrong_shape(&join(parent, key), "a list")),
    }
}

fn member_at<'a>(
    object: &'a mut Value,
    parent: &str,
    key: &str,
    empty: impl FnOnce() -> Value,
) -> Result<&'a mut Value, TemplateError> {
    match object {
        Value::Object(members) => Ok(members.entry(key).or_insert_with(empty)),
        _ => Err(wrong_shape(parent, "an object")),
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn wrong_shape(path: &str, expected: &'static str) -> TemplateError {
    TemplateError { path: path.to_owned(), expected }
}

#[cfg(test)]
mod tests;
