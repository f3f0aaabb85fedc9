//! The subresource by which replicas are written.

use serde_json::{Value, json};

use super::change::{PatchKind, change};
use super::{Call, Outcome};
use crate::api::answer::{Fault, FieldError, Refusal};
use crate::api::meta::{self, number, set, text};
use crate::api::patch as patches;
use crate::api::store::Store;

/// An object's scale.
fn scale_of(object: &Value) -> Value {
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta::name(object),
            "namespace": meta::namespace(object),
            "uid": meta::uid(object),
            "resourceVersion": text(object, "/metadata/resourceVersion"),
            "creationTimestamp": text(object, "/metadata/creationTimestamp"),
        },
        "spec": {"replicas": number(object, "/spec/replicas").unwrap_or(1)},
        "status": {
            "replicas": number(object, "/status/replicas").unwrap_or_default(),
            "selector": selector.join(","),
        },
    })
}

/// The scale of the object that a request names.
pub(in crate::api) fn read_scale(store: &Store, call: &Call<'_>) -> Result<Outcome, Refusal> {
    let found = super::get(store, call)?;
    Ok(Outcome::other(scale_of(found.object.value())))
}

/// Changes a scale by a patch.
pub(in crate::api) fn patch_scale(
    store: &mut Store,
    call: &Call<'_>,
    (how, body): (PatchKind, &[u8]),
) -> Result<Outcome, Refusal> {
    let mut scale = super::get(store, call).map(|found| scale_of(found.object.value()))?;
    match how {
        PatchKind::Json => patches::json(&mut scale, body)?,
        PatchKind::Merge | PatchKind::Strategic | PatchKind::Apply => {
            let patch: Value =
                serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))?;
            patches::merge(&mut scale, &patch);
        }
    }
    replace_scale(store, call, &scale)
}

/// Writes a scale.
pub(in crate::api) fn replace_scale(
    store: &mut Store,
    call: &Call<'_>,
    scale: &Value,
) -> Result<Outcome, Refusal> {
    let kind = call.kind();
    let live = store.get(&call.place()).cloned();
    let live = live.ok_or_else(|| Refusal::not_found(kind, &call.target.name))?;
    crate::api::admit::check_meant(kind, &live.value, scale)?;
    let wanted = scale.pointer("/spec/replicas").unwrap_or(&Value::Null);
    let Some(replicas) =
        wanted.as_i64().filter(|wanted| (0..=i64::from(i32::MAX)).contains(wanted))
    else {
        let why = "must be greater than or equal to 0";
        let error = FieldError::of_value("spec.replicas", Fault::Invalid, wanted, why);
        return Err(Refusal::invalid(kind, &call.target.name, &[error]));
    };
    let mut new = live.value.clone();
    set(&mut new, &["spec", "replicas"], replicas);
    let written = change(store, call, (&live, new), None)?;
    Ok(Outcome::other(scale_of(written.object.value())))
}
