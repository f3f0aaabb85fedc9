//! Stories of schedules: a Function that notes which ticks reach it, on a paused clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use rouse_core::delivery::Outcome;
use rouse_core::event::Message;
use rouse_peer::Call;
use tokio::time::Instant;

use super::*;
use crate::schedules::{self, Outside};

/// When the stories begin.
const BEGINNING: &str = "2026-01-01T00:00:00Z";

/// What the Functions of a story do and saw.
#[derive(Clone, Default)]
struct Functions {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// How long each call takes.
    take: Duration,
    /// What comes of it.
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    function: String,
    time: String,
    id: String,
    reason: Option<String>,
}

impl Call for Functions {
    fn call(
        &self,
        function: &FunctionKey,
        message: Message,
        limit: Duration,
    ) -> BoxFuture<'static, Outcome> {
        let header = |name: &str| message.header(name).map(str::to_owned);
        self.seen.lock().unwrap().push(Seen {
            function: function.name.to_string(),
            time: header("ce-time").unwrap(),
            id: header("ce-id").unwrap(),
            reason: header("ce-rousereason"),
        });
        let is_letter = header("ce-rousereason").is_some();
        let outcome = self.outcome.clone().filter(|_| !is_letter).unwrap_or(Outcome::Done);
        let take = self.take;
        let call = async move {
            sleep(take).await;
            outcome
        };
        tokio::time::timeout(limit, call).map(|o| o.unwrap_or(Outcome::Failed)).boxed()
    }
}

/// A controller that keeps schedules, and the clock that it goes by.
struct Story {
    rig: Rig,
    functions: Functions,
    began: Instant,
}

impl Story {
    async fn new(functions: Functions, trigger: Value) -> Self {
        let rig = Rig::new().await;
        rig.create_function(&json!({}));
        rig.api.make("triggers", trigger);
        let mut story = Self { rig, functions, began: Instant::now() };
        story.keep();
        story
    }

    fn keep(&mut self) {
        let began = self.began;
        let beginning: Timestamp = BEGINNING.parse().unwrap();
        let outside = Outside {
            caller: Arc::new(self.functions.clone()),
            clock: Arc::new(move || beginning + began.elapsed()),
        };
        let run = schedules::run(self.rig.context.clone(), outside);
        self.rig.tasks.spawn(run.map(|()| "schedules"));
    }

    /// The process dies in the midst of it all, and another leads after `pause`.
    async fn lead_anew(&mut self, pause: Duration) {
        self.rig.tasks.shutdown().await;
        sleep(pause).await;
        self.rig.restart().await;
        self.keep();
    }

    fn seen(&self) -> Vec<Seen> {
        self.functions.seen.lock().unwrap().clone()
    }

    /// The times of the ticks that came, in order, each with the seconds since the beginning.
    fn times(&self) -> Vec<i64> {
        let beginning: Timestamp = BEGINNING.parse().unwrap();
        let time = |seen: &Seen| seen.time.parse::<Timestamp>().unwrap();
        self.seen().iter().map(|seen| time(seen).duration_since(beginning).as_secs()).collect()
    }

    fn status(&self) -> Value {
        self.rig.api.get("triggers", NAMESPACE, "t").unwrap()["status"].clone()
    }
}

fn trigger(cron: &str, schedule: &Value, delivery: &Value) -> Value {
    let mut spec = json!({"cron": cron});
    spec.as_object_mut().unwrap().extend(schedule.as_object().unwrap().clone());
    json!({
        "apiVersion": "rouse.dev/v1alpha1",
        "kind": "Trigger",
        "metadata": {
            "name": "t", "namespace": NAMESPACE, "generation": 1, "creationTimestamp": BEGINNING,
        },
        "spec": {"function": "hello", "schedule": spec, "delivery": delivery},
    })
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test(start_paused = true)]
async fn ticks_come_on_time_and_progress_is_written_at_a_pace() {
    let story =
        Story::new(Functions::default(), trigger("@every 2s", &json!({}), &json!({}))).await;
    sleep(secs(61)).await;
    assert_eq!(story.times(), (1..=30).map(|n| n * 2).collect::<Vec<_>>());
    let status = story.status();
    assert_eq!(conditions(&status), ["Ready=True/Scheduled"]);
    assert_eq!(status["schedule"]["pattern"], "@every 2s UTC");
    let lines = story.rig.api.lines();
    let progress = lines.iter().filter(|line| line.contains("rouse-schedule")).count();
    assert!((4..=8).contains(&progress), "{progress} writes in a minute: {lines:?}");
    let conditions = lines.iter().filter(|line| line.contains("triggers")).count() - progress;
    assert_eq!(conditions, 1, "the conditions are not written with it: {lines:?}");
    story.rig.api.remove("triggers", NAMESPACE, "t");
    sleep(secs(1)).await;
    let count = story.times().len();
    sleep(secs(30)).await;
    assert_eq!(story.times().len(), count, "a Trigger that is gone has no ticks");
}

