use serde_json::json;

use super::*;
use crate::function::fixtures::{carry_out, function, report, runtimes, site, source};

/// A Function in a cluster where every plan is carried out.
struct World {
    function: ValidatedFunction,
    status: FunctionStatus,
    service: SeenService,
    revisions: BTreeMap<String, SeenRevision>,
    report: Option<FunctionReport>,
    report_live: bool,
    code: Option<Code>,
}

impl World {
    fn new() -> Self {
        Self {
            function: function(json!({})),
            status: FunctionStatus::default(),
            service: SeenService::Absent,
            revisions: BTreeMap::new(),
            report: None,
            report_live: true,
            code: None,
        }
    }

    fn observed(&self) -> Observed<'_> {
        Observed {
            status: Some(&self.status),
            service: self.service.clone(),
            revisions: self.revisions.clone(),
            report: self.report.as_ref(),
            report_live: self.report_live,
            code: self.code.as_ref(),
        }
    }

    fn plan(&self) -> Plan {
        decide(&self.function, &self.observed(), site(&runtimes()))
    }

    /// Plans and carries out until nothing is left to do; the writes and deletions on the way.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..5 {
            let plan = self.plan();
            let writes = plan.service.iter().chain(
                plan.revisions
                    .iter()
                    .flat_map(|step| step.deployment.iter().chain(step.record.iter())),
            );
            let mut calls: Vec<String> = writes
                .map(|write| format!("{:?} {} {}", write.verb, write.kind.as_str(), write.name))
                .collect();
            calls.extend(
                plan.deletions
                    .iter()
                    .map(|gone| format!("Delete {} {}", gone.kind.as_str(), gone.name)),
            );
            carry_out(&plan, &mut self.service, &mut self.revisions);
            self.status.latest_created = Some(plan.outlook.newest.clone());
            self.status.latest_ready = plan.outlook.latest_ready.clone();
            if calls.is_empty() {
                return done;
            }
            done.extend(calls);
        }
        panic!("the plan never settles: {done:?}");
    }

    fn change(&mut self, image: &str) -> String {
        self.function = function(json!({"image": image}));
        revision_hash(&self.function.workload)
    }

    fn reported(&mut self, serving: &str, pods: &[(&str, u32, u32, u32)]) {
        self.report = Some(report(Some(serving), pods));
    }

    fn deployments(&self) -> Vec<&str> {
        self.revisions
            .iter()
            .filter(|(_, seen)| seen.deployment.is_some())
            .map(|(revision, _)| revision.as_str())
            .collect()
    }
}

#[test]
fn a_new_function_gets_its_children_once() {
    let mut world = World::new();
    let revision = revision_hash(&world.function.workload);
    assert_eq!(
        world.settle(),
        [
            "Create Service hello".to_owned(),
            format!("Create Deployment hello-{revision}"),
            format!("Create ControllerRevision hello-{revision}"),
        ]
    );
    assert_eq!(world.settle(), [""; 0]);
    let plan = world.plan();
    assert_eq!(plan.outlook.latest_ready, None);
    assert!(plan.outlook.newest_runs);
}

#[test]
fn deployments_are_created_at_zero_and_applied_without_replicas() {
    let mut world = World::new();
    let plan = world.plan();
    let create = plan.revisions[0].deployment.as_ref().unwrap();
    assert_eq!(create.body.pointer("/spec/replicas"), Some(&json!(0)));
    world.settle();
    for seen in world.revisions.values_mut() {
        let body = &mut seen.deployment.as_mut().unwrap().child.body;
        *body.pointer_mut("/spec/replicas").unwrap() = json!(7);
        assert!(covers(body, body));
    }
    assert_eq!(world.settle(), [""; 0], "the scaler's replicas are no drift");
    for seen in world.revisions.values_mut() {
        let body = &mut seen.deployment.as_mut().unwrap().child.body;
        *body.pointer_mut("/spec/template/spec/containers/0/image").unwrap() = json!("other");
    }
    let plan = world.plan();
    let apply = plan.revisions[0].deployment.as_ref().unwrap();
    assert_eq!(apply.verb, Verb::Apply);
    assert_eq!(apply.body.pointer("/spec/replicas"), None);
    let uid = format!("uid-of-Deployment-{}", apply.name);
    assert_eq!(apply.body.pointer("/metadata/uid"), Some(&json!(uid)));
}

