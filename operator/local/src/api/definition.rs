//! What a definition says of its objects: their schema and the rules over it. Compiled once. Pure.
//!
//! The schema is ours to walk: the API server has words of its own for each fault, fills in defaults
//! and leaves out what it does not know. Rules are `kube-cel`'s.

mod rules;
mod schema;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion;
use regex::Regex;
use serde_json::Value;

use super::answer::FieldError;
use rules::Rules;

/// A definition that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It has no schema.
    #[error("the definition has no schema")]
    NoSchema,
    /// Its schema can't be read.
    #[error("reading the schema of a definition")]
    Unreadable(#[from] serde_json::Error),
    /// A pattern of its schema is none.
    #[error("the pattern {0:?} of a schema can't be used")]
    Pattern(String),
    /// One of its rules can't be used.
    #[error("a rule of a schema can't be used: {0}")]
    Rule(String),
}

/// A schema with its rules.
pub(super) struct Definition {
    schema: Arc<Value>,
    patterns: HashMap<String, Regex>,
    rules: Rules,
}

impl Definition {
    pub(super) fn of(version: &CustomResourceDefinitionVersion) -> Result<Self, Broken> {
        let schema = version.schema.as_ref().and_then(|it| it.open_api_v3_schema.as_ref());
        let mut schema = serde_json::to_value(schema.ok_or(Broken::NoSchema)?)?;
        schema::drop_words(&mut schema);
        let schema = Arc::new(schema);
        let mut patterns = HashMap::new();
        schema::collect_patterns(&schema, &mut patterns)?;
        Ok(Self { rules: Rules::compile(&schema)?, schema, patterns })
    }

    /// The schema.
    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// Takes out what the schema does not know, and gives its paths.
    pub(super) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        schema::prune_object(&self.schema, object, &mut unknown);
        unknown
    }

    /// Fills in what the schema says where the object says nothing.
    pub(super) fn set_defaults(&self, object: &mut Value) {
        schema::set_defaults(&self.schema, object);
    }

    /// What is wrong with `object`. Rules that compare see `old`.
    pub(super) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = self.check_schema(object);
        if errors.iter().any(|error| error.fault.blocks_rules()) {
            errors.push(FieldError::of_value(
                "",
                super::answer::Fault::Invalid,
                &Value::Null,
                "some validation rules were not checked because the object was invalid; correct the \
                 existing errors to complete validation",
            ));
        } else {
            errors.extend(self.rules.check(object, old));
        }
        errors
    }

    /// What is wrong with the status, of which nothing else changed. There are no rules about it.
    pub(super) fn check_status(&self, object: &Value) -> Vec<FieldError> {
        let mut checker = schema::Checker::new(&self.patterns);
        if let (Some(schema), Some(status)) =
            (self.schema.pointer("/properties/status"), object.get("status"))
        {
            checker.check(schema, status, "status");
        }
        checker.errors
    }

    fn check_schema(&self, object: &Value) -> Vec<FieldError> {
        let mut checker = schema::Checker::new(&self.patterns);
        checker.check(&self.schema, object, "");
        checker.errors
    }
}

#[cfg(test)]
mod tests;
