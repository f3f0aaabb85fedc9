//! What Rouse runs in namespaces of tenants: rendered, left alone when nothing changed, put right, and taken away.

use super::*;
use crate::function::plan::Verb;

fn template() -> PodTemplate {
    PodTemplate::parse(
        Resident::Source,
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

fn decide(secrets: Option<&BTreeSet<SecretKey>>, seen: &SeenChildren) -> ResidentPlan {
    let template = template();
    let wanted = secrets.map(|secrets| (&template, secrets));
    decide_children(Resident::Source, "shop", wanted, seen)
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

fn seen_after(plan: &ResidentPlan) -> SeenChildren {
    let of = |kind| plan.writes.iter().find_map(|write| seen(kind, write));
    SeenChildren {
        service_account: of(ChildKind::ServiceAccount),
        role_binding: of(ChildKind::RoleBinding),
        deployment: of(ChildKind::Deployment),
    }
}

#[test]
fn they_are_rendered() {
    let secrets = BTreeSet::from([key("db", "password"), key("db", "user"), key("hook", "key")]);
    let plan = decide(Some(&secrets), &SeenChildren::default());
    assert!(plan.writes.iter().all(|write| write.verb == Verb::Create));
    let bodies: Vec<&Value> = plan.writes.iter().map(|write| &write.body).collect();
    insta::assert_yaml_snapshot!(bodies);
}

#[test]
fn nothing_is_done_when_nothing_changed() {
    let secrets = BTreeSet::from([key("db", "password")]);
    let mut there = seen_after(&decide(Some(&secrets), &SeenChildren::default()));
    assert!(decide(Some(&secrets), &there).is_empty());
    let other = BTreeSet::from([key("db", "password"), key("hook", "key")]);
    let plan = decide(Some(&other), &there);
    let [write] = &plan.writes[..] else { panic!("{plan:?}") };
    assert_eq!((write.kind, write.verb), (ChildKind::Deployment, Verb::Apply));
    assert_eq!(write.body["metadata"]["uid"], "uid-Deployment");
    there.deployment.as_mut().unwrap().body["spec"]["replicas"] = json!(0);
    assert_eq!(decide(Some(&secrets), &there).writes.len(), 1, "drift is put right");
}

#[test]
fn they_go_with_the_last_trigger() {
    let secrets = BTreeSet::new();
    let plan = decide(Some(&secrets), &SeenChildren::default());
    let mut there = seen_after(&plan);
    let plan = decide(None, &there);
    let kinds: Vec<ChildKind> = plan.deletions.iter().map(|deletion| deletion.kind).collect();
    assert_eq!(kinds, [ChildKind::Deployment, ChildKind::RoleBinding, ChildKind::ServiceAccount]);
    there.deployment.as_mut().unwrap().leaving = true;
    assert_eq!(decide(None, &there).deletions.len(), 2);
    assert!(decide(None, &SeenChildren::default()).is_empty());
}

#[test]
fn a_template_needs_the_container() {
    let parse = |text| PodTemplate::parse(Resident::Source, text);
    assert!(matches!(parse("{"), Err(TemplateMistake::Json(_))));
    assert!(matches!(parse("{}"), Err(TemplateMistake::Container("source"))));
}

#[test]
fn a_keeper_is_followed_by_the_next_before_it_goes_and_needs_no_secrets() {
    let template = json!({"spec": {"containers": [{"name": "keeper", "image": "i"}]}});
    let template = PodTemplate::parse(Resident::Keeper, &template.to_string()).unwrap();
    let (secrets, seen) = (BTreeSet::new(), SeenChildren::default());
    let plan = decide_children(Resident::Keeper, "shop", Some((&template, &secrets)), &seen);
    let names: Vec<&str> = plan.writes.iter().map(|write| write.name.as_str()).collect();
    assert_eq!(names, ["rouse-keeper"; 3]);
    let deployment = &plan.writes[2].body["spec"];
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    assert_eq!(deployment["template"]["spec"]["volumes"], Value::Null);
}
