use serde_json::json;

use super::*;
use crate::function::fixtures::{HOST, function, runtimes, source};

fn full() -> ValidatedFunction {
    function(json!({
        "port": 9000,
        "command": ["/app"],
        "args": ["--serve"],
        "env": [
            {"name": "MODE", "value": "$(PORT)"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
        "timeouts": {"request": "1m"},
        "template": {
            "metadata": {
                "annotations": {"team": "blue"},
                "labels": {"team": "blue", "rouse.dev/revision": "forged"},
            },
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "serviceAccountName": "reader",
                "someFieldOfTomorrow": {"a": [1]},
                "volumes": [{"name": "cache", "emptyDir": {}}],
                "initContainers": [{"name": "fetch", "image": "registry.example/fetch:1"}],
                "containers": [
                    {"name": "proxy", "image": "registry.example/proxy:1"},
                    {
                        "name": "function",
                        "image": "registry.example/forged:1",
                        "command": ["/forged"],
                        "env": [{"name": "PORT", "value": "1"}, {"name": "MODE", "value": "x"},
                            {"name": "EXTRA", "value": "y"}],
                        "envFrom": [{"secretRef": {"name": "extra"}}],
                        "ports": [
                            {"name": "http", "containerPort": 1},
                            {"containerPort": 9000},
                            {"name": "metrics", "containerPort": 9100},
                        ],
                        "resources": {"requests": {"cpu": "1", "memory": "32Mi"}},
                        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                        "livenessProbe": {"httpGet": {"port": "http"}},
                        "tty": null,
                    },
                ],
            },
        },
    }))
}

fn owner() -> Owner {
    Owner::of(&full())
}

#[test]
fn template_of_the_smallest_function() {
    insta::assert_yaml_snapshot!(
        render_template(&function(json!({})), "0123456789", &runtimes()).unwrap()
    );
}

#[test]
fn template_laid_over_the_users() {
    insta::assert_yaml_snapshot!(render_template(&full(), "0123456789", &runtimes()).unwrap());
}

#[test]
fn deployment() {
    insta::assert_yaml_snapshot!(render_deployment(
        &owner(),
        "0123456789",
        &json!({"spec": "the template"})
    ));
}

#[test]
fn record() {
    let (workload, template) = (json!("the workload"), json!("the template"));
    let made = Made { workload: &workload, template: &template, code: None };
    insta::assert_yaml_snapshot!(render_record(&owner(), "0123456789", made, 3));
}

#[test]
fn service() {
    insta::assert_yaml_snapshot!(render_service(&owner(), HOST));
}

#[test]
fn no_template_brings_a_claim_along() {
    let annotations = json!({"rouse.dev/claim": "somebody", "mine": "x"});
    let template = json!({"template": {"metadata": {"annotations": annotations}}});
    let template = render_template(&function(template), "r", &runtimes()).unwrap();
    assert_eq!(template["metadata"]["annotations"], json!({"mine": "x"}));
}

#[test]
fn the_users_value_wins_over_a_default() {
    let template = render_template(
        &function(json!({"template": {"spec": {
            "automountServiceAccountToken": true,
            "enableServiceLinks": true,
            "terminationGracePeriodSeconds": 7,
            "securityContext": {"seccompProfile": {"type": "Unconfined"}},
            "containers": [{
                "name": "function", "securityContext": {"allowPrivilegeEscalation": true},
            }],
        }}})),
        "r",
        &runtimes(),
    )
    .unwrap();
    let at = |path: &str| template.pointer(path).cloned().unwrap_or_default();
    assert_eq!(at("/spec/automountServiceAccountToken"), json!(true));
    assert_eq!(at("/spec/enableServiceLinks"), json!(true));
    assert_eq!(at("/spec/terminationGracePeriodSeconds"), json!(7));
    assert_eq!(at("/spec/securityContext/seccompProfile/type"), json!("Unconfined"));
    assert_eq!(at("/spec/containers/0/securityContext/allowPrivilegeEscalation"), json!(true));
}

#[test]
fn what_the_api_server_would_refuse_is_no_default() {
    for security in [json!({"privileged": true}), json!({"capabilities": {"add": ["SYS_ADMIN"]}})] {
        let template = render_template(
            &function(json!({"template": {"spec": {
                "containers": [{"name": "function", "securityContext": security}],
            }}})),
            "r",
            &runtimes(),
        )
        .unwrap();
        assert_eq!(template.pointer("/spec/containers/0/securityContext"), Some(&security));
    }
    let windows = function(json!({"template": {"spec": {"os": {"name": "windows"}}}}));
    let template = render_template(&windows, "r", &runtimes()).unwrap();
    assert_eq!(template.pointer("/spec/securityContext"), None);
    assert_eq!(template.pointer("/spec/containers/0/securityContext"), None);
}

#[test]
fn a_template_of_the_wrong_shape_is_named() {
    for (template, message) in [
        (json!({"spec": "x"}), "spec.template.spec must be an object"),
        (json!({"metadata": []}), "spec.template.metadata must be an object"),
        (json!({"metadata": {"labels": 1}}), "spec.template.metadata.labels must be an object"),
        (json!({"spec": {"containers": {}}}), "spec.template.spec.containers must be a list"),
        (
            json!({"spec": {"containers": ["x"]}}),
            "spec.template.spec.containers must be a list of containers",
        ),
        (
            json!({"spec": {"containers": [{"name": "function", "env": {}}]}}),
            "spec.template.spec.containers[function].env must be a list",
        ),
        (
            json!({"spec": {"containers": [{"name": "function", "ports": 1}]}}),
            "spec.template.spec.containers[function].ports must be a list",
        ),
    ] {
        let function = function(json!({"template": template}));
        let error = render_template(&function, "r", &runtimes()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn pods_tell_a_protocol_other_than_http1() {
    let annotations = |protocol: &str| {
        let function = function(json!({"protocol": protocol}));
        let template = render_template(&function, "0123456789", &runtimes());
        template.unwrap().pointer("/metadata/annotations").cloned()
    };
    assert_eq!(annotations("http1"), None);
    assert_eq!(annotations("h2c"), Some(json!({"rouse.dev/protocol": "h2c"})));
}

#[test]
fn template_of_a_function_with_source() {
    let spec = json!({
        "args": ["--verbose"],
        "resources": {"limits": {"memory": "256Mi"}},
        "timeouts": {"request": "1500ms", "activation": "20s"},
        "env": [{"name": "MODE", "value": "x"}],
        "template": {"metadata": {"annotations": {"rouse.dev/code": "forged"}}, "spec": {
            "containers": [{
                "name": "function",
                "command": ["/forged"],
                "env": [{"name": "ROUSE_CODE_URL", "value": "http://forged"}],
                "ports": [{"name": "rouse-control", "containerPort": 1}],
            }],
        }},
    });
    let source = source(spec, json!({"files": {"app.py": "x"}, "processes": 4}));
    insta::assert_yaml_snapshot!(render_template(&source, "0123456789", &runtimes()).unwrap());
}

#[test]
fn what_is_called_and_fetched_is_taken_literally() {
    let url = "https://x/$(PATH)";
    let archive = json!({"url": url, "sha256": "a".repeat(64)});
    let more = json!({"handler": "a.B$C::d", "archive": archive, "contract": "Http"});
    let function = source(json!({"command": ["java", "$(ROUSE_HANDLER)"]}), more);
    let template = render_template(&function, "r", &runtimes()).unwrap();
    let container = &template["spec"]["containers"][0];
    let value = |name: &str| {
        let env = container["env"].as_array().unwrap();
        env.iter().find(|variable| variable["name"] == name).map(|found| found["value"].clone())
    };
    assert_eq!(value("ROUSE_HANDLER"), Some(json!("a.B$$C::d")));
    assert_eq!(value("ROUSE_CODE_URL"), Some(json!("https://x/$$(PATH)")));
    assert_eq!(value("ROUSE_PROCESSES"), None);
    assert_eq!(container["args"], json!(["java", "$(ROUSE_HANDLER)"]));
    assert_eq!(template["metadata"]["annotations"]["rouse.dev/code"], "fetched");
}

#[test]
fn code_that_no_runtime_is_for_says_what_to_do() {
    let files = json!({"files": {"a": "x"}});
    let with = |more: Value| {
        let mut all = files.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let function = source(json!({}), all);
        render_template(&function, "r", &runtimes()).unwrap_err()
    };
    for (more, reason, said) in [
        (json!({"runtime": "cobol"}), "RuntimeUnknown", "only provided, python3.11"),
        (json!({"contract": "FunctionsFramework"}), "CommandMissing", "set spec.command"),
        (json!({"handler": null}), "HandlerMissing", "needs spec.source.handler"),
    ] {
        let error = with(more);
        assert_eq!(error.reason(), reason);
        assert!(error.to_string().contains(said), "{error}");
    }
    let own = json!({"contract": "Azure", "handler": null, "files": {"host.json": "{}"}});
    let template = render_template(&source(json!({}), own), "r", &runtimes()).unwrap();
    assert_eq!(template["spec"]["containers"][0]["args"], json!([]), "it says so itself");
}
