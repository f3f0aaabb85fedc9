//! Kubernetes' own kinds: their defaults as far as anybody here reads them, and what must hold. Pure.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::api::answer::{Fault, FieldError};
use crate::api::kinds::Kind;
use crate::api::meta::{list, set, set_default, text, unset};

/// Fills in what Kubernetes does.
pub(super) fn set_defaults(kind: &Kind, object: &mut Value) {
    match kind.name.as_str() {
        "Deployment" => {
            let mut default = |path: &[&str], value: Value| set_default(object, path, value);
            default(&["spec", "replicas"], json!(1));
            default(&["spec", "revisionHistoryLimit"], json!(10));
            default(&["spec", "progressDeadlineSeconds"], json!(600));
            default(&["spec", "strategy", "type"], json!("RollingUpdate"));
            if text(object, "/spec/strategy/type") == "RollingUpdate" {
                for bound in ["maxSurge", "maxUnavailable"] {
                    set_default(object, &["spec", "strategy", "rollingUpdate", bound], "25%");
                }
            }
            pod_defaults(object.pointer_mut("/spec/template/spec"));
        }
        "ReplicaSet" => {
            set_default(object, &["spec", "replicas"], 1);
            pod_defaults(object.pointer_mut("/spec/template/spec"));
        }
        "Pod" => pod_defaults(object.pointer_mut("/spec")),
        "Service" => {
            set_default(object, &["spec", "type"], "ClusterIP");
            set_default(object, &["spec", "sessionAffinity"], "None");
            port_defaults(object.pointer_mut("/spec/ports"));
        }
        "Secret" => secret_defaults(object),
        _ => {}
    }
}

fn pod_defaults(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    for (field, default) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
    ] {
        set_default(spec, &[field], default);
    }
    for field in ["containers", "initContainers"] {
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            set_default(container, &["terminationMessagePath"], "/dev/termination-log");
            set_default(container, &["terminationMessagePolicy"], "File");
            set_default(container, &["imagePullPolicy"], "IfNotPresent");
            set_default(container, &["resources"], json!({}));
            port_defaults(container.get_mut("ports"));
        }
    }
}

fn port_defaults(ports: Option<&mut Value>) {
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten() {
        set_default(port, &["protocol"], "TCP");
    }
}

/// Text is kept as bytes.
fn secret_defaults(object: &mut Value) {
    set_default(object, &["type"], "Opaque");
    let Some(Value::Object(texts)) = unset(object, &["stringData"]) else { return };
    for (name, value) in texts {
        let bytes = ByteString(value.as_str().unwrap_or_default().as_bytes().to_vec());
        if let Ok(encoded) = serde_json::to_value(bytes) {
            set(object, &["data", &name], encoded);
        }
    }
}

/// How the status of a new object begins.
pub(super) fn begin(kind: &Kind, object: &mut Value) {
    match kind.name.as_str() {
        "Namespace" => {
            let name = text(object, "/metadata/name").to_owned();
            set(object, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
            set(object, &["spec", "finalizers"], json!(["kubernetes"]));
            set(object, &["status", "phase"], "Active");
        }
        "Pod" => set(object, &["status"], json!({"phase": "Pending"})),
        _ => {}
    }
}

/// What must hold of an object, and of a change of it.
pub(super) fn check(kind: &Kind, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    match kind.name.as_str() {
        "Deployment" | "ReplicaSet" => {
            check_template(new, errors);
            may_not_change("/spec/selector", (old, new), errors);
        }
        "Pod" => {
            check_containers(new.get("spec"), "spec", errors);
            // A pod without a node is placed by changing it: a machine has its ports but once.
            let placed = old.filter(|old| !text(old, "/spec/nodeName").is_empty());
            if placed.is_some_and(|old| fixed_of_pod(old) != fixed_of_pod(new)) {
                let why = "pod updates may not change fields other than those of its metadata and \
                           the images of its containers";
                errors.push(FieldError::new("spec", Fault::Forbidden, why));
            }
        }
        "ControllerRevision" => may_not_change("/data", (old, new), errors),
        _ => {}
    }
}

fn may_not_change(path: &str, (old, new): (Option<&Value>, &Value), errors: &mut Vec<FieldError>) {
    let Some(old) = old else { return };
    if old.pointer(path) != new.pointer(path) {
        let field = path.trim_start_matches('/').replace('/', ".");
        errors.push(FieldError::new(&field, Fault::Invalid, "field is immutable"));
    }
}

fn check_template(object: &Value, errors: &mut Vec<FieldError>) {
    let wanted = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let labels = object.pointer("/spec/template/metadata/labels");
    match wanted.filter(|wanted| !wanted.is_empty()) {
        None => errors.push(FieldError::new("spec.selector", Fault::Required, "")),
        Some(wanted) => {
            let fits = |(name, value): (&String, &Value)| {
                labels.and_then(|labels| labels.get(name)) == Some(value)
            };
            if !wanted.iter().all(fits) {
                let shown = labels.unwrap_or(&Value::Null);
                let path = "spec.template.metadata.labels";
                let why = "`selector` does not match template `labels`";
                errors.push(FieldError::of_value(path, Fault::Invalid, shown, why));
            }
        }
    }
    check_containers(object.pointer("/spec/template/spec"), "spec.template.spec", errors);
}

fn check_containers(spec: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    let containers: Vec<&Value> =
        spec.map(|spec| list(spec, "/containers").collect()).unwrap_or_default();
    if containers.is_empty() {
        errors.push(FieldError::new(&format!("{path}.containers"), Fault::Required, ""));
    }
    let mut seen = Vec::new();
    for (at, container) in containers.into_iter().enumerate() {
        let path = format!("{path}.containers[{at}]");
        for field in ["name", "image"] {
            if text(container, &format!("/{field}")).is_empty() {
                errors.push(FieldError::new(&format!("{path}.{field}"), Fault::Required, ""));
            }
        }
        let name = text(container, "/name");
        if seen.contains(&name) {
            let error = FieldError::new(
                &format!("{path}.name"),
                Fault::Duplicate,
                Value::from(name).to_string(),
            );
            errors.push(error);
        }
        seen.push(name);
    }
}

/// What of a pod's spec stays as it is.
fn fixed_of_pod(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    for field in ["activeDeadlineSeconds", "tolerations"] {
        unset(&mut spec, &[field]);
    }
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        unset(container, &["image"]);
    }
    spec
}
