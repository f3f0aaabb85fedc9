//! A Function that learns from its idle times, on paused time.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rouse_core::scaling::idle::Idle;
use rouse_core::scaling::idle::economy::{Economy, Stakes};
use rouse_core::scaling::idle::history::{Ended, History, IdleTime};
use rouse_crds::v1alpha1::Learned;
use tokio::time::sleep;

use super::plant::{World, settings};
use crate::observe::objects::Settings;

const HOUR: Duration = Duration::from_hours(1);

fn learning() -> Settings {
    let mut settings = settings(0, 0, 10);
    settings.policy.idle = Idle::Learned(Stakes::usual(Economy::Balanced));
    settings
}

fn hourly() -> String {
    let mut history = History::default();
    (0..40).for_each(|_| history.push(IdleTime::new(HOUR, Ended::Called)));
    history.to_text()
}

#[tokio::test(start_paused = true)]
async fn a_periodic_caller_finds_a_pod_and_in_between_there_is_none() {
    let world = World::new(learning()).await;
    for _ in 0..30 {
        world.call(Duration::from_millis(50)).await.unwrap();
        sleep(HOUR).await;
    }
    world.call(Duration::from_millis(50)).await.unwrap();
    sleep(HOUR / 2).await;
    assert_eq!(world.plant.replicas(), 0, "nobody comes now");
    sleep(HOUR / 2).await;
    let (_, waited) = world.call(Duration::from_millis(1)).await.unwrap();
    assert!(waited < Duration::from_millis(50), "{waited:?}");
    assert!(world.report().learned.is_some());
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_told_or_written() {
    let world = World::new(learning()).await;
    world.call(Duration::from_millis(50)).await.unwrap();
    sleep(HOUR).await;
    let (told, writes) = (world.report(), world.plant.scales().len());
    sleep(100 * HOUR).await;
    assert_eq!((world.report(), world.plant.scales().len()), (told, writes));
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_goes_on_with_what_was_learned() {
    let idle_since = Timestamp::now() - jiff::SignedDuration::from_mins(30);
    let learned = Learned { idle_times: hourly(), idle_since: Some(Time(idle_since)) };
    let world = World::inheriting(learning(), learned).await;
    sleep(HOUR / 4).await;
    assert_eq!(world.plant.replicas(), 0, "nobody comes now");
    sleep(HOUR / 4).await;
    assert_eq!(world.plant.replicas(), 1, "somebody is likely to");
    let (_, waited) = world.call(Duration::from_millis(1)).await.unwrap();
    assert!(waited < Duration::from_millis(50), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_left_unheeded() {
    for idle_times in ["CQAAAAA", "not base64!", "", "AQ"] {
        let learned = Learned { idle_times: idle_times.into(), idle_since: None };
        let world = World::inheriting(learning(), learned).await;
        world.call(Duration::from_millis(50)).await.unwrap();
        sleep(Duration::from_mins(9)).await;
        assert_eq!(world.plant.replicas(), 1, "as if nothing were known");
        sleep(Duration::from_mins(2)).await;
        assert_eq!(world.plant.replicas(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_learn_heeds_nothing_learned() {
    let idle_since = Some(Time(Timestamp::now()));
    let learned = Learned { idle_times: hourly(), idle_since };
    let world = World::inheriting(settings(0, 0, 10), learned).await;
    sleep(2 * HOUR).await;
    assert_eq!(world.plant.scales(), []);
    world.call(Duration::from_millis(50)).await.unwrap();
    assert_eq!(world.report().learned, None);
}
