use proptest::prelude::*;

use super::*;

/// A Function's revisions as a test moves them.
#[derive(Default)]
struct Scene {
    latest_ready: Option<Revision>,
    latest_created: Option<Revision>,
    revisions: BTreeMap<Revision, RevisionSeen>,
    state: State,
}

impl Scene {
    fn new(latest_ready: Option<&str>, latest_created: &str) -> Self {
        let mut scene = Self {
            latest_ready: latest_ready.map(Revision::from),
            latest_created: Some(latest_created.into()),
            ..Self::default()
        };
        for revision in latest_ready.into_iter().chain([latest_created]) {
            scene.revisions.insert(revision.into(), RevisionSeen::default());
        }
        scene
    }

    fn create(&mut self, revision: &str) {
        self.latest_created = Some(revision.into());
        self.revisions.entry(revision.into()).or_default();
    }

    fn answer(&mut self, revision: &str, pods: u32) {
        self.revisions.entry(revision.into()).or_default().answering = pods;
    }

    fn decide(&mut self, desired: u32) -> Plan {
        let seen = Seen {
            latest_ready: self.latest_ready.as_ref(),
            latest_created: self.latest_created.as_ref(),
            revisions: &self.revisions,
            desired,
        };
        decide(seen, &mut self.state)
    }
}

fn pods(plan: &Plan) -> Vec<(&str, u32)> {
    plan.pods.iter().map(|(revision, pods)| (&**revision, *pods)).collect()
}

#[test]
fn a_new_function_serves_its_first_revision_unproven() {
    let mut scene = Scene::new(None, "a");
    let plan = scene.decide(2);
    assert_eq!((plan.serving.as_deref(), plan.proven), (Some("a"), false));
    assert_eq!(pods(&plan), [("a", 2)]);
    scene.answer("a", 1);
    assert!(scene.decide(2).proven);
}

#[test]
fn nothing_serves_before_there_is_a_deployment() {
    let mut scene = Scene { latest_created: Some("a".into()), ..Scene::default() };
    assert_eq!(scene.decide(1), Plan::default());
    scene.create("a");
    assert_eq!(scene.decide(1).serving.as_deref(), Some("a"));
}

#[test]
fn a_candidate_takes_over_when_it_has_the_pods_that_the_load_needs() {
    let mut scene = Scene::new(Some("a"), "a");
    scene.answer("a", 3);
    scene.create("b");
    let plan = scene.decide(3);
    assert_eq!((plan.serving.as_deref(), plan.candidate.as_deref()), (Some("a"), Some("b")));
    assert_eq!(pods(&plan), [("a", 3), ("b", 3)]);
    assert!(plan.routes_to("a") && !plan.routes_to("b"));
    scene.answer("b", 2);
    assert_eq!(scene.decide(3).serving.as_deref(), Some("a"));
    scene.answer("b", 3);
    let plan = scene.decide(3);
    assert_eq!((plan.serving.as_deref(), plan.candidate), (Some("b"), None));
    assert_eq!(pods(&scene.decide(3)), [("b", 3)]);
}

#[test]
fn a_sleeping_function_proves_its_candidate_with_one_pod_and_sleeps_on() {
    let mut scene = Scene::new(Some("a"), "b");
    assert_eq!(pods(&scene.decide(0)), [("a", 0), ("b", 1)]);
    scene.answer("b", 1);
    let plan = scene.decide(0);
    assert_eq!((plan.serving.as_deref(), plan.proven), (Some("b"), true));
    assert_eq!(pods(&plan), [("b", 0)]);
}

#[test]
fn a_failing_candidate_costs_one_pod_and_never_serves() {
    let mut scene = Scene::new(Some("a"), "b");
    scene.answer("a", 5);
    assert_eq!(scene.decide(5).pods_of("b"), 5);
    scene.revisions.insert("b".into(), RevisionSeen { failing: true, ..RevisionSeen::default() });
    let plan = scene.decide(5);
    assert_eq!(plan.serving.as_deref(), Some("a"));
    assert_eq!(pods(&plan), [("a", 5), ("b", 1)]);
    scene.create("c");
    assert_eq!(pods(&scene.decide(5)), [("a", 5), ("c", 5)]);
}

#[test]
fn going_back_to_the_serving_revision_drops_the_candidate() {
    let mut scene = Scene::new(Some("a"), "b");
    scene.answer("a", 1);
    scene.decide(1);
    scene.create("a");
    assert_eq!(pods(&scene.decide(1)), [("a", 1)]);
}

#[test]
fn an_unproven_revision_is_left_at_once() {
    let mut scene = Scene::new(None, "a");
    scene.decide(1);
    scene.create("b");
    let plan = scene.decide(1);
    assert_eq!((plan.serving.as_deref(), plan.proven), (Some("b"), false));
    assert_eq!(pods(&plan), [("b", 1)]);
}

