//! A server of NATS for a test, a Function that records, and a source between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use rouse_core::delivery::{Outcome, Target};
use rouse_core::event::{CloudEvent, Message};
use rouse_core::function::FunctionKey;
use rouse_core::simulation::chance::Chance;
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::Delivery;
use rouse_peer::Call;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::address::Policy;
use crate::credentials::Secrets;
use crate::metrics::Metrics;
use crate::nats::{Connections, Login, Messages, Nats, Server, Settings, Start, Stream};
use crate::runner::{Bury, Outlook, Wires, Work, run};

/// Until when anything must have happened.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server, killed with this.
pub struct Broker {
    folder: PathBuf,
    port: u16,
    arguments: Vec<&'static str>,
    child: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Broker {
    pub async fn start(arguments: &[&'static str]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("rouse-nats-{}-{port}", std::process::id()));
        let child = spawn(&folder, port, arguments);
        let broker = Self { folder, port, arguments: arguments.to_vec(), child };
        broker.listens().await;
        broker
    }

    async fn listens(&self) {
        until(async || tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok())
            .await;
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, self.port, &self.arguments);
        self.listens().await;
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub async fn context(&self) -> Context {
        let mut client = None;
        until(async || {
            client = async_nats::connect(self.url()).await.ok();
            client.is_some()
        })
        .await;
        async_nats::jetstream::new(client.unwrap())
    }

    /// A client, and a stream `S` with all subjects `s.*`.
    pub async fn stream(&self) -> Context {
        let context = self.context().await;
        make_stream(&context).await;
        context
    }
}

/// A port that nobody listens at, below those that the system gives to whoever connects: the server
/// must get it again.
fn free_port() -> u16 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = LAST.fetch_add(1, Ordering::Relaxed) + std::process::id() * 97;
        let port = 20_000 + u16::try_from(number % 10_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub async fn make_stream(context: &Context) {
    let (name, subjects) = ("S".to_owned(), vec!["s.*".to_owned()]);
    let config = async_nats::jetstream::stream::Config { name, subjects, ..Default::default() };
    context.create_stream(config).await.unwrap();
}

fn spawn(folder: &PathBuf, port: u16, arguments: &[&str]) -> Child {
    let program = std::env::var_os("ROUSE_NATS_SERVER").expect("cargo xtask test sets it");
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream"]);
    command.arg("--store_dir").arg(folder).args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
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

/// Keeps dead letters.
#[derive(Clone, Default)]
pub struct Grave(pub Arc<Mutex<Vec<CloudEvent>>>);

impl Bury for Grave {
    fn bury(&self, letter: CloudEvent) -> BoxFuture<'static, bool> {
        self.0.lock().unwrap().push(letter);
        std::future::ready(true).boxed()
    }
}

/// How a source is set up.
pub struct Setup {
    pub settings: Settings,
    pub delivery: serde_json::Value,
    pub batch: usize,
    pub in_flight: usize,
    pub secrets: PathBuf,
    pub grave: Option<Arc<dyn Bury>>,
}

impl Setup {
    pub fn new(broker: &Broker) -> Self {
        let server = Server { urls: vec![broker.url()], login: Login::Nobody, tls: None };
        let stream = Stream {
            name: "S".into(),
            consumer: "rouse-t".into(),
            subjects: Vec::new(),
            start: Start::Earliest,
            ack_wait: Duration::from_secs(2),
        };
        Self {
            settings: Settings { server, messages: Messages::Stream(stream) },
            delivery: serde_json::json!({"attempts": 1000, "backoff": "10ms..100ms"}),
            batch: 1,
            in_flight: 16,
            secrets: broker.folder.join("secrets"),
            grave: None,
        }
    }

    pub fn stream(&mut self) -> &mut Stream {
        match &mut self.settings.messages {
            Messages::Stream(stream) => stream,
            Messages::Subject { .. } => panic!("it has a subject"),
        }
    }

    pub fn start(&self, function: &Function) -> Running {
        self.start_on(function, connections(&self.secrets))
    }

    pub fn start_on(&self, function: &Function, connections: Connections) -> Running {
        let delivery: Delivery = serde_json::from_value(self.delivery.clone()).unwrap();
        let mut settings = rouse_core::delivery::Settings::of("shop", &delivery).unwrap();
        settings.policy.batch = self.batch.try_into().unwrap();
        if self.batch > 1 {
            settings.format = rouse_crds::v1alpha1::EventFormat::Lambda;
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
            caller: Arc::new(function.clone()),
            target,
            bury: self.grave.clone(),
            outlook,
            metrics: Metrics::default().of("t"),
            clock: Arc::new(Timestamp::now),
        };
        let source = Nats::new(self.settings.clone(), connections);
        let task = tokio::spawn(run(source, work, wires, stop)).abort_handle();
        Running { outlook: watched, task, _keep: (keep_target, stopper) }
    }
}

/// Connections of a source's own, to this machine.
pub fn connections(secrets: &Path) -> Connections {
    let allowed = vec!["127.0.0.0/8".parse().unwrap()];
    let policy = Policy { allowed, forbidden: Vec::new() };
    Connections::new(Secrets::below(secrets), Arc::new(policy))
}

/// A source that runs, killed with this.
pub struct Running {
    pub outlook: watch::Receiver<Outlook>,
    task: AbortHandle,
    _keep: (watch::Sender<Option<Target>>, watch::Sender<bool>),
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
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
        let told = timeout(PATIENCE, self.outlook.wait_for(|told| told.progress.lag == Some(lag)));
        let told = told.await.map(drop);
        assert!(told.is_ok(), "{lag}: {:?}", self.outlook.borrow());
    }
}
