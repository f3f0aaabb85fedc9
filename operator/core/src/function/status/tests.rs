use serde_json::json;

use super::*;
use crate::function::fixtures::{function, report};

const OLD: &str = "aaaaaaaaaa";
const NEW: &str = "bbbbbbbbbb";

/// A Function whose status is computed and written, again and again.
struct World {
    outlook: Option<Outlook>,
    trouble: Option<Trouble>,
    unrouted: Option<Trouble>,
    report: Option<FunctionReport>,
    status: Option<FunctionStatus>,
    second: i64,
}

impl World {
    fn new(newest: &str, latest_ready: Option<&str>) -> Self {
        let outlook = Outlook {
            newest: newest.into(),
            newest_runs: true,
            latest_ready: latest_ready.map(str::to_owned),
            former: None,
            template_error: None,
            name: NameHolder::Function,
        };
        Self {
            outlook: Some(outlook),
            trouble: None,
            unrouted: None,
            report: None,
            status: None,
            second: 0,
        }
    }

    fn compute(&mut self) -> FunctionStatus {
        self.second += 1;
        let function = function(json!({}));
        let trouble = self.trouble.clone().or_else(|| {
            self.outlook.as_ref().and_then(|outlook| trouble_of(outlook, &function.key))
        });
        let status = compute(&Situation {
            key: &function.key,
            generation: Some(4),
            exposure: Exposure::ClusterLocal,
            public_domain: Some("fn.example.org"),
            previous: self.status.as_ref(),
            outlook: self.outlook.as_ref(),
            trouble: trouble.as_ref(),
            unrouted: self.unrouted.as_ref(),
            report: self.report.as_ref(),
            learns: true,
            usage: None,
            now: Timestamp::from_second(self.second).unwrap(),
        });
        self.status = Some(status.clone());
        status
    }

    /// The conditions as `type=status/reason`, each followed by the second of its transition.
    fn conditions(&mut self) -> Vec<String> {
        let status = self.compute();
        status
            .conditions
            .iter()
            .map(|c| {
                let since = c.last_transition_time.0.as_second();
                format!("{}={}/{}@{since}", c.type_, c.status, c.reason)
            })
            .collect()
    }

    fn message(&self, kind: &str) -> String {
        let status = self.status.as_ref().unwrap();
        status.conditions.iter().find(|c| c.type_ == kind).unwrap().message.clone()
    }

    fn failed(&mut self, revision: &str, reason: &str) {
        let report = self.report.get_or_insert_with(|| report(None, &[]));
        report.last_error = Some(LastError {
            time: Time(Timestamp::from_second(99).unwrap()),
            revision: revision.into(),
            reason: reason.into(),
            message: "the image can't be pulled".into(),
        });
    }
}

#[test]
fn asleep_is_ready_and_not_active() {
    let mut world = World::new(OLD, None);
    assert_eq!(world.conditions(), ["Ready=True/Asleep@1", "Active=False/Asleep@1"]);
    world.report = Some(report(None, &[(OLD, 0, 0, 0)]));
    assert_eq!(world.conditions(), ["Ready=True/Asleep@1", "Active=False/Asleep@1"]);
    let status = world.status.unwrap();
    assert_eq!(status.observed_generation, Some(4));
    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(4)));
    assert_eq!(status.url.as_deref(), Some("http://hello.shop"));
    assert_eq!(status.public_url, None);
    assert_eq!((status.latest_created.as_deref(), status.latest_ready), (Some(OLD), None));
}

#[test]
fn a_waking_moves_only_what_flips() {
    let mut world = World::new(OLD, None);
    world.conditions();
    world.report = Some(report(None, &[(OLD, 1, 0, 0)]));
    assert_eq!(world.conditions(), ["Ready=True/Waking@1", "Active=False/Waking@1"]);
    world.report = Some(report(Some(OLD), &[(OLD, 2, 1, 5)]));
    world.outlook.as_mut().unwrap().latest_ready = Some(OLD.into());
    assert_eq!(world.conditions(), ["Ready=True/Serving@1", "Active=True/Serving@3"]);
    let status = world.status.as_ref().unwrap();
    assert_eq!((status.replicas, status.desired_replicas), (1, 2));
    world.report = Some(report(Some(OLD), &[(OLD, 0, 0, 0)]));
    assert_eq!(world.conditions(), ["Ready=True/Asleep@1", "Active=False/Asleep@4"]);
}

