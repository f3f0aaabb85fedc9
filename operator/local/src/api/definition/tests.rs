//! The fixtures of the rules, which the end-to-end tests put before a real API server, put before this
//! one: both must agree.

use rouse_crds::v1alpha1::crds;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::api::admit::{self, Unknown};
use crate::api::answer::Refusal;
use crate::api::kinds::{Kind, Kinds};

#[derive(Deserialize)]
struct Refused {
    case: String,
    rule: String,
    message: String,
    object: Value,
}

fn kind_of<'a>(kinds: &'a Kinds, object: &Value) -> &'a Kind {
    let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
    kinds.find("rouse.dev", "v1alpha1", &plural).unwrap()
}

fn admitted(kinds: &Kinds, object: &Value) -> Result<Value, Refusal> {
    let kind = kind_of(kinds, object);
    let mut object = object.clone();
    admit::read_type(kind, &mut object)?;
    admit::shape(kind, &mut object, Unknown::Refuse)?;
    admit::check_new(kind, &object)?;
    Ok(object)
}

#[test]
fn what_the_api_server_refuses_is_refused_with_its_message() {
    let kinds = Kinds::new(&crds()).unwrap();
    let fixtures = include_str!("../../../../../crds/tests/fixtures/refused.yaml");
    let cases: Vec<Refused> = serde_saphyr::from_str(fixtures).unwrap();
    assert!(cases.len() >= 80);
    for Refused { case, rule, message, object } in cases {
        match admitted(&kinds, &object) {
            Ok(_) => panic!("{case}: was accepted"),
            Err(refusal) => {
                assert!(refusal.message.contains(&message), "{case}: {}", refusal.message);
                assert_eq!(refusal.code, 422, "{case}");
                // A rule alone refuses it, or the schema alone.
                let by_schema = refusal.message.contains("were not checked");
                assert!(rule != "cel" || !by_schema, "{case}: {}", refusal.message);
            }
        }
    }
}

#[test]
fn what_the_api_server_accepts_is_accepted() {
    let kinds = Kinds::new(&crds()).unwrap();
    let fixtures = include_str!("../../../../../crds/tests/fixtures/accepted.yaml");
    let objects: Vec<Value> = serde_saphyr::from_str(fixtures).unwrap();
    assert!(!objects.is_empty());
    for object in objects {
        if let Err(refusal) = admitted(&kinds, &object) {
            panic!("{object}: {}", refusal.message);
        }
    }
}

fn function(spec: &Value) -> Value {
    json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "metadata": {"name": "a"},
        "spec": spec,
    })
}

#[test]
fn messages_are_worded_as_the_api_server_words_them() {
    let kinds = Kinds::new(&crds()).unwrap();
    let refused = |spec: Value| admitted(&kinds, &function(&spec)).unwrap_err().message;
    assert_eq!(
        refused(json!({"image": "a", "port": 0})),
        "Function.rouse.dev \"a\" is invalid: spec.port: Invalid value: 0: spec.port in body should \
         be greater than or equal to 1"
    );
    assert_eq!(
        refused(json!({"image": "a", "scaling": {"min": 3, "max": 2}})),
        "Function.rouse.dev \"a\" is invalid: spec.scaling.min: Invalid value: scaling.min must not \
         be greater than scaling.max"
    );
    assert_eq!(
        refused(json!({"image": "a", "scaling": {"idle": {"after": "169h"}}})),
        "Function.rouse.dev \"a\" is invalid: spec.scaling.idle.after: Invalid value: \"169h\": \
         scaling.idle.after must be between 1s and 168h"
    );
    assert_eq!(
        refused(json!({"port": 80})),
        "Function.rouse.dev \"a\" is invalid: <nil>: Invalid value: a Function needs exactly one of \
         spec.image (a container image) and spec.source (code)"
    );
    assert_eq!(
        refused(json!({"image": "a", "protocol": "http3"})),
        "Function.rouse.dev \"a\" is invalid: [spec.protocol: Unsupported value: \"http3\": \
         supported values: \"http1\", \"h2c\", <nil>: Invalid value: null: some validation rules \
         were not checked because the object was invalid; correct the existing errors to complete \
         validation]"
    );
    assert_eq!(
        refused(json!({"image": 5})),
        "Function.rouse.dev \"a\" is invalid: [spec.image: Invalid value: \"integer\": spec.image in body must \
         be of type string: \"integer\", <nil>: Invalid value: null: some validation rules were not \
         checked because the object was invalid; correct the existing errors to complete validation]"
    );
    let unknown = refused(json!({"image": "a", "imag": "b"}));
    assert!(unknown.contains("strict decoding error: unknown field \"spec.imag\""), "{unknown}");
}

