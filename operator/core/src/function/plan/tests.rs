use serde_json::json;

use super::*;
use crate::function::fixtures::{HOST, carry_out, function, report};

/// A Function in a cluster where every plan is carried out.
struct World {
    function: ValidatedFunction,
    status: FunctionStatus,
    service: SeenService,
    revisions: BTreeMap<String, SeenRevision>,
    report: Option<FunctionReport>,
    report_live: bool,
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
        }
    }

    fn plan(&self) -> Plan {
        let observed = Observed {
            status: Some(&self.status),
            service: self.service.clone(),
            revisions: self.revisions.clone(),
            report: self.report.as_ref(),
            report_live: self.report_live,
        };
        decide(&self.function, &observed, HOST)
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