#[test]
fn the_traffic_moves_when_the_owner_says_so_and_the_old_revision_goes_when_drained() {
    let mut world = World::new();
    let old = revision_hash(&world.function.workload);
    world.settle();
    world.reported(&old, &[(&old, 1, 1, 3)]);
    world.settle();
    assert_eq!(world.plan().outlook.latest_ready.as_deref(), Some(&*old));
    let new = world.change("registry.example/hello:2");
    assert_eq!(world.settle().len(), 2, "a Deployment and a record");
    assert_eq!(world.plan().outlook.latest_ready.as_deref(), Some(&*old));

    world.reported(&new, &[(&old, 0, 0, 1), (&new, 1, 1, 0)]);
    assert_eq!(world.settle(), [""; 0], "it still answers a request");
    assert_eq!(world.plan().outlook.latest_ready.as_deref(), Some(&*new));
    world.reported(&new, &[(&old, 0, 0, 0), (&new, 1, 1, 0)]);
    world.revisions.get_mut(&old).unwrap().deployment.as_mut().unwrap().at_zero = false;
    assert_eq!(world.settle(), [""; 0], "it still has pods");
    world.revisions.get_mut(&old).unwrap().deployment.as_mut().unwrap().at_zero = true;
    world.report_live = false;
    assert_eq!(world.settle(), [""; 0], "nobody is there to say that it is drained");
    world.report_live = true;
    assert_eq!(world.settle(), [format!("Delete Deployment hello-{old}")]);
    assert!(world.revisions[&old].record.is_some(), "the record stays for a change back");
}

#[test]
fn a_change_back_uses_the_stored_render() {
    let mut world = World::new();
    let first = revision_hash(&world.function.workload);
    world.settle();
    world.reported(&first, &[]);
    world.settle();
    let second = world.change("registry.example/hello:2");
    world.settle();
    world.reported(&second, &[]);
    world.settle();
    assert_eq!(world.deployments(), [second.as_str()]);
    let stored = world.revisions.get_mut(&first).unwrap().record.as_mut().unwrap();
    stored.template["spec"]["dnsPolicy"] = json!("as an older Rouse rendered it");
    world.function = function(json!({}));
    let plan = world.plan();
    let create = plan.revisions[0].deployment.as_ref().unwrap();
    assert_eq!(
        create.body.pointer("/spec/template/spec/dnsPolicy"),
        Some(&json!("as an older Rouse rendered it"))
    );
    assert_eq!(plan.revisions[0].record, None);
}

#[test]
fn a_candidate_that_never_served_goes_when_the_spec_moves_on() {
    let mut world = World::new();
    let good = revision_hash(&world.function.workload);
    world.settle();
    world.reported(&good, &[]);
    world.settle();
    let bad = world.change("registry.example/broken");
    world.settle();
    world.change("registry.example/hello:3");
    let done = world.settle();
    assert!(done.contains(&format!("Delete Deployment hello-{bad}")), "{done:?}");
    assert!(world.deployments().contains(&good.as_str()));
}

#[test]
fn a_candidate_stays_while_its_successor_has_no_deployment() {
    let mut world = World::new();
    let good = revision_hash(&world.function.workload);
    world.settle();
    world.reported(&good, &[]);
    world.settle();
    let candidate = world.change("registry.example/hello:2");
    world.settle();
    world.function = function(json!({"template": {"spec": "wrong"}}));
    let plan = world.plan();
    assert_eq!(plan.deletions, []);
    assert_eq!(plan.outlook.former, Some(candidate));
    assert!(plan.outlook.template_error.is_some());
    assert_eq!(plan.revisions.len(), 1, "the serving revision is looked after all the same");
}

#[test]
fn a_lost_deployment_of_the_serving_revision_comes_back() {
    let mut world = World::new();
    let old = revision_hash(&world.function.workload);
    world.settle();
    world.reported(&old, &[]);
    world.settle();
    world.change("registry.example/hello:2");
    world.settle();
    world.revisions.get_mut(&old).unwrap().deployment = None;
    assert_eq!(world.settle(), [format!("Create Deployment hello-{old}")]);
}

#[test]
fn an_unknown_revision_never_takes_the_traffic() {
    let mut world = World::new();
    world.settle();
    world.reported("ffffffffff", &[]);
    let plan = world.plan();
    assert_eq!(plan.outlook.latest_ready, None);
    assert_eq!(plan.deletions, []);
}

