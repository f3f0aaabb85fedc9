mod crowding;
mod learning;
pub mod plant;
mod soak;
mod source;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};

use super::actions::{Action, Done};
use super::activation::Clocks;
use super::claiming::Heir;
use super::metrics::{ControlMetrics, ScalerMetrics};
use super::run;
use super::state::{Scaler, With};
use crate::admission::{Admission, Fault, Gate, Refusal};
use crate::instances::{ScaleError, Scaled};
use crate::observe::index::Observed;
use crate::observe::ticks::ticks;
use plant::{Behaviour, World, settings};

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn unavailable() -> ScaleError {
    ScaleError::Unavailable { message: "away".into(), retry_after: None }
}

#[tokio::test(start_paused = true)]
async fn the_first_request_wakes_the_function_with_one_write_and_is_told_of_phase_by_phase() {
    let world = World::new(settings(0, 0, 10)).await;
    assert_eq!(world.plant.scales(), []);
    let calls: Vec<_> = (0..10).map(|_| world.spawn_call(millis(50))).collect();
    for call in calls {
        let (revision, waited) = call.await.unwrap().unwrap();
        assert_eq!(&*revision, "r1");
        assert!((millis(275)..millis(330)).contains(&waited), "{waited:?}");
    }
    assert_eq!(world.plant.scales(), [("r1".into(), 1)]);
    world.until("the activation is told", |w| w.report().last_activation.is_some()).await;
    let report = world.report();
    let activation = report.last_activation.unwrap();
    assert_eq!((report.serving.as_deref(), &*activation.revision), (Some("r1"), "r1"));
    let phases = [
        activation.scaled_millis,
        activation.created_millis,
        activation.scheduled_millis,
        activation.addressed_millis,
        activation.listening_millis,
        activation.first_byte_millis,
    ];
    assert!(phases.iter().all(Option::is_some), "{phases:?}");
    assert!(phases.is_sorted(), "{phases:?}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_spreads_over_exact_slots() {
    let world = World::new(settings(5, 0, 10)).await;
    let calls: Vec<_> = (0..50).map(|_| world.spawn_call(2 * SECOND)).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let most = world.plant.most_serving();
    assert!(most.iter().all(|most| *most <= 5), "{most:?}");
    assert!(most.len() >= 8, "{most:?}");
    assert!(world.plant.scales().len() <= 2, "{:?}", world.plant.scales());
    world.until_asleep().await;
    assert_eq!(world.plant.cut(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_burst_under_a_soft_target_is_not_all_given_to_the_first_pod() {
    let world = World::new(settings(0, 0, 10)).await;
    let calls: Vec<_> = (0..40).map(|_| world.spawn_call(SECOND)).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(world.plant.most_serving(), [10; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_soft_target_does_not_hold_requests_back_for_pods_that_find_no_room() {
    let world = World::new(settings(0, 0, 10)).await;
    world.plant.behave("r1", Behaviour::Room(1));
    let calls: Vec<_> = (0..40).map(|_| world.spawn_call(20 * SECOND)).collect();
    for call in calls {
        let (_, waited) = call.await.unwrap().unwrap();
        assert!(waited < 6 * SECOND, "{waited:?}");
    }
    assert_eq!(world.plant.most_serving(), [40]);
}

#[tokio::test(start_paused = true)]
async fn it_sleeps_after_the_idle_time_and_then_nothing_happens() {
    let world = World::new(settings(0, 0, 10)).await;
    world.call(millis(50)).await.unwrap();
    let idle_since = Instant::now();
    world.until("told to sleep", |world| world.plant.replicas() == 0).await;
    let slept_after = idle_since.elapsed();
    assert!((10 * SECOND..11 * SECOND).contains(&slept_after), "{slept_after:?}");
    world.until_asleep().await;
    let writes = world.plant.scales().len();
    sleep(Duration::from_hours(10)).await;
    assert_eq!(world.plant.scales().len(), writes);
    let (revision, _) = world.call(millis(1)).await.unwrap();
    assert_eq!(&*revision, "r1");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_at_any_moment_of_falling_asleep_is_served() {
    for offset in 0..300 {
        let world = World::new(settings(0, 0, 10)).await;
        world.call(millis(50)).await.unwrap();
        sleep(millis(9980 + offset)).await;
        let (_, waited) = world.call(millis(50)).await.unwrap();
        assert!(waited < millis(1500), "after {offset}: waited {waited:?}");
        world.until_asleep().await;
        assert_eq!(world.plant.cut(), (0, 0), "after {offset}");
    }
}

#[tokio::test(start_paused = true)]
async fn scaling_down_cuts_no_long_request_off() {
    let world = World::new(settings(1, 0, 10)).await;
    let long: Vec<_> =
        (0..10).map(|i| world.spawn_call(if i % 3 == 0 { 30 * SECOND } else { SECOND })).collect();
    for call in long {
        call.await.unwrap().unwrap();
    }
    world.until_asleep().await;
    assert_eq!(world.plant.cut(), (0, 0));
    let lowered =
        world.plant.scales().into_iter().map(|(_, replicas)| replicas).collect::<Vec<_>>();
    assert!(lowered.contains(&4), "the short ones' pods went first: {lowered:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_that_were_to_go_serve_again_when_the_load_returns() {
    let world = World::new(settings(1, 0, 4)).await;
    let calls: Vec<_> = (0..4).map(|_| world.spawn_call(20 * SECOND)).collect();
    sleep(15 * SECOND).await;
    drop(calls);
    for round in 0..40 {
        let calls: Vec<_> = (0..4).map(|_| world.spawn_call(millis(200))).collect();
        for call in calls {
            let (_, waited) = call.await.unwrap().unwrap();
            assert!(round == 0 || waited < millis(1500), "round {round}: {waited:?}");
        }
        sleep(millis(5800 + round * 15)).await;
    }
    assert_eq!(world.plant.cut(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_changed_function_switches_under_load_without_a_failure() {
    let world = World::new(settings(2, 0, 20)).await;
    let load: Vec<_> = (0..10)
        .map(|_| {
            let (gate, plant) = (Arc::clone(&world.gate), world.plant.clone());
            tokio::spawn(plant::call_until(gate, plant, Instant::now() + 40 * SECOND))
        })
        .collect();
    sleep(2 * SECOND).await;
    let mut current = "r1".to_owned();
    for i in 2..6 {
        let next = format!("r{i}");
        world.plant.create(&next, Behaviour::Starts);
        world.plant.status(Some(&current), &next);
        let serves = |w: &World| w.report().serving.as_deref() == Some(&*next);
        world.until("the next revision serves", serves).await;
        let (revision, waited) = world.call(millis(10)).await.unwrap();
        assert_eq!(&*revision, next);
        assert!(waited < millis(500), "{waited:?}");
        world.plant.status(Some(&next), &next);
        sleep(5 * SECOND).await;
        assert_eq!(world.plant.replicas_of(&current), 0);
        current = next;
    }
    for caller in load {
        let longest = caller.await.unwrap();
        assert!(longest < SECOND, "{longest:?}");
    }
    assert_eq!(world.plant.cut(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_function_tries_its_new_revision_and_sleeps_on() {
    let world = World::new(settings(0, 0, 10)).await;
    world.plant.create("r2", Behaviour::Starts);
    world.plant.status(Some("r1"), "r2");
    world.until("it serves", |w| w.report().serving.as_deref() == Some("r2")).await;
    world.until_asleep().await;
    assert_eq!(world.plant.scales(), [("r2".into(), 1), ("r2".into(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_candidate_takes_no_traffic_and_is_told_of() {
    let world = World::new(settings(2, 0, 20)).await;
    let call = world.spawn_call(20 * SECOND);
    sleep(SECOND).await;
    world.plant.create("r2", Behaviour::Crashes);
    world.plant.status(Some("r1"), "r2");
    world.until("the error is told", |w| w.report().last_error.is_some()).await;
    let report = world.report();
    let error = report.last_error.unwrap();
    assert_eq!((&*error.revision, &*error.reason), ("r2", "ContainerCrashed"));
    assert_eq!(report.serving.as_deref(), Some("r1"));
    let (revision, _) = world.call(millis(10)).await.unwrap();
    assert_eq!(&*revision, "r1");
    world.plant.create("r3", Behaviour::Starts);
    world.plant.status(Some("r1"), "r3");
    world.until("the mended one serves", |w| w.report().serving.as_deref() == Some("r3")).await;
    world.until("no error", |w| w.report().last_error.is_none()).await;
    assert_eq!(&*call.await.unwrap().unwrap().0, "r1");
    world.until_asleep().await;
    assert_eq!(world.plant.cut(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_cluster_still_gets_its_new_revision() {
    let world = World::new(settings(1, 0, 4)).await;
    world.plant.behave("r1", Behaviour::Room(4));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (gate, plant) = (Arc::clone(&world.gate), world.plant.clone());
            tokio::spawn(plant::call_until(gate, plant, Instant::now() + 60 * SECOND))
        })
        .collect();
    sleep(3 * SECOND).await;
    // One more pod than the old revision has finds room.
    world.plant.create("r2", Behaviour::Room(5));
    world.plant.status(Some("r1"), "r2");
    world.until("it serves", |w| w.report().serving.as_deref() == Some("r2")).await;
    world.until("the old one is gone", |w| w.plant.replicas_of("r1") == 0).await;
    for caller in load {
        caller.await.unwrap();
    }
    assert_eq!(world.plant.cut(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_succeed_answers_at_once_and_a_mended_one_serves() {
    for (behaviour, reason) in
        [(Behaviour::BadImage, "ImagePullFailed"), (Behaviour::Crashes, "ContainerCrashed")]
    {
        let world = World::new(settings(0, 0, 10)).await;
        world.plant.behave("r1", behaviour);
        let begun = Instant::now();
        let Err(Refusal::StartFailed(failure)) = world.call(millis(1)).await else {
            panic!("the start failed");
        };
        assert_eq!(failure.reason, reason);
        assert!(begun.elapsed() < SECOND);
        assert_eq!(world.report().last_error.unwrap().reason, reason);
        assert!(matches!(world.call(millis(1)).await, Err(Refusal::StartFailed(_))));
        world.until_asleep().await;
        assert_eq!(world.report().last_error.unwrap().reason, reason);
        world.plant.behave("r1", Behaviour::Starts);
        world.call(millis(1)).await.unwrap();
        world.until("no error", |w| w.report().last_error.is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_pod_that_recovers_serves_those_who_come_after() {
    let world = World::new(settings(0, 0, 10)).await;
    world.plant.behave("r1", Behaviour::BadImage);
    assert!(world.call(millis(1)).await.is_err());
    world.plant.behave("r1", Behaviour::Starts);
    sleep(SECOND).await;
    let (_, waited) = world.call(millis(1)).await.unwrap();
    assert_eq!(waited, Duration::ZERO);
    assert_eq!(world.plant.scales().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_node_is_waited_for_before_it_counts_as_a_failure() {
    let world = World::new(settings(0, 0, 10)).await;
    world.plant.behave("r1", Behaviour::Room(0));
    let begun = Instant::now();
    let Err(Refusal::StartFailed(failure)) = world.call(millis(1)).await else {
        panic!("there is no room");
    };
    assert_eq!(failure.reason, "Unschedulable");
    assert!((5 * SECOND..6 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_never_listens_is_named_as_the_cause() {
    let world = World::new(settings(0, 0, 10)).await;
    world.plant.behave("r1", Behaviour::Silent);
    let call = world.spawn_call(millis(1));
    assert_eq!(world.gate.delay(), None);
    world.until("the cause is known", |world| world.gate.delay().is_some()).await;
    let delay = world.gate.delay().unwrap();
    assert_eq!(delay.reason, "NotListening");
    assert!(delay.message.contains("nothing listens on port 10001"), "{}", delay.message);
    world.plant.behave("r1", Behaviour::Starts);
    call.await.unwrap().unwrap();
    assert_eq!(world.gate.delay(), None);
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_begins_with_the_end_of_the_last_of_many_single_requests() {
    let world = World::new(settings(0, 0, 10)).await;
    for _ in 0..2000 {
        world.call(millis(5)).await.unwrap();
        sleep(millis(5)).await;
    }
    let idle_since = Instant::now();
    world.until("told to sleep", |world| world.plant.replicas() == 0).await;
    let slept_after = idle_since.elapsed();
    assert!((9 * SECOND..11 * SECOND).contains(&slept_after), "{slept_after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_keeps_failing_beside_others_is_replaced() {
    let world = World::new(settings(0, 3, 3)).await;
    world.until("up", |w| w.report().revisions["r1"].ready == 3).await;
    let bad = Arc::clone(&world.gate.load().pods[0].uid);
    let begun = Instant::now();
    while world.gate.load().pods.iter().any(|pod| pod.uid == bad) {
        for _ in 0..6 {
            let Admission::Granted(permit) = world.gate.admit(1) else {
                panic!("two pods serve");
            };
            if permit.pod().uid == bad {
                permit.note_fault(Fault::Broken);
            } else {
                permit.note_first_byte(None);
            }
        }
        sleep(millis(100)).await;
        assert!(begun.elapsed() < 30 * SECOND, "it is replaced in time");
    }
    // Ejected for 1, 2 and 4 s, and then once more.
    assert!(begun.elapsed() > 7 * SECOND, "{:?}", begun.elapsed());
    world.until("another has come", |w| w.report().revisions["r1"].ready == 3).await;
    assert_eq!(world.plant.scales(), [("r1".into(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_scale_write_that_fails_is_tried_again() {
    let world = World::new(settings(0, 0, 10)).await;
    world.plant.fail_scales([unavailable(), unavailable(), unavailable()]);
    let (_, waited) = world.call(millis(1)).await.unwrap();
    assert!(waited < millis(700), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scale_that_is_refused_is_told_and_tried_again_for_the_next_caller() {
    let world = World::new(settings(0, 0, 10)).await;
    world.plant.fail_scales([ScaleError::Refused("by a policy".into())]);
    let Err(Refusal::StartFailed(failure)) = world.call(millis(1)).await else {
        panic!("the scale was refused");
    };
    assert_eq!((failure.reason, &*failure.message), ("ScaleRefused", "by a policy"));
    sleep(2 * SECOND).await;
    world.call(millis(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_function_that_was_refused_to_the_end_of_its_idle_time_is_tried_anew() {
    let world = World::new(settings(0, 0, 10)).await;
    let refused = || ScaleError::Refused("by a policy".into());
    world.plant.fail_scales((0..8).map(|_| refused()));
    assert!(world.call(millis(1)).await.is_err());
    sleep(30 * SECOND).await;
    let mut calls = 0;
    while world.call(millis(1)).await.is_err() {
        calls += 1;
        assert!(calls < 10, "it never tries anew");
        sleep(20 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_may_come_before_the_deployment() {
    let world = World::without_deployment(settings(0, 0, 10)).await;
    let call = world.spawn_call(millis(1));
    sleep(SECOND).await;
    world.plant.create("r1", Behaviour::Starts);
    world.plant.status(None, "r1");
    call.await.unwrap().unwrap();
    world.until("it serves", |w| w.report().serving.as_deref() == Some("r1")).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_scale_is_put_right_without_a_fight() {
    let world = World::new(settings(0, 0, 10)).await;
    world.call(millis(1)).await.unwrap();
    world.plant.scale_by_hand("r1", 5);
    sleep(SECOND).await;
    assert_eq!(world.plant.replicas(), 1);
    let writes = world.plant.scales().len();
    for _ in 0..5 {
        world.plant.scale_by_hand("r1", 5);
        sleep(millis(500)).await;
    }
    assert_eq!(world.plant.scales().len(), writes, "it does not fight");
    world.until_asleep().await;
}

#[tokio::test(start_paused = true)]
async fn a_minimum_is_kept_without_load() {
    let world = World::new(settings(0, 2, 10)).await;
    world.until("the minimum is up", |w| w.report().revisions["r1"].ready == 2).await;
    sleep(Duration::from_hours(1)).await;
    assert_eq!(world.plant.scales(), [("r1".into(), 2)]);
    world.plant.kill_one();
    world.until("it is replaced", |w| w.report().revisions["r1"].ready == 2).await;
    assert_eq!(world.plant.scales().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_uninvited_is_left_at_once() {
    let world = World::new(settings(2, 2, 10)).await;
    world.until("up", |w| w.report().revisions["r1"].ready == 2).await;
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (gate, plant) = (Arc::clone(&world.gate), world.plant.clone());
            tokio::spawn(plant::call_until(gate, plant, Instant::now() + 20 * SECOND))
        })
        .collect();
    for _ in 0..3 {
        sleep(4 * SECOND).await;
        world.plant.kill_one();
        sleep(millis(5)).await;
        let astray = world.plant.cut().1;
        let (_, waited) = world.call(millis(1)).await.unwrap();
        assert!(waited < millis(500));
        sleep(SECOND).await;
        assert_eq!(world.plant.cut().1, astray, "nobody is sent to a pod that stops");
    }
    for caller in load {
        caller.await.unwrap();
    }
    assert_eq!(world.plant.replicas(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_restarts_gets_no_requests_until_it_answers_again() {
    let world = World::new(settings(0, 1, 1)).await;
    world.until("up", |w| w.report().revisions["r1"].ready == 1).await;
    world.plant.restart_one();
    sleep(millis(5)).await;
    let (_, waited) = world.call(millis(1)).await.unwrap();
    assert!((millis(350)..millis(420)).contains(&waited), "{waited:?}");
    assert_eq!(world.plant.cut(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_while_the_function_wakes_leaves_no_trace() {
    let world = World::new(settings(0, 0, 10)).await;
    let call = world.spawn_call(millis(1));
    sleep(millis(50)).await;
    call.abort();
    world.until_asleep().await;
    assert_eq!(world.report().last_activation, None);
    assert_eq!(world.gate.take_load().activation, None);
}

fn without_others(heir: Heir, metrics: ScalerMetrics) -> With {
    With { heir, others: false, metrics, seat: None, community: Arc::default() }
}

#[tokio::test(start_paused = true)]
async fn the_task_of_a_sleeping_function_is_small_and_waits_for_no_moment() {
    let world = World::new(settings(0, 0, 10)).await;
    let metrics = ControlMetrics::register(&mut Registry::default());
    let key = &world.observed.borrow().function.key.clone();
    let size = size_of_val(&run(world.task(metrics.of(key))));
    assert!(size <= 2048, "a task takes {size} bytes");
    let observed = Arc::clone(&world.observed.borrow());
    let gate = Gate::new(observed.function.settings.bounds);
    let heir = Heir { me: "me".into(), predecessors: Vec::new() };
    let with = without_others(heir, metrics.of(key));
    let mut scaler = Scaler::new(gate, Arc::clone(&observed), with, Instant::now());
    assert_eq!(scaler.observe(observed), []);
    let (actions, wake_at) = scaler.step(&Clocks::now());
    assert!(matches!(*actions, [Action::Publish(_)]), "{actions:?}");
    assert_eq!(wake_at, None);
    assert_eq!(scaler.step(&Clocks::now()), (vec![], None));
}

#[tokio::test(start_paused = true)]
async fn the_clock_wakes_a_function_before_it_calls_and_one_that_is_not_called_sleeps_again() {
    let world = World::new(settings(0, 0, 10)).await;
    let metrics = ControlMetrics::register(&mut Registry::default());
    let mut observed = Observed::clone(&world.observed.borrow());
    observed.ticks = vec![ticks(plant::UID, "* * * * *")];
    let observed = Arc::new(observed);
    let gate = Gate::new(observed.function.settings.bounds);
    let heir = Heir { me: "me".into(), predecessors: Vec::new() };
    let with = without_others(heir, metrics.of(&observed.function.key));
    let begun = Instant::now();
    let at = |seconds: u64| Clocks {
        instant: begun + Duration::from_secs(seconds),
        wall: Timestamp::from_second(seconds.try_into().unwrap()).unwrap(),
    };
    let mut scaler = Scaler::new(gate, Arc::clone(&observed), with, begun);
    scaler.observe(observed);
    let replicas_of = |actions: Vec<Action>| -> Vec<u32> {
        let of = |action: &Action| match action {
            Action::Scale { replicas, .. } => Some(*replicas),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    };
    let written = |scaler: &mut Scaler, version, now| {
        let result = Ok(Scaled { version });
        scaler.finish(Done::Scaled { revision: "r1".into(), result }, now);
    };
    let (actions, wake_at) = scaler.step(&at(10));
    assert_eq!((replicas_of(actions), wake_at), (vec![], Some(at(59).instant)));
    let (actions, _) = scaler.step(&at(59));
    assert_eq!(replicas_of(actions), [1], "a start is taken to need a second");
    written(&mut scaler, 1000, at(59).instant);
    let (actions, wake_at) = scaler.step(&at(60));
    assert_eq!((replicas_of(actions), wake_at), (vec![], Some(at(62).instant)));
    let (actions, _) = scaler.step(&at(62));
    assert_eq!(replicas_of(actions), [0], "nobody came");
    written(&mut scaler, 1001, at(62).instant);
    let (actions, wake_at) = scaler.step(&at(63));
    assert_eq!((replicas_of(actions), wake_at), (vec![], Some(at(119).instant)));
}
