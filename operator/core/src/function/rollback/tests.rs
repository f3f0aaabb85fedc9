use proptest::prelude::*;

use super::*;
use crate::function::render::{Made, Owner, render_record};

fn object(spec: &Value) -> Value {
    json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
        "metadata": {"name": "f", "namespace": "n", "uid": "u"}, "spec": spec,
    })
}

/// The record that the controller writes of such a Function.
fn record(function: &Value, number: i64) -> Record {
    let function: Function = serde_json::from_value(function.clone()).unwrap();
    let valid = validate(&function).unwrap();
    let workload = serde_json::to_value(&valid.workload).unwrap();
    let code = function.spec.source.as_ref().and_then(|source| Code::of(source).unwrap());
    let made = Made { workload: &workload, template: &json!({}), code: code.as_ref() };
    let revision = revision_hash(&valid.workload);
    let body = render_record(&Owner::of(&valid), &revision, made, number);
    Record::read(&serde_json::from_value(body).unwrap()).unwrap()
}

fn bare(revision: &str, number: i64) -> Record {
    Record { revision: revision.into(), number, workload: json!({}), code: None }
}

#[test]
fn an_image_and_all_that_shapes_its_pod_comes_back_and_the_rest_stays() {
    let then = object(&json!({
        "image": "a:1", "port": 9000, "env": [{"name": "A", "value": "1"}], "command": ["x"],
        "resources": {"requests": {"memory": "64Mi"}}, "template": {"spec": {"priority": 1.5}},
        "timeouts": {"request": "10s"}, "scaling": {"max": 1},
    }));
    let now = object(&json!({
        "source": {"runtime": "r", "files": {"a": "b"}}, "args": ["y"], "scaling": {"max": 7},
        "timeouts": {"firstByte": "20s"},
    }));
    let restored = restore(&now, &record(&then, 1)).unwrap();
    let spec = &restored["spec"];
    for field in ["image", "port", "env", "command", "template"] {
        assert_eq!(spec[field], then["spec"][field], "{field}");
    }
    assert_eq!((&spec["scaling"]["max"], &spec["timeouts"]["request"]), (&json!(7), &json!("10s")));
    assert_eq!(spec["timeouts"]["firstByte"], "0s", "longer than request is refused");
    assert!(spec.get("source").is_none() && spec.get("args").is_none());
}

#[test]
fn code_comes_back_as_it_stood_there() {
    let now = object(&json!({"image": "a:1"}));
    let sources = [
        json!({"runtime": "python3.11", "contract": "Lambda", "handler": "a.b", "processes": 2,
               "files": {"a.py": "def b"}}),
        json!({"runtime": "provided", "archive": {"inline": "H4sIAAAA"}}),
        json!({"runtime": "provided", "archive": {"url": "https://x/y", "sha256": "0".repeat(64)}}),
        json!({"runtime": "r", "contract": "FunctionsFramework", "signature": "CloudEvent",
               "files": {"a": "b"}}),
    ];
    for source in sources {
        let then = object(&json!({"source": source, "timeouts": {"activation": "1500ms"}}));
        let record = record(&then, 1);
        let restored = restore(&now, &record).unwrap();
        for field in source.as_object().unwrap().keys().filter(|name| *name != "archive") {
            assert_eq!(restored["spec"]["source"][field], source[field], "{field}");
        }
        assert_eq!(restored["spec"]["timeouts"]["activation"], "1500ms");
        // Code that is lost can't be brought back.
        let lost = Record { code: None, ..record };
        let has_url = source["archive"].get("url").is_some();
        assert_eq!(restore(&now, &lost).is_ok(), has_url, "{source}");
    }
}

#[test]
fn the_one_that_serves_comes_before_the_one_before() {
    let records = [bare("a", 1), bare("b", 2), bare("c", 3)];
    let chosen = |current, serving, wanted| {
        choose(&records, current, serving, wanted).map(|record| record.revision.as_str())
    };
    assert_eq!(chosen("c", Some("a"), None), Ok("a"), "c does not come up");
    assert_eq!(chosen("c", Some("c"), None), Ok("b"));
    assert_eq!(chosen("b", Some("b"), None), Ok("a"), "not forth again");
    assert_eq!(chosen("refused", None, None), Ok("c"), "no record was made of it");
    assert_eq!(chosen("a", Some("a"), Some("c")), Ok("c"));
    let error = chosen("a", Some("a"), None).unwrap_err().to_string();
    assert!(error.contains("before a") && error.contains("c, b"), "{error}");
    let error = chosen("a", None, Some("x")).unwrap_err().to_string();
    assert!(error.contains("no revision x"), "{error}");
    assert_eq!(chosen("a", None, Some("a")), Err(NoWayBack::AlreadyThere("a".into())));
}

#[test]
fn a_record_of_another_version_is_not_guessed_at() {
    let now = object(&json!({"image": "a:1"}));
    let mut other = record(&object(&json!({"image": "b:1"})), 1);
    other.revision = "0000000000".into();
    assert!(matches!(restore(&now, &other), Err(NoWayBack::Differs { .. })));
    other.workload = json!("odd");
    assert!(matches!(restore(&now, &other), Err(NoWayBack::Unreadable(_))));
}

proptest! {
    #[test]
    fn whatever_was_written_comes_back(
        port in 1u16..8000,
        seconds in 1u64..86_400,
        files in prop::collection::btree_map("[a-z]{1,4}", ".{0,20}", 1..4),
        variables in prop::collection::btree_map("[A-Z]{1,3}", ".{0,9}", 0..4),
        is_code: bool,
    ) {
        let env: Vec<_> = variables.iter().filter(|(name, _)| *name != "PORT")
            .map(|(name, value)| json!({"name": name, "value": value})).collect();
        let mut spec = json!({"port": port, "env": env, "timeouts": {"request": format!("{seconds}s")}});
        if is_code {
            spec["source"] = json!({"runtime": "r", "files": files});
        } else {
            spec["image"] = json!("a:1");
        }
        let record = record(&object(&spec), 1);
        let restored = restore(&object(&json!({"image": "now:1"})), &record).unwrap();
        let function: Function = serde_json::from_value(restored).unwrap();
        prop_assert_eq!(current(&function).unwrap(), record.revision);
    }
}
