//! Server-side apply as a request: what of the body counts, and how a conflict is told.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::change::{change, make};
use super::{Call, Outcome};
use crate::api::admit;
use crate::api::answer::Refusal;
use crate::api::apply::{Conflict, Owned};
use crate::api::fields::Node;
use crate::api::meta;
use crate::api::store::Store;

/// Applies an object, or its status.
pub(super) fn apply(
    store: &mut Store,
    call: &Call<'_>,
    mut applied: Value,
) -> Result<Outcome, Refusal> {
    let kind = call.kind();
    if call.query.get("fieldManager").is_empty() {
        return Err(Refusal::bad("fieldManager is required for apply patch"));
    }
    admit::read_type(kind, &mut applied)?;
    let said = what_counts(call, &applied);
    let manager = call.manager(true);
    let force = call.query.is_set("force");
    let node = Node::root(kind);
    let told = |conflicts: Vec<Conflict>| conflict(call, &conflicts);
    let Some(live) = store.get(&call.place()).cloned() else {
        if !call.target.subresource.is_empty() {
            return Err(Refusal::not_found(kind, &call.target.name));
        }
        if !meta::uid(&applied).is_empty() {
            let why = "uid mismatch: there is no object of that name";
            return Err(Refusal::conflict(kind, &call.target.name, why));
        }
        let mut owned = Owned::default();
        let nothing = Value::Object(Map::new());
        owned.apply(manager, node, (&nothing, &said), force).map_err(told)?;
        return make(store, call, said, owned);
    };
    admit::check_meant(kind, &live.value, &applied)?;
    let mut owned = live.owned.clone();
    let merged = owned.apply(manager, node, (&live.value, &said), force).map_err(told)?;
    change(store, call, (&live, merged), Some(owned))
}

/// What of an applied object is written: all but its status, or that alone.
fn what_counts(call: &Call<'_>, applied: &Value) -> Value {
    if call.target.subresource == "status" {
        let status = applied.get("status").filter(|status| !status.is_null());
        return status.map_or_else(|| json!({}), |status| json!({"status": status}));
    }
    let mut said = applied.clone();
    if call.kind().has_status {
        meta::unset(&mut said, &["status"]);
    }
    said
}

fn conflict(call: &Call<'_>, conflicts: &[Conflict]) -> Refusal {
    let who = |conflict: &Conflict| {
        let manager = &conflict.manager;
        let part = match manager.subresource.as_str() {
            "" => String::new(),
            part => format!(" with subresource {part:?}"),
        };
        let using = if manager.applies {
            String::new()
        } else {
            format!(" using {}", call.kind().api_version())
        };
        format!("{:?}{part}{using}", manager.name)
    };
    let all: Vec<(String, String)> = conflicts
        .iter()
        .flat_map(|conflict| {
            conflict.fields.paths().into_iter().map(move |path| (who(conflict), path))
        })
        .collect();
    let message = if let [(who, path)] = all.as_slice() {
        format!("Apply failed with 1 conflict: conflict with {who}: {path}")
    } else {
        let mut lines = Vec::new();
        for conflict in conflicts {
            lines.push(format!("conflicts with {}:", who(conflict)));
            lines.extend(conflict.fields.paths().iter().map(|path| format!("- {path}")));
        }
        format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
    };
    let causes: Vec<Value> = all
        .into_iter()
        .map(|(who, path)| {
            json!({
                "reason": "FieldManagerConflict", "message": format!("conflict with {who}"),
                "field": path,
            })
        })
        .collect();
    let mut refusal = Refusal::new(StatusCode::CONFLICT, "Conflict", message);
    refusal.details = Some(json!({"causes": causes}));
    refusal
}