#[tokio::test(start_paused = true)]
async fn leaders_that_die_at_ticks_lose_none_and_each_tick_has_one_id() {
    let functions = Functions { take: Duration::from_millis(1500), ..Functions::default() };
    let mut story = Story::new(functions, trigger("@every 2s", &json!({}), &json!({}))).await;
    for death in 0..12 {
        sleep(Duration::from_millis(11_000 + death * 270)).await;
        story.lead_anew(secs(death % 5)).await;
    }
    sleep(secs(15)).await;
    let last = *story.times().last().unwrap();
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for seen in story.seen() {
        ids.entry(seen.time).or_default().insert(seen.id);
    }
    assert_eq!(i64::try_from(ids.len()).unwrap(), last / 2, "{:?}", story.times());
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    let distinct: BTreeSet<_> = ids.values().flatten().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_fails_is_sent_again_and_goes_to_the_dead_letters() {
    let functions = Functions { outcome: Some(Outcome::Failed), ..Functions::default() };
    let delivery =
        json!({"attempts": 3, "backoff": "1s..10s", "deadLetter": {"function": "undertaker"}});
    let mut undertaker = function(&json!({}));
    undertaker["metadata"] =
        json!({"name": "undertaker", "namespace": NAMESPACE, "uid": "uid-undertaker"});
    let story = Story::new(functions, trigger("@every 1h", &json!({}), &delivery)).await;
    story.rig.api.make("functions", undertaker);
    sleep(secs(3700)).await;
    let seen = story.seen();
    let of = |seen: &Seen| (seen.function.clone(), seen.reason.clone());
    let hello = ("hello".to_owned(), None);
    let letter = ("undertaker".to_owned(), Some("attempts".to_owned()));
    let told: Vec<_> = seen.iter().map(of).collect();
    assert_eq!(told, [hello.clone(), hello.clone(), hello, letter]);
    assert!(seen.iter().all(|other| other.id == seen[0].id), "{seen:?}");
    assert_eq!(story.status()["schedule"]["settledUntil"], "2026-01-01T01:00:00Z");
    assert_eq!(story.status()["schedule"]["lastDelivered"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn ticks_wait_for_their_function() {
    let mut story =
        Story::new(Functions::default(), trigger("@every 10s", &json!({}), &json!({}))).await;
    story.rig.api.remove("functions", NAMESPACE, "hello");
    sleep(secs(35)).await;
    assert_eq!(story.times(), [0; 0]);
    assert_eq!(conditions(&story.status())[0], "Ready=False/FunctionMissing");
    story.rig.create_function(&json!({}));
    sleep(secs(20)).await;
    assert_eq!(story.times()[..3], [10, 20, 30], "they are caught up");
    story.rig.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_runs_holds_off_the_next_or_gives_way() {
    for (policy, expected) in [("Forbid", vec![10, 40, 70]), ("Replace", vec![10, 20, 30, 40])] {
        let functions = Functions { take: secs(25), ..Functions::default() };
        let schedule = json!({"concurrencyPolicy": policy});
        let story = Story::new(functions, trigger("@every 10s", &schedule, &json!({}))).await;
        sleep(secs(75)).await;
        assert_eq!(story.times()[..expected.len()], expected, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_changed_begins_anew() {
    let story =
        Story::new(Functions::default(), trigger("@every 1h", &json!({}), &json!({}))).await;
    sleep(secs(1000)).await;
    story.rig.api.change("triggers", NAMESPACE, "t", |trigger| {
        trigger["spec"]["schedule"]["cron"] = json!("@every 5m");
    });
    sleep(secs(600)).await;
    assert_eq!(story.times(), [1200, 1500], "those before the change are not made up for");
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_never_comes_is_told() {
    let story =
        Story::new(Functions::default(), trigger("0 0 30 2 *", &json!({}), &json!({}))).await;
    sleep(secs(60)).await;
    let status = story.status();
    assert_eq!(
        conditions(&status),
        ["Ready=False/ScheduleInvalid", "Stalled=True/ScheduleInvalid"]
    );
    assert_eq!(story.times(), [0; 0]);
}
