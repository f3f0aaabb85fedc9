//! Functions with source: their code comes to pods as they wake, and what is wrong with it is told.

use super::plant::World;
use super::*;
use crate::instances::shim::Phase;

/// A sleeping Function whose revision `r1` has source and was ready before.
async fn with_source(phase: Phase) -> World {
    let world = World::without_deployment(settings(0, 0, 10)).await;
    world.plant.create("r1", Behaviour::Source(phase));
    world.plant.status(Some("r1"), "r1");
    sleep(millis(10)).await;
    world
}

/// Why a call is turned away, and how soon.
async fn refused(world: &World) -> (&'static str, String, Duration) {
    let begun = Instant::now();
    match world.call(millis(10)).await {
        Err(Refusal::StartFailed(failure)) => {
            (failure.reason, failure.message.clone(), begun.elapsed())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn code_is_read_beside_the_scale_write_and_each_pod_gets_it_once() {
    let image = World::new(settings(0, 0, 10)).await;
    let (_, by_image) = image.call(millis(50)).await.unwrap();
    let world = with_source(Phase::Other).await;
    let (_, waited) = world.call(millis(50)).await.unwrap();
    // The shim is up after 5 ms, and takes code for 3.
    assert!(waited < by_image + millis(40), "{waited:?} instead of {by_image:?}");
    let calls: Vec<_> = (0..25).map(|_| world.spawn_call(5 * SECOND)).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let (read, pushed) = world.plant.supplied();
    assert!(read.len() >= 2 && read.iter().all(|record| record == "f-r1"), "{read:?}");
    let mut pods: Vec<_> = pushed.iter().map(|(pod, _)| pod.clone()).collect();
    assert!(pods.len() >= 2, "{pods:?}");
    pods.sort();
    pods.dedup();
    assert_eq!(pods.len(), pushed.len(), "once each");
    assert!(pushed.iter().all(|(_, code)| code == "f-r1"));
    world.until_asleep().await;
    assert_eq!(world.plant.cut(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn code_that_is_no_good_answers_at_once_in_the_words_of_the_pod() {
    for (phase, reason) in [(Phase::CodeRefused, "CodeRefused"), (Phase::InitFailed, "InitFailed")]
    {
        let world = with_source(phase).await;
        let (told, message, took) = refused(&world).await;
        assert_eq!((told, &*message), (reason, "as the shim says"));
        assert!(took < millis(500), "{took:?}");
        let (_, _, again) = refused(&world).await;
        assert_eq!(again, Duration::ZERO, "who comes later need not wait");
        world.until("it is told", |w| w.report().last_error.is_some()).await;
        assert_eq!(world.report().last_error.unwrap().reason, reason);
        assert_eq!(world.plant.scales(), [("r1".into(), 1)], "no loop");
        world.until_asleep().await;

        world.plant.create("r2", Behaviour::Source(Phase::Other));
        world.plant.status(Some("r1"), "r2");
        world.until("the mended one serves", |w| w.report().serving.as_deref() == Some("r2")).await;
        world.call(millis(10)).await.unwrap();
        world.until("no error", |w| w.report().last_error.is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_whose_code_does_not_come_up_takes_no_traffic() {
    let world = with_source(Phase::Other).await;
    let long = world.spawn_call(20 * SECOND);
    sleep(SECOND).await;
    world.plant.create("r2", Behaviour::Source(Phase::InitFailed));
    world.plant.status(Some("r1"), "r2");
    world.until("the error is told", |w| w.report().last_error.is_some()).await;
    let error = world.report().last_error.unwrap();
    assert_eq!((&*error.revision, &*error.reason), ("r2", "InitFailed"));
    for _ in 0..5 {
        assert_eq!(&*world.call(millis(10)).await.unwrap().0, "r1");
    }
    assert_eq!(&*long.await.unwrap().unwrap().0, "r1");
}

#[tokio::test(start_paused = true)]
async fn code_that_comes_up_after_all_serves() {
    let world = with_source(Phase::InitFailed).await;
    refused(&world).await;
    world.plant.mend_code();
    world.until("it serves", |w| w.report().revisions["r1"].ready == 1).await;
    let (_, waited) = world.call(millis(10)).await.unwrap();
    assert!(waited < millis(10), "{waited:?}");
    world.until("no error", |w| w.report().last_error.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_a_little_late_is_waited_for() {
    let world = with_source(Phase::Other).await;
    world.plant.hide_records(2 * SECOND);
    let (_, waited) = world.call(millis(10)).await.unwrap();
    assert!((2 * SECOND..3 * SECOND).contains(&waited), "{waited:?}");
    assert_eq!(world.report().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_lost_is_told() {
    let world = with_source(Phase::Other).await;
    world.plant.hide_records(Duration::from_hours(1));
    let (reason, message, took) = refused(&world).await;
    assert_eq!(reason, "CodeUnavailable");
    assert!(message.contains("ControllerRevision f-r1"), "{message}");
    assert!((5 * SECOND..6 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_brings_the_code_to_pods_that_wait_for_it() {
    let world = with_source(Phase::Other).await;
    world.plant.hide_records(2 * SECOND);
    let call = world.spawn_call(millis(10));
    sleep(SECOND).await;
    assert!(world.plant.supplied().1.is_empty());
    world.running.abort();
    let metrics = ControlMetrics::register(&mut Registry::default());
    let key = rouse_core::function::FunctionKey::new("shop", plant::UID);
    tokio::spawn(run(world.task(metrics.of(&key))));
    call.await.unwrap().unwrap();
    assert_eq!(world.plant.supplied().1.len(), 1);
}
