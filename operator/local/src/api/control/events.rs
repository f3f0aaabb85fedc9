//! Events have two names, `events.k8s.io` by which Rouse tells them and the older by which `kubectl`
//! looks for them: what is told by the first is shown by the second too.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Control;
use crate::api::apply::Owned;
use crate::api::meta::{self, set, text};
use crate::api::store::{Change, Place};

/// What both have, by both names.
const FIELDS: [(&str, &str); 9] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("action", "action"),
    ("eventTime", "eventTime"),
    ("reason", "reason"),
    ("related", "related"),
    ("reportingInstance", "reportingInstance"),
    ("type", "type"),
];

/// Shows an event that was told by its older name.
pub(super) fn follow(control: &mut Control<'_>, change: &Change) {
    let kinds = control.kinds;
    if change.kind != kinds.event.id {
        return;
    }
    let place = Place { kind: kinds.core_event.id, ..change.after.place() };
    if change.is_gone {
        control.store.remove(&place);
        return;
    }
    let mut shown = shown(&change.after.value);
    match control.store.get(&place) {
        Some(before) => meta::keep(&mut shown, &["metadata", "uid"], &before.value),
        None => set(&mut shown, &["metadata", "uid"], crate::api::verbs::new_uid(control.store)),
    }
    let kind = Arc::clone(&kinds.core_event);
    control.store.put(&kind, shown, Owned::default());
}

fn shown(event: &Value) -> Value {
    let mut shown = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": meta::name(event),
            "namespace": meta::namespace(event),
            "creationTimestamp": text(event, "/metadata/creationTimestamp"),
        },
        "source": {"component": text(event, "/reportingController")},
        "count": meta::number(event, "/series/count").unwrap_or(1),
        "firstTimestamp": text(event, "/metadata/creationTimestamp"),
    });
    let last = match text(event, "/series/lastObservedTime") {
        "" => text(event, "/metadata/creationTimestamp"),
        last => last,
    };
    set(&mut shown, &["lastTimestamp"], last);
    let known: Map<String, Value> = FIELDS
        .iter()
        .filter_map(|(from, to)| Some(((*to).to_owned(), event.get(from)?.clone())))
        .collect();
    if let Value::Object(members) = &mut shown {
        members.extend(known);
    }
    shown
}
