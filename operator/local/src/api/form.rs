//! How objects are shown: whole, as their metadata, or as a table for people. Pure.

mod table;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::store::Object;

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Metadata,
    Table,
}

impl Form {
    /// What a request accepts first of what there is for a kind.
    pub(super) fn of(accept: &str, kind: &Kind) -> Self {
        for kind_of_answer in accept.split(',') {
            if kind_of_answer.contains("as=PartialObjectMetadata") {
                return Self::Metadata;
            }
            if kind_of_answer.contains("as=Table")
                && kind_of_answer.contains("v=v1;")
                && table::has_columns(kind)
            {
                return Self::Table;
            }
            if kind_of_answer.trim() == "application/json" {
                return Self::Whole;
            }
        }
        Self::Whole
    }

    /// One object that is kept.
    pub(super) fn show(self, object: &Object, now: Timestamp) -> Bytes {
        match self {
            Self::Whole => object.text(),
            _ => self.show_value(&object.kind, &object.value, now).to_string().into(),
        }
    }

    /// One object.
    pub(super) fn show_value(self, kind: &Kind, object: &Value, now: Timestamp) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => metadata_of(object),
            Self::Table => table::table(kind, &[object], (&Value::Null, true), now),
        }
    }

    /// A list of objects. `metadata` is the list's.
    pub(super) fn show_list(
        self,
        kind: &Kind,
        objects: &[std::sync::Arc<Object>],
        metadata: &Value,
        now: Timestamp,
    ) -> Bytes {
        match self {
            Self::Whole => {
                let head = json!({
                    "kind": format!("{}List", kind.name), "apiVersion": kind.api_version(),
                    "metadata": metadata,
                });
                // Put together of what is written already.
                let mut text = head.to_string();
                text.pop();
                text.push_str(",\"items\":[");
                for (at, object) in objects.iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    text.push_str(&String::from_utf8_lossy(&object.text()));
                }
                text.push_str("]}");
                text.into()
            }
            Self::Metadata => {
                let items: Vec<Value> = objects.iter().map(|it| metadata_of(&it.value)).collect();
                let list = json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata, "items": items,
                });
                list.to_string().into()
            }
            Self::Table => {
                let values: Vec<&Value> = objects.iter().map(|it| &it.value).collect();
                table::table(kind, &values, (metadata, true), now).to_string().into()
            }
        }
    }

    /// A line of a watch.
    pub(super) fn show_event(
        self,
        what: &str,
        object: &Object,
        now: Timestamp,
        first: bool,
    ) -> Bytes {
        let shown = match self {
            Self::Table => {
                let table =
                    table::table(&object.kind, &[&object.value], (&Value::Null, first), now);
                table.to_string().into()
            }
            _ => self.show(object, now),
        };
        let mut line = Vec::with_capacity(shown.len() + 40);
        line.extend_from_slice(b"{\"type\":\"");
        line.extend_from_slice(what.as_bytes());
        line.extend_from_slice(b"\",\"object\":");
        line.extend_from_slice(&shown);
        line.extend_from_slice(b"}\n");
        line.into()
    }
}

fn metadata_of(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata"),
    })
}
