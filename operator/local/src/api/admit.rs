//! What an object must be like before it is kept, and what is filled in. Pure.

mod builtin;
mod metadata;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::{Fault, FieldError, Refusal};
use super::kinds::{Kind, Shape};
use super::meta::{self, NAMES, NEVER, OURS, keep, set, text, unset};

/// What becomes of fields that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They are left out.
    Ignore,
    /// They are left out, and whoever writes hears of it.
    Warn,
    /// The object is refused.
    Refuse,
}

impl Unknown {
    /// As requests say it.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Refuse),
            other => Err(Refusal::bad(format!("invalid fieldValidation: {other:?}"))),
        }
    }
}

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All but its status.
    Whole,
    /// Its status.
    Status,
}

/// Checks that `object` says what it is, and says it where it doesn't.
pub(super) fn read_type(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad("the body must be an object"));
    }
    if object.get("metadata").is_some_and(|metadata| !metadata.is_object() && !metadata.is_null()) {
        return Err(Refusal::bad("metadata must be an object"));
    }
    for (field, wanted) in [("apiVersion", kind.api_version()), ("kind", kind.name.clone())] {
        match object.get(field).and_then(Value::as_str) {
            Some(found) if found == wanted => {}
            None | Some("") => set(object, &[field], wanted),
            Some(found) => {
                let message = format!(
                    "the {field} in the data ({found}) does not match the expected one ({wanted})"
                );
                return Err(Refusal::bad(message));
            }
        }
    }
    Ok(())
}

/// Leaves out what is unknown and fills in defaults. Gives what was left out.
pub(super) fn shape(
    kind: &Kind,
    object: &mut Value,
    unknown: Unknown,
) -> Result<Vec<String>, Refusal> {
    let left_out = match &kind.shape {
        Shape::Custom(definition) => {
            let mut left_out = metadata::prune(object);
            left_out.extend(definition.prune(object));
            definition.set_defaults(object);
            left_out
        }
        Shape::Typed(again) => {
            let read = again(object.clone()).map_err(|error| {
                let (kind, version) = (&kind.name, &kind.version);
                let message =
                    format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}");
                Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message)
            })?;
            let mut left_out = Vec::new();
            find_left_out(object, &read, "", &mut left_out);
            *object = read;
            builtin::set_defaults(kind, object);
            left_out
        }
    };
    let told: Vec<String> =
        left_out.into_iter().map(|path| format!("unknown field {path:?}")).collect();
    if unknown == Unknown::Refuse && !told.is_empty() {
        let message = format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            kind.name,
            kind.version,
            kind.name,
            told.join(", ")
        );
        return Err(Refusal::bad(message));
    }
    Ok(if unknown == Unknown::Warn { told } else { Vec::new() })
}

/// Paths of what `before` has and `after` has not.
fn find_left_out(before: &Value, after: &Value, path: &str, left_out: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, member) in before.iter().filter(|(_, member)| !member.is_null()) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match after.get(name) {
                    Some(after) => find_left_out(member, after, &path, left_out),
                    None => left_out.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                find_left_out(before, after, &format!("{path}[{at}]"), left_out);
            }
        }
        _ => {}
    }
}

/// Makes a new object of what was sent: without what only the API writes, and with its status as it
/// begins.
pub(super) fn begin(kind: &Kind, object: &mut Value) {
    for field in OURS.into_iter().chain(NEVER) {
        unset(object, &["metadata", field]);
    }
    if kind.has_status {
        unset(object, &["status"]);
    }
    builtin::begin(kind, object);
}

/// Whether changes of its spec are counted.
pub(super) fn counts_generations(kind: &Kind) -> bool {
    kind.has_status && !kind.is("", "Namespace") && !kind.is("", "Node")
}

/// Refuses a new object that is not valid.
pub(super) fn check_new(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let mut errors = check_name(kind, object);
    match &kind.shape {
        Shape::Custom(definition) => {
            errors.extend(metadata::check(object));
            errors.extend(definition.check(object, None));
        }
        Shape::Typed(_) => builtin::check(kind, object, None, &mut errors),
    }
    refuse(kind, object, &errors)
}

/// Refuses a change that is not valid.
pub(super) fn check_change(
    kind: &Kind,
    (old, new): (&Value, &Value),
    part: Part,
) -> Result<(), Refusal> {
    let mut errors = Vec::new();
    match (&kind.shape, part) {
        (Shape::Custom(definition), Part::Whole) => {
            errors = metadata::check(new);
            errors.extend(definition.check(new, Some(old)));
        }
        (Shape::Custom(definition), Part::Status) => errors = definition.check_status(new),
        (Shape::Typed(_), Part::Whole) => builtin::check(kind, new, Some(old), &mut errors),
        (Shape::Typed(_), Part::Status) => {}
    }
    refuse(kind, new, &errors)
}

fn refuse(kind: &Kind, object: &Value, errors: &[FieldError]) -> Result<(), Refusal> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(kind, meta::name(object), errors))
}

/// Lays what may not change from `old` over `new`, of which a part is written.
pub(super) fn keep_the_rest(kind: &Kind, (old, new): (&Value, &mut Value), part: Part) {
    if part == Part::Status {
        let status = unset(new, &["status"]);
        new.clone_from(old);
        match status {
            Some(status) => set(new, &["status"], status),
            None => drop(unset(new, &["status"])),
        }
        return;
    }
    for field in NAMES.into_iter().chain(OURS) {
        keep(new, &["metadata", field], old);
    }
    for field in NEVER {
        unset(new, &["metadata", field]);
    }
    if kind.has_status {
        keep(new, &["status"], old);
    }
}

/// Whether more changed than metadata and status.
pub(super) fn changes_spec(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| -> Map<String, Value> {
        let members = object.as_object().into_iter().flatten();
        let rest = members.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
        rest.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    rest(old) != rest(new)
}

fn check_name(kind: &Kind, object: &Value) -> Vec<FieldError> {
    // The API server's words, letter for letter: people look for them.
    const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
        characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
        or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
        characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
        'example.com', regex used for validation is \
        '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let name = meta::name(object);
    let is_label = |text: &str, most: usize| {
        let inner = |letter: u8| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'-');
        !text.is_empty()
            && text.len() <= most
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    let is_subdomain = || name.len() <= 253 && name.split('.').all(|part| is_label(part, 253));
    let why = match (kind.group.as_str(), kind.name.as_str()) {
        ("rbac.authorization.k8s.io", _) => return Vec::new(),
        ("", "Namespace" | "Service") if !is_label(name, 63) => LABEL,
        _ if !is_subdomain() => SUBDOMAIN,
        _ => return Vec::new(),
    };
    vec![FieldError::of_value("metadata.name", Fault::Invalid, &json!(name), why)]
}

/// Refuses a write that is meant for another object, or another version of it.
pub(super) fn check_meant(kind: &Kind, live: &Value, sent: &Value) -> Result<(), Refusal> {
    let wanted = |field: &str| text(sent, &format!("/metadata/{field}"));
    let name = meta::name(live);
    let uid = wanted("uid");
    if !uid.is_empty() && uid != meta::uid(live) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(live)
        );
        return Err(Refusal::conflict(kind, name, &why));
    }
    let version = wanted("resourceVersion");
    if !version.is_empty() && version != text(live, "/metadata/resourceVersion") {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        return Err(Refusal::conflict(kind, name, why));
    }
    Ok(())
}