#[test]
fn nothing_changes_when_the_controller_starts_again() {
    let mut world = World::new(OLD, Some(OLD));
    let mut waking = report(Some(OLD), &[(OLD, 3, 2, 5)]);
    waking.last_activation = serde_json::from_value(json!({
        "requestedAt": "2026-01-01T00:00:00Z", "revision": OLD, "scaledMillis": 3,
    }))
    .unwrap();
    world.report = Some(waking);
    let before = world.compute();
    world.report = None;
    assert_eq!(world.compute(), before);
    let mut failing = World::new(NEW, Some(OLD));
    failing.failed(NEW, "ImagePullFailed");
    let before = failing.compute();
    failing.report = None;
    assert_eq!(failing.compute(), before);
}

#[test]
fn a_new_revision_on_its_way_leaves_the_function_ready() {
    let mut world = World::new(NEW, Some(OLD));
    world.report = Some(report(Some(OLD), &[(OLD, 1, 1, 0), (NEW, 1, 0, 0)]));
    assert_eq!(
        world.conditions(),
        ["Ready=True/Serving@1", "Active=True/Serving@1", "Reconciling=True/RevisionStarting@1"]
    );
    assert_eq!(
        world.message("Reconciling"),
        "revision aaaaaaaaaa serves until revision bbbbbbbbbb answers"
    );
    world.outlook.as_mut().unwrap().latest_ready = Some(NEW.into());
    world.report = Some(report(Some(NEW), &[(NEW, 1, 1, 0)]));
    assert_eq!(world.conditions(), ["Ready=True/Serving@1", "Active=True/Serving@1"]);
}

#[test]
fn a_failing_candidate_says_who_goes_on() {
    let mut world = World::new(NEW, Some(OLD));
    world.report = Some(report(Some(OLD), &[(OLD, 1, 1, 0)]));
    world.failed(NEW, "ImagePullFailed");
    assert_eq!(
        world.conditions(),
        [
            "Ready=False/ImagePullFailed@1",
            "Active=True/Serving@1",
            "Stalled=True/ImagePullFailed@1"
        ]
    );
    assert_eq!(
        world.message("Stalled"),
        "revision bbbbbbbbbb: the image can't be pulled; revision aaaaaaaaaa goes on to serve"
    );
    assert_eq!(world.status.as_ref().unwrap().last_error.as_ref().unwrap().revision, NEW);
    world.report.as_mut().unwrap().last_error = None;
    let conditions = world.conditions();
    assert_eq!(conditions[0], "Ready=True/Serving@2");
    assert_eq!(conditions[2], "Reconciling=True/RevisionStarting@2");
}

#[test]
fn a_failed_first_activation_is_not_ready_until_a_pod_serves() {
    let mut world = World::new(OLD, None);
    world.failed(OLD, "ContainerCrashed");
    let asleep_again = [
        "Ready=False/ContainerCrashed@1",
        "Active=False/Asleep@1",
        "Stalled=True/ContainerCrashed@1",
    ];
    assert_eq!(world.conditions(), asleep_again);
    assert_eq!(world.message("Ready"), "revision aaaaaaaaaa: the image can't be pulled");
    assert_eq!(world.conditions(), asleep_again);
    world.report = Some(report(Some(OLD), &[(OLD, 1, 1, 0)]));
    world.outlook.as_mut().unwrap().latest_ready = Some(OLD.into());
    assert_eq!(world.conditions(), ["Ready=True/Serving@3", "Active=True/Serving@3"]);
}

#[test]
fn a_failed_scale_up_leaves_a_serving_function_ready() {
    let mut world = World::new(OLD, Some(OLD));
    world.report = Some(report(Some(OLD), &[(OLD, 5, 2, 0)]));
    world.failed(OLD, "QuotaExceeded");
    assert_eq!(world.conditions(), ["Ready=True/Serving@1", "Active=True/Serving@1"]);
    assert!(world.status.as_ref().unwrap().last_error.is_some());
    world.report.as_mut().unwrap().revisions.clear();
    assert_eq!(world.conditions()[0], "Ready=False/QuotaExceeded@2");
}

#[test]
fn an_error_of_a_former_revision_does_not_count() {
    let mut world = World::new(NEW, Some(OLD));
    world.report = Some(report(Some(OLD), &[]));
    world.failed("cccccccccc", "ImagePullFailed");
    assert_eq!(world.conditions()[0], "Ready=True/Asleep@1");
}

