//! A Function whose namespace may have so many pods only, on paused time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::plant::{World, settings};
use crate::admission::Refusal;

const LONG: Duration = Duration::from_secs(20);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn is_full(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::StartFailed(failure) if failure.reason == "NamespaceFull")
}

#[tokio::test(start_paused = true)]
async fn a_burst_gets_the_pods_that_the_namespace_has_left() {
    let world = World::capped(settings(1, 0, 10), 5).await;
    world.plant.see_other(3);
    let calls: Vec<_> = (0..8).map(|_| world.spawn_call(LONG)).collect();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.plant.replicas(), 2);
    assert_eq!(world.report().history.decisions.last().unwrap().reason, "NamespaceMax");
    assert!(world.gate.delay().unwrap().message.contains("have 5 pods, and may have 5"));
    world.plant.see_other(0);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.plant.replicas(), 5, "there is room again");
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_the_namespace_full_hears_it_at_once_and_is_served_when_it_is_not() {
    let world = World::capped(settings(1, 0, 10), 5).await;
    world.plant.see_other(5);
    for _ in 0..3 {
        let begun = Instant::now();
        let refused = world.call(millis(1)).await.unwrap_err();
        assert!(is_full(&refused) && begun.elapsed() < millis(50), "{refused:?}");
    }
    world.until("told", |w| w.report().last_error.is_some()).await;
    assert_eq!(world.report().last_error.unwrap().reason, "NamespaceFull");
    assert_eq!(world.plant.scales(), []);
    world.plant.see_other(4);
    world.until("over", |w| w.report().last_error.is_none()).await;
    assert_eq!(world.plant.scales(), [], "nobody waits any more");
    world.call(millis(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_pod_goes_sooner_for_one_that_may_be_wanted() {
    let world = World::capped(settings(1, 0, 10), 4).await;
    world.plant.see_other(3);
    world.plant.namespace.as_ref().unwrap().see(&"sleeper".into(), 0);
    world.call(millis(1)).await.unwrap();
    // A tenth of the idle time, which is ten seconds.
    sleep(millis(1500)).await;
    world.until_asleep().await;
    assert_eq!(world.report().history.decisions.last().unwrap().reason, "MadeRoom");
}

#[tokio::test(start_paused = true)]
async fn too_many_pods_are_given_back_without_a_request_being_cut_off() {
    let world = World::capped(settings(1, 0, 10), 6).await;
    let calls: Vec<_> = (0..6).map(|_| world.spawn_call(LONG)).collect();
    world.until("up", |w| w.plant.replicas() == 6).await;
    sleep(Duration::from_secs(2)).await;
    // Another owner, which had not seen these, took four.
    world.plant.see_other(4);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.plant.replicas(), 3, "half of the cap, well before the stable window is over");
    assert_eq!(world.plant.cut(), (0, 0));
}
