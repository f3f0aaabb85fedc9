//! The rules of the API, without a cluster: what they refuse, with which words, and what they
//! accept. The end-to-end tests put the same fixtures before a real API server.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is how a test fails")]

use kube::core::cel::validate_cel_schema;
use rouse_crds::v1alpha1::{Function, Trigger, crds};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Refused {
    case: String,
    rule: String,
    message: String,
    object: Value,
}

/// What the rules say to `object`, once the defaults are filled in as the API server does it.
fn violations(object: &Value) -> Result<(), String> {
    let result = match object["kind"].as_str() {
        Some("Function") => {
            let typed: Function = serde_json::from_value(object.clone()).unwrap();
            validate_cel_schema::<Function>(&serde_json::to_value(typed).unwrap(), None)
        }
        Some("Trigger") => {
            let typed: Trigger = serde_json::from_value(object.clone()).unwrap();
            validate_cel_schema::<Trigger>(&serde_json::to_value(typed).unwrap(), None)
        }
        other => panic!("unknown kind {other:?}"),
    };
    result.map_err(|errors| errors.to_string())
}

#[test]
fn every_rule_refuses_with_its_message() {
    let cases: Vec<Refused> =
        serde_saphyr::from_str(include_str!("fixtures/refused.yaml")).unwrap();
    assert!(cases.len() >= 20);
    for Refused { case, message, object, .. } in cases.iter().filter(|c| c.rule == "cel") {
        match violations(object) {
            Ok(()) => panic!("{case}: was accepted"),
            Err(said) => assert!(said.contains(message), "{case}: {said}"),
        }
    }
}

#[test]
fn good_specs_are_accepted() {
    let objects: Vec<Value> =
        serde_saphyr::from_str(include_str!("fixtures/accepted.yaml")).unwrap();
    for object in objects {
        assert_eq!(violations(&object), Ok(()), "{object}");
    }
}

#[test]
fn the_definitions_are_small_enough_for_client_side_apply() {
    for crd in crds() {
        let size = serde_json::to_vec(&crd).unwrap().len();
        assert!(size < 200_000, "{:?} has {size} bytes", crd.metadata.name);
    }
}

/// A list, string or map without a bound makes the cost of every rule unbounded.
#[test]
fn everything_has_a_bound_and_a_description() {
    for crd in crds() {
        let crd = serde_json::to_value(crd).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        check_bounds(crd.pointer(spec).unwrap(), "spec");
    }
}

fn check_bounds(schema: &Value, path: &str) {
    let has = |key: &str| schema.get(key).is_some();
    assert!(
        path == "spec" || path.ends_with("[]") || path.ends_with("{}") || has("description"),
        "{path}: no description"
    );
    if has("x-kubernetes-preserve-unknown-fields") || has("x-kubernetes-int-or-string") {
        return;
    }
    match schema["type"].as_str() {
        Some("string") => assert!(has("maxLength") || has("enum"), "{path}: no maxLength"),
        Some("integer") => assert!(has("minimum") && has("maximum"), "{path}: no range"),
        Some("array") => {
            assert!(has("maxItems"), "{path}: no maxItems");
            check_bounds(&schema["items"], &format!("{path}[]"));
        }
        Some("object") => {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                check_bounds(field, &format!("{path}.{name}"));
            }
            if let Some(values) = schema.get("additionalProperties") {
                assert!(has("maxProperties"), "{path}: no maxProperties");
                check_bounds(values, &format!("{path}{{}}"));
            }
        }
        _ => {}
    }
}
