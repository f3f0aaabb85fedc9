//! What runs sources: rendered, left alone when nothing changed, put right, and taken away.

use super::*;
use crate::function::plan::Verb;

fn template() -> PodTemplate {
    PodTemplate::parse(
        r#"{
            "metadata": {"labels": {"app.kubernetes.io/part-of": "rouse"}},
            "spec": {
                "serviceAccountName": "rouse-source",
                "containers": [{"name": "source", "image": "i", "volumeMounts": []}]
            }
        }"#,
    )
    .unwrap()
}

fn source(spec: &Value) -> ValidatedSource {
    let trigger = serde_json::from_value(json!({
        "apiVersion": "rouse.dev/v1alpha1",
        "kind": "Trigger",
        "metadata": {"namespace": "shop", "name": "t", "uid": "u"},
        "spec": spec,
    }));
    ValidatedSource::of(&trigger.unwrap()).unwrap().unwrap()
}

fn key(name: &str, key: &str) -> SecretKey {
    SecretKey { name: name.into(), key: key.into() }
}

fn seen(kind: ChildKind, write: &Write) -> Option<SeenChild> {
    (write.kind == kind).then(|| SeenChild {
        uid: format!("uid-{}", kind.as_str()),
        resource_version: "7".into(),
        leaving: false,
        body: write.body.clone(),
    })
}

fn seen_after(plan: &SourcePlan) -> SeenChildren {
    let of = |kind| plan.writes.iter().find_map(|write| seen(kind, write));
    SeenChildren {
        service_account: of(ChildKind::ServiceAccount),
        role_binding: of(ChildKind::RoleBinding),
        deployment: of(ChildKind::Deployment),
    }
}

#[test]
fn every_secret_that_a_trigger_names_is_found() {
    let at = |name: &str| json!({"name": "s", "key": name});
    let found = |spec: Value| {
        let keys = secrets_of(&source(&spec)).into_iter();
        keys.map(|key| key.key).collect::<Vec<_>>()
    };
    assert_eq!(
        found(json!({
            "function": "f",
            "nats": {
                "servers": ["nats://n"], "subject": {"name": "a"},
                "credentials": {"user": at("user"), "password": at("password")},
                "tls": {"ca": at("ca"), "certificate": at("certificate"), "key": at("key")},
            },
            "delivery": {"deadLetter": {"nats": {
                "servers": ["nats://n"], "stream": "D", "subject": "d",
                "credentials": {"token": at("letters")},
            }}},
        })),
        ["ca", "certificate", "key", "letters", "password", "user"]
    );
    assert_eq!(
        found(json!({"function": "f", "s3": {
            "endpoint": "http://minio:9000", "bucket": "uploads",
            "credentials": {"accessKeyId": at("id"), "secretAccessKey": at("secret")},
            "notifications": {"host": "a.example.com", "token": at("token")},
        }})),
        ["id", "secret", "token"]
    );
    let webhook = |secret: Value| {
        json!({"function": "f", "webhook": {
            "host": "a.example.com", "sender": "GitHub", "secret": secret,
        }})
    };
    assert_eq!(found(webhook(at("hook"))), ["hook"]);
    assert_eq!(found(webhook(at("..hook"))), [""; 0], "no Secret has such a key");
}

#[test]
fn they_are_rendered() {
    let secrets = BTreeSet::from([key("db", "password"), key("db", "user"), key("hook", "key")]);
    let plan = decide_children("shop", Some(&secrets), &SeenChildren::default(), &template());
    assert!(plan.writes.iter().all(|write| write.verb == Verb::Create));
    let bodies: Vec<&Value> = plan.writes.iter().map(|write| &write.body).collect();
    insta::assert_yaml_snapshot!(bodies);
}

#[test]
fn nothing_is_done_when_nothing_changed() {
    let secrets = BTreeSet::from([key("db", "password")]);
    let decide =
        |secrets, seen: &SeenChildren| decide_children("shop", Some(secrets), seen, &template());
    let mut there = seen_after(&decide(&secrets, &SeenChildren::default()));
    assert!(decide(&secrets, &there).is_empty());
    let other = BTreeSet::from([key("db", "password"), key("hook", "key")]);
    let plan = decide(&other, &there);
    let [write] = &plan.writes[..] else { panic!("{plan:?}") };
    assert_eq!((write.kind, write.verb), (ChildKind::Deployment, Verb::Apply));
    assert_eq!(write.body["metadata"]["uid"], "uid-Deployment");
    there.deployment.as_mut().unwrap().body["spec"]["replicas"] = json!(0);
    assert_eq!(decide(&secrets, &there).writes.len(), 1, "drift is put right");
}

#[test]
fn they_go_with_the_last_trigger() {
    let secrets = BTreeSet::new();
    let plan = decide_children("shop", Some(&secrets), &SeenChildren::default(), &template());
    let mut there = seen_after(&plan);
    let plan = decide_children("shop", None, &there, &template());
    let kinds: Vec<ChildKind> = plan.deletions.iter().map(|deletion| deletion.kind).collect();
    assert_eq!(kinds, [ChildKind::Deployment, ChildKind::RoleBinding, ChildKind::ServiceAccount]);
    there.deployment.as_mut().unwrap().leaving = true;
    assert_eq!(decide_children("shop", None, &there, &template()).deletions.len(), 2);
    assert!(decide_children("shop", None, &SeenChildren::default(), &template()).is_empty());
}

#[test]
fn a_template_needs_the_container() {
    assert!(matches!(PodTemplate::parse("{"), Err(TemplateMistake::Json(_))));
    assert!(matches!(PodTemplate::parse("{}"), Err(TemplateMistake::Container)));
}
