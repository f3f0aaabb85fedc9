use std::time::Duration;

use rouse_core::function::start_failure::{Cause, StartFailure};
use rouse_core::function::{BufferBounds, Concurrency, RequestRules, ScalingBounds, Timeouts};
use rouse_core::scaling::Policy;
use rouse_core::scaling::idle::Idle;
use rouse_crds::v1alpha1::Protocol;

use super::*;
use crate::admission::Bounds;

fn settings(public: bool) -> Settings {
    let concurrency = Concurrency { target: 1.try_into().unwrap(), limit: None };
    let second = Duration::from_secs(1);
    Settings {
        policy: Policy {
            concurrency,
            idle: Idle::Fixed,
            scaling: ScalingBounds { min: 0, max: 1, idle_after: second, stable_window: second },
        },
        bounds: Bounds { concurrency, buffer: BufferBounds { requests: 1, bytes: 1 } },
        timeouts: Timeouts { activation: second, request: second, first_byte: second, idle: None },
        rules: RequestRules::default(),
        readiness_path: None,
        public,
    }
}

fn function(uid: &str) -> FunctionSeen {
    FunctionSeen {
        key: FunctionKey::new("shop", uid),
        uid: uid.into(),
        version: 1,
        settings: Some(settings(false)),
        latest_ready: None,
        latest_created: None,
        learned: None,
    }
}

fn pod(uid: &str) -> PodSeen {
    PodSeen {
        memory: 64 << 20,
        uid: uid.into(),
        namespace: "shop".into(),
        name: uid.into(),
        function_uid: "f".into(),
        revision: "r".into(),
        made: None,
        scheduled: false,
        address: None,
        protocol: Protocol::Http1,
        code: None,
        control_port: 8079,
        going: false,
        ready: false,
        running: false,
        exits: 0,
        failure: None,
        deletion_cost: 0,
        claim: None,
    }
}

struct Scene {
    index: Index,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { index: Index::default(), now: Instant::now() }
    }

    fn functions(&mut self, event: Event<FunctionSeen>) -> Changes {
        self.index.apply(Observation::Function(event), self.now);
        self.index.take_changes()
    }

    fn pods(&mut self, event: Event<PodSeen>) -> Changes {
        self.now += Duration::from_millis(10);
        self.index.apply(Observation::Pod(event), self.now);
        self.index.take_changes()
    }

    fn pod(&self, uid: &str) -> Arc<PodView> {
        let observed = self.index.observed("f").unwrap();
        observed.pods.iter().find(|pod| &*pod.seen.uid == uid).cloned().unwrap()
    }
}

fn uids(changes: &Changes) -> Vec<&str> {
    let mut uids: Vec<&str> = changes.functions.iter().map(AsRef::as_ref).collect();
    uids.sort_unstable();
    uids
}

#[tokio::test]
async fn it_is_synced_when_every_list_is_complete_even_an_empty_one() {
    let mut scene = Scene::new();
    let now = scene.now;
    scene.functions(Event::InitDone);
    scene.pods(Event::InitDone);
    scene.index.apply(Observation::Trigger(Event::InitDone), now);
    scene.index.apply(Observation::Deployment(Event::InitDone), now);
    assert!(!scene.index.is_synced());
    scene.index.apply(Observation::Membership(Event::InitDone), now);
    assert!(scene.index.is_synced());
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let mut scene = Scene::new();
    let changes = scene.functions(Event::Apply(function("f")));
    assert_eq!((uids(&changes), changes.routes), (vec!["f"], true));
    assert_eq!(scene.functions(Event::Apply(function("f"))), Changes::default());
    let status = FunctionSeen { latest_ready: Some("r".into()), ..function("f") };
    let changes = scene.functions(Event::Apply(status));
    assert_eq!((uids(&changes), changes.routes), (vec!["f"], false), "routes stay as they are");
    let public = FunctionSeen { settings: Some(settings(true)), ..function("f") };
    assert!(scene.functions(Event::Apply(public)).routes);
    assert!(scene.functions(Event::Delete(function("f"))).routes);
}

#[tokio::test]
async fn a_list_tells_how_far_it_goes_when_it_is_complete() {
    let mut scene = Scene::new();
    let at = |uid: &str, version| FunctionSeen { version, ..function(uid) };
    let known = |scene: &Scene| scene.index.known().functions;
    scene.functions(Event::Init);
    scene.functions(Event::InitApply(at("late", 9)));
    assert_eq!(known(&scene), 0, "one of an earlier version may come yet");
    scene.functions(Event::InitApply(at("early", 5)));
    scene.functions(Event::InitDone);
    assert_eq!(known(&scene), 9);
    scene.functions(Event::Apply(at("new", 12)));
    assert_eq!(known(&scene), 12);
    scene.functions(Event::Delete(at("late", 15)));
    assert_eq!(known(&scene), 15);
    scene.functions(Event::Init);
    scene.functions(Event::InitApply(at("new", 20)));
    assert_eq!(known(&scene), 15, "a list that is not complete yet");
    scene.functions(Event::InitDone);
    assert_eq!(known(&scene), 20);
    assert_eq!(scene.index.known().triggers, 0);
}

