//! What can be done with objects: read, made, changed and taken away, as an API server does it. Pure:
//! the moment is told.

mod apply;
mod change;
mod remove;
mod scale;

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::admit::Unknown;
use super::answer::Refusal;
use super::apply::Manager;
use super::kinds::{Kind, Kinds};
use super::meta;
use super::route::{Query, Target};
use super::store::{Object, Place, Store};

pub(super) use change::{PatchKind, bind, create, new_uid, patch, replace, suffix};
pub(super) use remove::{DeleteOptions, FOREGROUND, Propagation, delete, delete_at, drop_owner};
pub(super) use scale::{patch_scale, read_scale, replace_scale};

/// A request about objects.
pub(super) struct Call<'a> {
    pub kinds: &'a Kinds,
    pub target: &'a Target,
    pub query: &'a Query,
    /// Who writes, by its program; for who does not say.
    pub agent: &'a str,
    pub now: Timestamp,
}

/// What is answered.
pub(super) struct Outcome {
    pub code: StatusCode,
    pub object: Answer,
    pub warnings: Vec<String>,
}

/// An object that is kept, or another.
pub(super) enum Answer {
    Kept(Arc<Object>),
    Other(Value),
}

impl Outcome {
    fn kept(object: Arc<Object>) -> Self {
        Self { code: StatusCode::OK, object: Answer::Kept(object), warnings: Vec::new() }
    }

    pub(super) const fn other(value: Value) -> Self {
        Self { code: StatusCode::OK, object: Answer::Other(value), warnings: Vec::new() }
    }
}

impl Answer {
    /// The object as JSON.
    pub(super) fn value(&self) -> &Value {
        match self {
            Self::Kept(object) => &object.value,
            Self::Other(value) => value,
        }
    }
}

impl Call<'_> {
    fn kind(&self) -> &Arc<Kind> {
        &self.target.kind
    }

    fn place(&self) -> Place {
        Place {
            kind: self.kind().id,
            namespace: self.target.namespace.clone().unwrap_or_default(),
            name: self.target.name.clone(),
        }
    }

    fn manager(&self, applies: bool) -> Manager {
        let named = match self.query.get("fieldManager") {
            "" => self.agent,
            named => named,
        };
        let named = if named.is_empty() { "unknown" } else { named };
        Manager { name: named.to_owned(), applies, subresource: self.target.subresource.clone() }
    }

    fn is_dry(&self) -> bool {
        self.query.get("dryRun") == "All"
    }

    fn unknown(&self) -> Result<Unknown, Refusal> {
        Unknown::parse(self.query.get("fieldValidation"))
    }
}

/// One object.
pub(super) fn get(store: &Store, call: &Call<'_>) -> Result<Outcome, Refusal> {
    let found = store.get(&call.place()).cloned();
    let found = found.ok_or_else(|| Refusal::not_found(call.kind(), &call.target.name))?;
    Ok(Outcome::kept(found))
}

/// Refuses to write into a namespace that is missing or going.
fn check_namespace(store: &Store, call: &Call<'_>) -> Result<(), Refusal> {
    let Some(name) = &call.target.namespace else { return Ok(()) };
    let kind = &call.kinds.namespace;
    let place = Place { kind: kind.id, namespace: String::new(), name: name.clone() };
    let namespace = store.get(&place).ok_or_else(|| Refusal::not_found(kind, name))?;
    if meta::is_going(&namespace.value) {
        let why = format!(
            "unable to create new content in namespace {name} because it is being terminated"
        );
        return Err(Refusal::forbidden(call.kind(), &call.target.name, &why));
    }
    Ok(())
}
