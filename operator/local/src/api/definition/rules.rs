//! Rules in CEL over objects. Pure.
//!
//! Rules are ours and what they look at is bounded by the schema, which is checked first; but the
//! library may still stumble over a value, and then the object is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kube_cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::Value;

use super::Broken;
use crate::api::answer::{Fault, FieldError};

/// The rules of a schema.
pub(super) struct Rules {
    compiled: CompiledSchema,
    validator: Validator,
    schema: Arc<Value>,
}

impl Rules {
    /// Reads all rules of `schema`.
    pub(super) fn compile(schema: &Arc<Value>) -> Result<Self, Broken> {
        let compiled = compile_schema(schema);
        first_error(&compiled)?;
        // Nothing of a default is left to fill in when rules are asked.
        Ok(Self { compiled, validator: Validator::new(), schema: Arc::clone(schema) })
    }

    /// Which of them `object` breaks.
    pub(super) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            self.validator.validate_compiled(&self.compiled, object, old)
        }));
        match checked {
            Ok(Ok(())) => Vec::new(),
            Ok(Err(errors)) => errors.iter().map(|error| self.told(object, error)).collect(),
            Err(_) => vec![FieldError::new("", Fault::Invalid, "a rule can't be applied to it")],
        }
    }

    /// As the API server says it: with the value where that is a single one.
    fn told(&self, object: &Value, error: &ValidationError) -> FieldError {
        if error.kind != ErrorKind::ValidationFailure {
            return self.told_of_failure(error);
        }
        let message = error.message.trim().to_owned();
        let fault = match error.reason.as_deref() {
            Some("FieldValueForbidden") => Fault::Forbidden,
            Some("FieldValueRequired") => Fault::Required,
            Some("FieldValueDuplicate") => Fault::Duplicate,
            _ => Fault::Invalid,
        };
        // Where the rule names a field below its own, the value that it is about is an object.
        let is_own = self.rule(error).is_some_and(|rule| rule.get("fieldPath").is_none());
        let value = value_at(object, &error.field_path).filter(|_| is_own);
        match value.filter(|value| !value.is_object() && !value.is_array()) {
            Some(value) if fault == Fault::Invalid => {
                FieldError::of_value(&error.field_path, fault, value, message)
            }
            _ => FieldError::new(&error.field_path, fault, message),
        }
    }

    /// Of a rule that can't be asked the API server tells the type that it is for, and its message.
    fn told_of_failure(&self, error: &ValidationError) -> FieldError {
        let text = |of: Option<&Value>, name: &str| {
            of.and_then(|of| of.get(name)?.as_str()).map(|text| text.trim().to_owned())
        };
        let kind = text(node_at(&self.schema, &error.field_path), "type").unwrap_or_default();
        let rule = text(self.rule(error), "message").unwrap_or_else(|| error.rule.clone());
        let why = format!("{} evaluating rule: {rule}", error.message);
        FieldError::of_value(&error.field_path, Fault::Invalid, &kind.into(), why)
    }

    /// The rule, as it stands in the schema.
    fn rule(&self, error: &ValidationError) -> Option<&Value> {
        let node = node_at(&self.schema, &error.field_path)?;
        let mut rules = node.get("x-kubernetes-validations")?.as_array()?.iter();
        rules.find(|rule| rule.get("rule").and_then(Value::as_str) == Some(&error.rule))
    }
}

/// The schema of a field.
fn node_at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    super::schema::steps(path).try_fold(schema, |node, step| match step.parse::<usize>() {
        Ok(_) if node.get("items").is_some() => node.get("items"),
        _ => node
            .get("properties")
            .and_then(|fields| fields.get(step))
            .or_else(|| node.get("additionalProperties")),
    })
}

fn value_at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    super::schema::steps(path).try_fold(object, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

fn first_error(compiled: &CompiledSchema) -> Result<(), Broken> {
    if let Some(error) = compiled.compilation_errors().first() {
        return Err(Broken::Rule(error.to_string()));
    }
    let below = compiled.properties.values();
    let below = below.chain(compiled.items.as_deref());
    below.chain(compiled.additional_properties.as_deref()).try_for_each(first_error)
}