#[tokio::test]
async fn a_spec_that_is_not_valid_leaves_the_former_in_force() {
    let mut scene = Scene::new();
    let invalid = FunctionSeen { settings: None, ..function("f") };
    assert_eq!(scene.functions(Event::Apply(invalid.clone())), Changes::default());
    scene.functions(Event::Apply(function("f")));
    scene.functions(Event::Apply(invalid));
    assert_eq!(scene.index.function("f").unwrap().settings, settings(false));
}

#[tokio::test]
async fn what_a_new_list_lacks_is_gone() {
    let mut scene = Scene::new();
    scene.functions(Event::Apply(function("f")));
    scene.functions(Event::Apply(function("g")));
    scene.pods(Event::Apply(pod("a")));
    scene.pods(Event::Apply(pod("b")));
    scene.functions(Event::Init);
    scene.functions(Event::InitApply(function("f")));
    let changes = scene.functions(Event::InitDone);
    assert_eq!(uids(&changes), ["g"]);
    scene.pods(Event::Init);
    scene.pods(Event::InitApply(pod("b")));
    assert_eq!(uids(&scene.pods(Event::InitDone)), ["f"]);
    assert_eq!(scene.index.observed("f").unwrap().pods.len(), 1);
}

#[tokio::test]
async fn steps_of_a_start_are_stamped_once() {
    let mut scene = Scene::new();
    scene.functions(Event::Apply(function("f")));
    scene.pods(Event::Apply(pod("a")));
    let created = scene.now;
    let scheduled = PodSeen { scheduled: true, ..pod("a") };
    scene.pods(Event::Apply(scheduled.clone()));
    let scheduled_at = scene.now;
    scene.pods(Event::Apply(PodSeen { address: Some(([1, 1, 1, 1], 1).into()), ..scheduled }));
    let view = scene.pod("a");
    assert_eq!(view.created, Some(created));
    assert_eq!(view.scheduled, Some(scheduled_at));
    assert_eq!(view.addressed, Some(scene.now));
}

#[tokio::test]
async fn steps_that_were_over_before_are_never_stamped() {
    let mut scene = Scene::new();
    scene.functions(Event::Apply(function("f")));
    scene.pods(Event::Init);
    let found = PodSeen { scheduled: true, ..pod("a") };
    scene.pods(Event::InitApply(found.clone()));
    scene.pods(Event::InitDone);
    scene.pods(Event::Apply(PodSeen { address: Some(([1, 1, 1, 1], 1).into()), ..found }));
    let view = scene.pod("a");
    assert_eq!((view.created, view.scheduled), (None, None));
    assert_eq!(view.addressed, Some(scene.now));
}

#[tokio::test]
async fn a_failure_counts_from_its_first_sight() {
    let mut scene = Scene::new();
    scene.functions(Event::Apply(function("f")));
    let failing =
        |cause, message| PodSeen { failure: Some(StartFailure::new(cause, message)), ..pod("a") };
    scene.pods(Event::Apply(failing(Cause::Unschedulable, "one")));
    let since = scene.now;
    scene.pods(Event::Apply(failing(Cause::Unschedulable, "two")));
    assert_eq!(scene.pod("a").failing, Some(since));
    scene.pods(Event::Apply(failing(Cause::ImagePullFailed, "three")));
    assert_eq!(scene.pod("a").failing, Some(scene.now));
    scene.pods(Event::Apply(pod("a")));
    assert_eq!(scene.pod("a").failing, None);
}

#[tokio::test]
async fn children_may_come_before_their_function() {
    let mut scene = Scene::new();
    scene.pods(Event::Apply(pod("a")));
    assert_eq!(scene.index.observed("f"), None);
    scene.functions(Event::Apply(function("f")));
    assert_eq!(scene.index.observed("f").unwrap().pods.len(), 1);
}

#[tokio::test]
async fn the_last_membership_stands_when_it_is_deleted() {
    let mut scene = Scene::new();
    let membership = Membership { version: 4, ..Membership::default() };
    let now = scene.now;
    scene.index.apply(Observation::Membership(Event::Apply(membership.clone())), now);
    assert!(scene.index.take_changes().membership);
    scene.index.apply(Observation::Membership(Event::Delete(membership.clone())), now);
    scene.index.apply(Observation::Membership(Event::Apply(membership)), now);
    assert!(!scene.index.take_changes().membership);
    assert_eq!(scene.index.membership().version, 4);
}