#[test]
fn defaults_are_filled_in_and_unknown_fields_left_out() {
    let kinds = Kinds::new(&crds()).unwrap();
    let sent = function(&json!({
        "image": "a", "nonsense": 1, "template": {"spec": {"anything": {"goes": true}}},
    }));
    let kind = kind_of(&kinds, &sent);
    let mut object = sent.clone();
    let told = admit::shape(kind, &mut object, Unknown::Warn).unwrap();
    assert_eq!(told, ["unknown field \"spec.nonsense\""]);
    assert_eq!(object["spec"]["port"], 8080);
    assert_eq!(object["spec"]["scaling"]["idle"]["policy"], "Fixed");
    assert_eq!(object["spec"]["template"], sent["spec"]["template"]);
    assert_eq!(object["spec"].get("nonsense"), None);
    admit::check_new(kind, &object).unwrap();
}

/// Every reader has a type for metadata, and would fail at the whole list.
#[test]
fn metadata_is_checked_and_whole_numbers_are_whole() {
    let kinds = Kinds::new(&crds()).unwrap();
    let with = |metadata: Value| {
        let mut function = function(&json!({"image": "a", "port": 80.0}));
        function["metadata"] = metadata;
        admitted(&kinds, &function)
    };
    for (metadata, said) in [
        (json!({"name": "a", "labels": {"version": 1}}), "metadata.labels.version: Invalid value"),
        (
            json!({"name": "a", "labels": {"version": "a b"}}),
            "metadata.labels.version: Invalid value",
        ),
        (
            json!({"name": "a", "annotations": {"x.y/z": ["a"]}}),
            "metadata.annotations.x.y/z: Invalid",
        ),
        (json!({"name": "a", "label": {}}), "unknown field \"metadata.label\""),
        (json!({"name": "a", "finalizers": "x"}), "metadata: Invalid value"),
    ] {
        let told = with(metadata).unwrap_err().message;
        assert!(told.contains(said), "{told}");
    }
    let taken = with(json!({"name": "a", "labels": {"a/b": "c_1"}, "annotations": null})).unwrap();
    assert_eq!(taken["spec"]["port"], 80);
    serde_json::from_value::<rouse_crds::v1alpha1::Function>(taken).unwrap();
}

/// What a change may do is asked of rules that compare.
#[test]
fn rules_that_compare_see_what_was_there() {
    let schema = json!({
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {
            "type": "integer",
            "x-kubernetes-validations": [{
                "rule": "self >= oldSelf", "messageExpression": "'not below ' + string(oldSelf)",
            }],
        }}}},
    });
    let rules = Rules::compile(&Arc::new(schema)).unwrap();
    let object = |size: i64| json!({"spec": {"size": size}});
    assert!(rules.check(&object(1), None).is_empty());
    assert!(rules.check(&object(3), Some(&object(2))).is_empty());
    let told = rules.check(&object(1), Some(&object(2)));
    let [error] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((error.path.as_str(), error.told.as_str()), ("spec.size", "1: not below 2"));
    let broken = json!({"x-kubernetes-validations": [{"rule": "self.("}]});
    assert!(matches!(Rules::compile(&Arc::new(broken)), Err(Broken::Rule(_))));
}