#[test]
fn a_full_cluster_switches_pod_by_pod() {
    let mut scene = Scene::new(Some("a"), "b");
    scene.answer("a", 3);
    scene.revisions.insert(
        "b".into(),
        RevisionSeen { answering: 1, crowded: true, ..RevisionSeen::default() },
    );
    let plan = scene.decide(3);
    assert_eq!(plan.serving.as_deref(), Some("b"));
    assert_eq!(pods(&plan), [("a", 2), ("b", 3)]);
    assert!(plan.routes_to("a"));
    scene.answer("b", 2);
    assert_eq!(pods(&scene.decide(3)), [("a", 1), ("b", 3)]);
    assert_eq!(pods(&scene.decide(9)), [("a", 1), ("b", 9)], "what was given up stays so");
    scene.answer("b", 3);
    assert_eq!(pods(&scene.decide(3)), [("b", 3)]);
}

#[test]
fn a_status_that_lags_does_not_undo_a_switch() {
    let mut scene = Scene::new(Some("a"), "b");
    scene.answer("a", 1);
    scene.answer("b", 1);
    assert_eq!(scene.decide(1).serving.as_deref(), Some("b"));
    scene.answer("a", 0);
    assert_eq!(pods(&scene.decide(1)), [("b", 1)]);
}

#[test]
fn a_new_owner_serves_what_the_status_says_and_keeps_what_runs_until_it_answers() {
    let mut scene = Scene::new(Some("b"), "b");
    scene.answer("a", 2);
    let plan = scene.decide(2);
    assert_eq!(plan.serving.as_deref(), Some("b"));
    assert_eq!(pods(&plan), [("a", 2), ("b", 2)]);
    scene.answer("b", 2);
    assert_eq!(pods(&scene.decide(2)), [("b", 2)]);
}

#[test]
fn a_serving_revision_whose_deployment_is_gone_gives_way() {
    let mut scene = Scene::new(Some("a"), "b");
    scene.decide(1);
    scene.revisions.remove("a");
    let plan = scene.decide(1);
    assert_eq!((plan.serving.as_deref(), plan.candidate), (Some("b"), None));
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Answer(u8, u32),
    Trouble(u8, bool, bool),
    Desire(u32),
    StatusCatchesUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0u8..4).prop_map(Step::Create),
        4 => (0u8..4, 0u32..5).prop_map(|(r, n)| Step::Answer(r, n)),
        1 => (0u8..4, any::<bool>(), any::<bool>()).prop_map(|(r, f, c)| Step::Trouble(r, f, c)),
        2 => (0u32..5).prop_map(Step::Desire),
        1 => Just(Step::StatusCatchesUp),
    ]
}

/// Pods that get requests under `plan`, of those that answer.
fn open(scene: &Scene, plan: &Plan) -> u32 {
    let routed = plan.pods.iter().filter(|(revision, _)| plan.routes_to(revision));
    routed.map(|(r, most)| scene.revisions.get(r).map_or(0, |seen| seen.answering.min(*most))).sum()
}

proptest! {
    /// Pods only come and go when the scene says so. As long as the load asks for a pod and the
    /// pods that were open still answer, at least one stays open.
    #[test]
    fn a_switch_never_leaves_the_load_without_a_pod(steps in prop::collection::vec(step(), 1..80)) {
        let mut scene = Scene::new(Some("r0"), "r0");
        let mut desired = 1;
        for step in steps {
            let before = scene.decide(desired);
            let lost = matches!(step, Step::Answer(..));
            match step {
                Step::Create(r) => scene.create(&format!("r{r}")),
                Step::Answer(r, n) => scene.answer(&format!("r{r}"), n),
                Step::Trouble(r, failing, crowded) => {
                    let seen = scene.revisions.entry(format!("r{r}").into()).or_default();
                    (seen.failing, seen.crowded) = (failing, crowded);
                }
                Step::Desire(n) => desired = n,
                Step::StatusCatchesUp => scene.latest_ready = before.serving.clone(),
            }
            let open_before = open(&scene, &before);
            let plan = scene.decide(desired);
            prop_assert!(plan.serving.is_some(), "somebody serves");
            prop_assert!(plan.candidate != plan.serving);
            if desired > 0 && open_before > 0 && !lost {
                prop_assert!(open(&scene, &plan) > 0, "{before:?} -> {plan:?}");
            }
            if let Some(candidate) = &plan.candidate {
                prop_assert!(plan.pods_of(candidate) >= 1, "a candidate is always tried");
            }
            prop_assert_eq!(scene.decide(desired), plan, "deciding again changes nothing");
        }
        // The newest revision comes up: it serves alone.
        let newest = scene.latest_created.clone().unwrap();
        scene.answer(&newest, 5);
        let plan = scene.decide(desired);
        prop_assert_eq!(plan.serving.as_ref(), Some(&newest));
        prop_assert_eq!(pods(&plan), [(&*newest, desired)]);
    }
}