#[test]
fn trouble_stalls_and_the_old_revision_goes_on() {
    let mut world = World::new(NEW, Some(OLD));
    world.report = Some(report(Some(OLD), &[(OLD, 1, 1, 0)]));
    world.outlook.as_mut().unwrap().newest_runs = false;
    world.trouble = Some(Trouble {
        reason: "TemplateRefused",
        message: "spec.nonsense: unknown field".into(),
        passing: false,
    });
    assert_eq!(
        world.conditions(),
        [
            "Ready=False/TemplateRefused@1",
            "Active=True/Serving@1",
            "Stalled=True/TemplateRefused@1"
        ]
    );
    assert_eq!(
        world.message("Ready"),
        "spec.nonsense: unknown field; revision aaaaaaaaaa goes on to serve"
    );
    let status = world.status.as_ref().unwrap();
    assert_eq!(status.latest_created.as_deref(), Some(OLD), "the refused one is not created");
}

#[test]
fn a_function_that_activators_do_not_know_is_not_ready_yet() {
    let mut world = World::new(OLD, None);
    let message = "1 of 2 activators knows it".to_owned();
    world.unrouted = Some(Trouble { reason: "Propagating", message, passing: true });
    assert_eq!(
        world.conditions(),
        ["Ready=False/Propagating@1", "Active=False/Asleep@1", "Reconciling=True/Propagating@1"]
    );
    assert_eq!(world.message("Ready"), "1 of 2 activators knows it");
    world.failed(OLD, "ImagePullFailed");
    assert_eq!(world.conditions()[0], "Ready=False/ImagePullFailed@1", "what needs somebody first");
    world.report = None;
    world.status.as_mut().unwrap().last_error = None;
    world.unrouted = None;
    assert_eq!(world.conditions(), ["Ready=True/Asleep@3", "Active=False/Asleep@1"]);
}

#[test]
fn an_invalid_spec_leaves_everything_else_as_it_was() {
    let mut world = World::new(OLD, Some(OLD));
    world.report = Some(report(Some(OLD), &[(OLD, 1, 1, 0)]));
    world.compute();
    world.outlook = None;
    world.trouble =
        Some(Trouble { reason: "Invalid", message: "spec.x is wrong".into(), passing: false });
    assert_eq!(
        world.conditions(),
        ["Ready=False/Invalid@2", "Active=True/Serving@1", "Stalled=True/Invalid@2"]
    );
    let status = world.status.unwrap();
    assert_eq!(status.latest_created.as_deref(), Some(OLD));
    assert_eq!(status.latest_ready.as_deref(), Some(OLD));
}

#[test]
fn a_taken_name_has_no_url() {
    let mut world = World::new(OLD, None);
    world.outlook.as_mut().unwrap().name = NameHolder::Stranger;
    assert_eq!(
        world.conditions(),
        ["Ready=False/NameTaken@1", "Active=False/Asleep@1", "Stalled=True/NameTaken@1"]
    );
    assert_eq!(world.status.as_ref().unwrap().url, None);
    world.outlook.as_mut().unwrap().name = NameHolder::Predecessor;
    assert_eq!(
        world.conditions(),
        [
            "Ready=False/PredecessorLeaving@1",
            "Active=False/Asleep@1",
            "Reconciling=True/PredecessorLeaving@2"
        ]
    );
}

#[test]
fn words_that_the_api_server_would_refuse_are_replaced() {
    let mut world = World::new(OLD, None);
    world.failed(OLD, "no word at all");
    world.report.as_mut().unwrap().last_error.as_mut().unwrap().message = "x".repeat(5000);
    assert_eq!(world.conditions()[0], "Ready=False/StartFailed@1");
    assert!(world.message("Ready").chars().count() <= MAX_MESSAGE + 3);
}

#[test]
fn a_public_function_has_a_public_url() {
    let function = function(json!({}));
    let with = |public_domain| {
        let situation = Situation {
            key: &function.key,
            generation: Some(1),
            exposure: Exposure::Public,
            public_domain,
            previous: None,
            outlook: None,
            trouble: None,
            unrouted: None,
            report: None,
            learns: true,
            usage: None,
            now: Timestamp::UNIX_EPOCH,
        };
        compute(&situation).public_url
    };
    assert_eq!(with(Some("fn.example.org")).as_deref(), Some("http://hello.shop.fn.example.org"));
    assert_eq!(with(None), None);
}
