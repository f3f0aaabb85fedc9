//! The runner between a server in memory and a Function that fails, on a paused clock: whatever is
//! killed, nothing is lost and nothing acknowledged early.

use std::sync::Mutex;

use futures::FutureExt;
use prometheus_client::metrics::counter::Counter;
use rouse_core::simulation::chance::Chance;
use rouse_crds::v1alpha1::Delivery;
use tokio::time::sleep;

use super::*;
use crate::metrics::Metrics;
use crate::scripted::Server;

/// A Function that fails now and then.
struct Flaky {
    server: Server,
    chance: Mutex<Chance>,
}

impl Call for Flaky {
    fn call(
        &self,
        _: &FunctionKey,
        message: Message,
        limit: Duration,
    ) -> BoxFuture<'static, Outcome> {
        let id: u64 = message.header("ce-id").unwrap().parse().unwrap();
        let (works, pause) = {
            let mut chance = self.chance.lock().unwrap();
            (chance.below(4) > 0, Duration::from_millis(chance.number() % 50))
        };
        let server = self.server.clone();
        let call = async move {
            sleep(pause).await;
            if !works {
                return Outcome::Failed;
            }
            server.with(|state| state.done.insert(id));
            Outcome::Done
        };
        timeout(limit, call).map(|outcome| outcome.unwrap_or(Outcome::Failed)).boxed()
    }
}

fn start(
    server: &Server,
    seed: u64,
    stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    start_filtered(server, seed, None, Metrics::default().of("t"), stop)
}

fn start_filtered(
    server: &Server,
    seed: u64,
    filter: Option<Filter>,
    metrics: TriggerMetrics,
    stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let delivery = Delivery { attempts: 1000, backoff: "100ms..1s".into(), ..Delivery::default() };
    let work = Work {
        key: TriggerKey { namespace: "shop".into(), name: "t".into() },
        uid: format!("u{seed}").into(),
        function: FunctionKey::new("shop", "f"),
        filter,
        settings: Settings::of("shop", &delivery).unwrap(),
    };
    let target = Target { in_flight: 8, limit: Duration::from_secs(30) };
    let caller = Flaky { server: server.clone(), chance: Mutex::new(Chance::new(seed, 7)) };
    let (target_sender, target) = watch::channel(Some(target));
    let wires = Wires {
        caller: Arc::new(caller),
        target,
        bury: None,
        outlook: watch::Sender::new(Outlook::default()),
        metrics,
        clock: Arc::new(|| Timestamp::UNIX_EPOCH),
    };
    let server = server.clone();
    async move {
        run(server, work, wires, stop).await;
        drop(target_sender);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_killed_nothing_is_lost() {
    const EVENTS: u64 = 200;
    for seed in 0..30 {
        let server = Server::default();
        server.with(|state| state.events = EVENTS);
        let mut chance = Chance::new(seed, 3);
        let (_keep, stop) = watch::channel(false);
        let mut process = tokio::spawn(start(&server, seed, stop.clone()));
        while server.with(|state| state.acknowledged.len() < 200) {
            sleep(Duration::from_millis(chance.number() % 300)).await;
            if chance.below(2) == 0 {
                process.abort();
                let _ = process.await;
                process = tokio::spawn(start(&server, chance.number(), stop.clone()));
            } else {
                server.broken.notify_one();
            }
        }
        process.abort();
        server.with(|state| {
            assert!(state.early.is_empty(), "seed {seed}: {:?}", state.early);
            assert_eq!(state.done.len(), 200, "seed {seed}");
            assert!(state.connections > 1, "seed {seed}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_the_function_may_run_and_the_end_is_clean() {
    let server = Server::default();
    server.with(|state| state.events = 100);
    let (stopper, stop) = watch::channel(false);
    let process = tokio::spawn(start(&server, 1, stop));
    sleep(Duration::from_millis(200)).await;
    stopper.send_replace(true);
    process.await.unwrap();
    server.with(|state| {
        assert!(state.most_out <= 8, "{}", state.most_out);
        assert_eq!(state.acknowledged, state.done, "what was under way is done and acknowledged");
        assert!(!state.done.is_empty() && state.done.len() < 100, "{}", state.done.len());
    });
}

#[tokio::test(start_paused = true)]
async fn what_the_filter_keeps_back_is_acknowledged_and_never_sent() {
    let server = Server::default();
    server.with(|state| state.events = 100);
    let metrics = Metrics::default().of("t");
    let text = "int(event.id) % 10 == 0 || int(event.id) % 10 == 1 && event.missing == 'x'";
    let filter = Filter::parse(text).unwrap();
    let (_keep, stop) = watch::channel(false);
    let process =
        tokio::spawn(start_filtered(&server, 1, Some(filter), metrics.clone(), stop.clone()));
    while server.with(|state| state.acknowledged.len() < 100) {
        sleep(Duration::from_millis(100)).await;
    }
    process.abort();
    let tens: Vec<u64> = (0..10).map(|ten| ten * 10).collect();
    server.with(|state| assert!(state.done.iter().eq(&tens), "{:?}", state.done));
    let said = [&metrics.differing, &metrics.unclear, &metrics.too_large].map(Counter::get);
    assert_eq!((metrics.delivered.get(), said), (10, [80, 10, 0]));
}
