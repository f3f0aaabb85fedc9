//! What the API says no with: a status, as Kubernetes words it. Pure.

use std::fmt::Display;

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::Kind;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldError {
    /// Path of the field; empty for the whole object.
    pub path: String,
    pub fault: Fault,
    /// What its value is and what it should be.
    pub told: String,
}

/// Sorts of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Required,
    NotSupported,
    TooLong,
    TooMany,
    Type,
    Invalid,
    Duplicate,
    Forbidden,
}

impl Fault {
    const fn title(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Type | Self::Invalid => "Invalid value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
        }
    }

    const fn cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Type => "FieldValueTypeInvalid",
            Self::Invalid => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
        }
    }

    /// Whether rules can't be asked about an object with such a fault.
    pub(super) const fn blocks_rules(self) -> bool {
        match self {
            Self::Required | Self::NotSupported | Self::TooLong | Self::TooMany | Self::Type => {
                true
            }
            Self::Invalid | Self::Duplicate | Self::Forbidden => false,
        }
    }
}

impl FieldError {
    /// `value` is not as it should be, and `why`.
    pub(super) fn of_value(path: &str, fault: Fault, value: &Value, why: impl Display) -> Self {
        Self { path: path.to_owned(), fault, told: format!("{value}: {why}") }
    }

    /// There is something wrong that needs no value to be told.
    pub(super) fn new(path: &str, fault: Fault, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), fault, told: why.into() }
    }

    fn field(&self) -> &str {
        // As the API server names the object as a whole.
        if self.path.is_empty() { "<nil>" } else { &self.path }
    }

    fn body(&self) -> String {
        match self.told.as_str() {
            "" => self.fault.title().to_owned(),
            told => format!("{}: {told}", self.fault.title()),
        }
    }
}

/// A request that is not carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub code: StatusCode,
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Value>,
}

impl Refusal {
    /// With nothing but a message.
    pub(super) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = Some(json!({"name": name, "group": kind.group, "kind": kind.plural}));
        self
    }

    /// The request makes no sense.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// There is nothing at that path.
    pub(super) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// It can't be done with that.
    pub(super) fn not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// There is no such object.
    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.resource());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// There is one already.
    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// It is not as whoever asks thinks it is.
    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.resource();
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// It may not be done.
    pub(super) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", kind.resource());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// The version that is asked for is forgotten.
    pub(super) fn expired() -> Self {
        let message = "too old resource version: begin with a new list";
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The object is not valid.
    pub(super) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let causes: Vec<_> = errors
            .iter()
            .map(|error| {
                json!({
                    "reason": error.fault.cause(), "field": error.field(), "message": error.body(),
                })
            })
            .collect();
        let mut told: Vec<String> = Vec::new();
        for error in errors {
            let text = format!("{}: {}", error.field(), error.body());
            if !told.contains(&text) {
                told.push(text);
            }
        }
        let all = told.join(", ");
        let all = if told.len() > 1 { format!("[{all}]") } else { all };
        Self {
            code: StatusCode::UNPROCESSABLE_ENTITY,
            reason: "Invalid",
            message: format!("{} {name:?} is invalid: {all}", kind.qualified_kind()),
            details: Some(json!({
                "name": name, "group": kind.group, "kind": kind.name, "causes": causes,
            })),
        }
    }

    /// As it goes over the wire.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if let (Some(details), Value::Object(members)) = (&self.details, &mut status) {
            members.insert("details".into(), details.clone());
        }
        status
    }
}

/// That something was done that leaves no object to show.
pub(super) fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
}
