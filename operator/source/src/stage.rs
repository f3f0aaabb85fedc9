//! What tests of sources against real servers share: a Function that records, a place for dead
//! letters, and a source that runs between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use rouse_core::delivery::{Outcome, Settings, Target};
use rouse_core::event::{CloudEvent, Message};
use rouse_core::function::FunctionKey;
use rouse_core::simulation::chance::Chance;
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::{Delivery, EventFormat};
use rouse_peer::Call;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::address::Policy;
use crate::metrics::Metrics;
use crate::runner::{Bury, Outlook, Wires, Work, run};
use crate::source::Source;

/// Until when anything must have happened.
const PATIENCE: Duration = Duration::from_secs(30);

/// A port that nobody listens at, below those that the system gives to whoever connects: the server
/// must get it again.
pub fn free_port() -> u16 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = LAST.fetch_add(1, Ordering::Relaxed) + std::process::id() * 97;
        let port = 20_000 + u16::try_from(number % 10_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `what` is so.
pub async fn until(mut what: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !what().await {
        assert!(started.elapsed() < PATIENCE, "it did not come to be in time");
        sleep(Duration::from_millis(10)).await;
    }
}

/// What the Function saw: by body, the ids under which it came.
#[derive(Default)]
pub struct Seen {
    pub order: Vec<String>,
    pub ids: BTreeMap<String, Vec<String>>,
    pub headers: Vec<(String, String)>,
}

/// A Function that takes its time, and fails now and then.
#[derive(Clone)]
pub struct Function {
    pub seen: Arc<Mutex<Seen>>,
    pub takes: Duration,
    /// Of ten calls, so many fail.
    pub fails: usize,
    chance: Arc<Mutex<Chance>>,
}

impl Function {
    pub fn new(seed: u64) -> Self {
        let chance = Arc::new(Mutex::new(Chance::new(seed, 1)));
        Self { seen: Arc::default(), takes: Duration::ZERO, fails: 0, chance }
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().ids.len()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.seen.lock().unwrap().order.clone()
    }
}

impl Call for Function {
    fn call(
        &self,
        _: &FunctionKey,
        message: Message,
        limit: Duration,
    ) -> BoxFuture<'static, Outcome> {
        let function = self.clone();
        let call = async move {
            sleep(function.takes).await;
            if function.chance.lock().unwrap().below(10) < function.fails {
                return Outcome::Failed;
            }
            let id = message.header("ce-id").unwrap_or_default().to_owned();
            let body = String::from_utf8(message.body).unwrap();
            let mut seen = function.seen.lock().unwrap();
            seen.order.push(body.clone());
            seen.ids.entry(body).or_default().push(id);
            seen.headers = message.headers;
            Outcome::Done
        };
        timeout(limit, call).map(|outcome| outcome.unwrap_or(Outcome::Failed)).boxed()
    }
}

/// Lets sources connect to this machine, which is forbidden else.
pub fn loopback() -> Arc<Policy> {
    Arc::new(Policy { allowed: vec!["127.0.0.0/8".parse().unwrap()], forbidden: Vec::new() })
}

/// Keeps dead letters.
#[derive(Clone, Default)]
pub struct Grave(pub Arc<Mutex<Vec<CloudEvent>>>);

impl Bury for Grave {
    fn bury(&self, letter: CloudEvent) -> BoxFuture<'static, bool> {
        self.0.lock().unwrap().push(letter);
        std::future::ready(true).boxed()
    }
}

/// What holds for the deliveries of a source.
pub struct Play {
    pub delivery: serde_json::Value,
    pub batch: usize,
    pub in_flight: usize,
    pub grave: Option<Arc<dyn Bury>>,
}

impl Default for Play {
    fn default() -> Self {
        let delivery = serde_json::json!({"attempts": 1000, "backoff": "10ms..100ms"});
        Self { delivery, batch: 1, in_flight: 16, grave: None }
    }
}

impl Play {
    /// Runs `source` for the Function behind `caller`; batches are in the shape of Lambda.
    pub fn start(&self, source: impl Source, caller: Arc<dyn Call>) -> Running {
        let delivery: Delivery = serde_json::from_value(self.delivery.clone()).unwrap();
        let mut settings = Settings::of("shop", &delivery).unwrap();
        settings.policy.batch = self.batch.try_into().unwrap();
        if self.batch > 1 {
            settings.format = EventFormat::Lambda;
        }
        let work = Work {
            key: TriggerKey { namespace: "shop".into(), name: "t".into() },
            uid: "u".into(),
            function: FunctionKey::new("shop", "f"),
            filter: None,
            settings,
        };
        let target = Target { in_flight: self.in_flight, limit: Duration::from_secs(30) };
        let (keep_target, target) = watch::channel(Some(target));
        let (stopper, stop) = watch::channel(false);
        let (outlook, watched) = watch::channel(Outlook::default());
        let wires = Wires {
            caller,
            target,
            bury: self.grave.clone(),
            outlook,
            metrics: Metrics::default().of("t"),
            clock: Arc::new(Timestamp::now),
        };
        let task = tokio::spawn(run(source, work, wires, stop));
        Running { outlook: watched, task, stopper, _keep: keep_target }
    }
}

/// A source that runs, killed with this.
pub struct Running {
    pub outlook: watch::Receiver<Outlook>,
    task: JoinHandle<()>,
    stopper: watch::Sender<bool>,
    _keep: watch::Sender<Option<Target>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// Ends it as a pod ends that is told to.
    pub async fn stop(mut self) {
        self.stopper.send_replace(true);
        (&mut self.task).await.unwrap();
    }

    pub async fn says(&mut self, reason: &str) {
        let told = self.outlook.wait_for(|outlook| {
            outlook.trouble.as_ref().is_some_and(|trouble| trouble.reason == reason)
        });
        let told = timeout(PATIENCE, told).await.map(drop);
        assert!(told.is_ok(), "{reason}: {:?}", self.outlook.borrow());
    }

    pub async fn connects(&mut self) {
        let told = timeout(PATIENCE, self.outlook.wait_for(|told| told.progress.connected));
        let told = told.await.map(drop);
        assert!(told.is_ok(), "{:?}", self.outlook.borrow());
    }

    pub async fn lags(&mut self, lag: u64) {
        self.lags_as(|told| told == lag).await;
    }

    pub async fn lags_at_least(&mut self, lag: u64) {
        self.lags_as(|told| told >= lag).await;
    }

    async fn lags_as(&mut self, is_so: impl Fn(u64) -> bool) {
        let told = self.outlook.wait_for(|told| told.progress.lag.is_some_and(&is_so));
        let told = timeout(PATIENCE, told).await.map(drop);
        assert!(told.is_ok(), "{:?}", self.outlook.borrow());
    }
}