#[test]
fn the_last_ten_records_are_kept() {
    let mut world = World::new();
    let mut all = Vec::new();
    for version in 0..15 {
        let revision = world.change(&format!("registry.example/hello:{version}"));
        world.settle();
        world.reported(&revision, &[]);
        world.settle();
        all.push(revision);
    }
    let kept: BTreeSet<&String> = world
        .revisions
        .iter()
        .filter(|(_, seen)| seen.record.is_some())
        .map(|(revision, _)| revision)
        .collect();
    assert_eq!(kept, all.iter().skip(15 - KEPT_RECORDS).collect());
    assert_eq!(world.deployments(), [all.last().unwrap().as_str()]);
}

#[test]
fn a_taken_name_is_never_written() {
    for (service, holder) in [
        (SeenService::Foreign, NameHolder::Stranger),
        (SeenService::Predecessor, NameHolder::Predecessor),
    ] {
        let mut world = World::new();
        world.service = service;
        let plan = world.plan();
        assert_eq!(plan.service, None);
        assert_eq!(plan.outlook.name, holder);
        assert!(plan.revisions[0].deployment.is_some());
    }
}

#[test]
fn what_is_being_deleted_is_left_to_go() {
    let mut world = World::new();
    world.settle();
    if let SeenService::Ours(child) = &mut world.service {
        child.leaving = true;
        child.body = json!({});
    }
    for seen in world.revisions.values_mut() {
        let child = &mut seen.deployment.as_mut().unwrap().child;
        child.leaving = true;
        child.body = json!({});
    }
    let plan = world.plan();
    assert_eq!(plan.service, None);
    assert_eq!(plan.revisions[0].deployment, None);
    assert!(!plan.outlook.newest_runs);
}

#[test]
fn a_record_keeps_the_code_and_is_not_made_without_it() {
    let mut world = World::new();
    let text = json!({"files": {"app.py": "x"}});
    world.function = source(json!({}), text.clone());
    let revision = revision_hash(&world.function.workload);
    let plan = world.plan();
    assert!(plan.revisions[0].deployment.is_some());
    assert_eq!(plan.revisions[0].record, None, "the code is not at hand");

    let mut api = json!({"runtime": "python3.11"});
    api["files"] = text["files"].clone();
    let api = serde_json::from_value(api).unwrap();
    world.code = Code::of(&api).unwrap();
    let plan = world.plan();
    let record = plan.revisions[0].record.as_ref().unwrap();
    assert_eq!(Code::of_record(&record.body["data"]), world.code);
    world.settle();
    world.code = None;
    assert_eq!(world.settle(), [""; 0], "what is kept is not asked for again");

    // An upgrade with another table of runtimes, and one without that runtime.
    let mut other = runtimes();
    other.0.get_mut("python3.11").unwrap().image = "rouse.dev/runtime-python3.11:v2".into();
    for table in [other, Runtimes::default()] {
        let plan = decide(&world.function, &world.observed(), site(&table));
        assert_eq!(plan.outlook.newest, revision);
        assert_eq!(plan.outlook.template_error, None);
        assert!(plan.revisions.iter().all(|step| step.deployment.is_none()));
    }
}

#[test]
fn code_that_can_not_be_run_gets_no_deployment_and_the_old_revision_stays() {
    let mut world = World::new();
    world.settle();
    let old = revision_hash(&world.function.workload);
    world.reported(&old, &[(&old, 0, 0, 0)]);
    world.settle();
    let text = json!({"files": {"a": "x"}, "runtime": "cobol"});
    world.function = source(json!({}), text);
    world.settle();
    assert_eq!(world.deployments(), [old.as_str()]);
    let plan = world.plan();
    assert_eq!(plan.outlook.latest_ready, Some(old));
    let error = plan.outlook.template_error.unwrap();
    assert_eq!(error.reason(), "RuntimeUnknown");
}

#[test]
fn code_elsewhere_needs_no_code_here() {
    let archive = json!({"url": "https://x/a.zip", "sha256": "a".repeat(64)});
    let mut world = World::new();
    world.function = source(json!({}), json!({"archive": archive}));
    assert!(!needs_code(&world.function, &world.observed()));
    assert_eq!(world.settle().len(), 3);
    let text = json!({"files": {"app.py": "x"}});
    world.function = source(json!({}), text);
    assert!(needs_code(&world.function, &world.observed()));
}
