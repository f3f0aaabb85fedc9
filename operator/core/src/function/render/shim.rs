//! What a pod with source has beside what the user wrote: the variables that `rouse-shim` reads, and
//! its port.

use rouse_crds::v1alpha1::{Contract, Signature};
use serde_json::{Value, json};

use super::super::ValidatedFunction;
use super::super::code::SourceWorkload;
use super::super::names::{CONTROL_PORT, CONTROL_PORT_NAME};
use crate::usage::parse_quantity;

/// Variables that start with this are Rouse's own.
const OWN: &str = "ROUSE_";

/// How long the language process has from SIGTERM to SIGKILL: less than what a stopping pod gets
/// beyond its requests.
const TERM_MILLIS: u64 = 3000;

/// Bytes that may be pushed: names and texts are longer as JSON than as they stand in the object.
const MOST_PUSHED: u64 = 4 << 20;

/// Whether a variable of this name is the shim's own.
pub(super) fn is_own(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name.starts_with(OWN))
}

/// The variables for the shim in a container with these `resources`, where code lies in `folder`.
pub(super) fn variables(
    (function, revision): (&ValidatedFunction, &str),
    source: &SourceWorkload,
    folder: Option<&str>,
    resources: Option<&Value>,
) -> Vec<Value> {
    let memory = resources.and_then(|all| all.pointer("/limits/memory")?.as_str());
    let memory = memory.and_then(parse_quantity).map(|bytes| (bytes >> 20).max(1));
    let processes = |number: u16| (number > 1).then(|| number.to_string());
    let values = [
        ("CODE_DIGEST", Some(source.code.clone())),
        ("CODE_URL", source.url.as_deref().map(literal)),
        ("CODE_FOLDER", folder.map(literal)),
        ("CODE_MAX_PUSHED", Some(MOST_PUSHED.to_string())),
        ("CONTRACT", Some(contract(source.contract).to_owned())),
        ("SIGNATURE", signature(source.signature).map(str::to_owned)),
        ("HANDLER", source.handler.as_deref().map(literal)),
        ("CONTROL_PORT", Some(CONTROL_PORT.to_string())),
        ("REQUEST_TIMEOUT_MS", Some(source.request_millis.to_string())),
        ("INIT_TIMEOUT_MS", Some(source.init_millis.to_string())),
        ("DRAIN_TIMEOUT_MS", Some(source.request_millis.to_string())),
        ("TERM_TIMEOUT_MS", Some(TERM_MILLIS.to_string())),
        ("PROCESSES", processes(source.processes)),
        ("PROCESS_CONCURRENCY", processes(source.process_concurrency)),
        ("FUNCTION", Some(function.key.name.to_string())),
        ("NAMESPACE", Some(function.key.namespace.to_string())),
        ("REVISION", Some(revision.to_owned())),
        ("MEMORY_MB", memory.map(|memory| memory.to_string())),
    ];
    let variable = |(name, value): (&str, Option<String>)| {
        value.map(|value| json!({"name": format!("{OWN}{name}"), "value": value}))
    };
    // By the pod's UID it knows who may have its lines (`core/src/kept.rs`).
    let uid = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}});
    let uid = json!({"name": format!("{OWN}POD_UID"), "valueFrom": uid});
    values.into_iter().filter_map(variable).chain([uid]).collect()
}

/// The port at which the shim takes code and answers how it goes.
pub(super) fn control_port() -> Value {
    json!({"name": CONTROL_PORT_NAME, "containerPort": CONTROL_PORT, "protocol": "TCP"})
}

/// The kubelet puts variables in place of `$(NAME)`, and a dollar in place of two.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

const fn contract(contract: Contract) -> &'static str {
    match contract {
        Contract::Http => "http",
        Contract::Lambda => "lambda",
        Contract::FunctionsFramework => "functions-framework",
        Contract::CloudEvents => "cloudevents",
        Contract::Azure => "azure",
    }
}

const fn signature(signature: Signature) -> Option<&'static str> {
    match signature {
        Signature::Http => None,
        Signature::CloudEvent => Some("cloudevent"),
        Signature::Event => Some("event"),
    }
}
