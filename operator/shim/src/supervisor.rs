//! Keeps a language process: starts it, waits until it takes requests, ends it when it hangs, and
//! starts it again. What it speaks is a [`Tongue`]'s business.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::log::Log;
use crate::process::{Exit, Output, Reaper, Requests, Running, Start};
use crate::settings::Settings;
use crate::state::Board;

/// Orders that may wait. One is enough to end a process; more say the same.
const ORDERS: usize = 8;
/// A process that lived so long lived well.
const LIVED: Duration = Duration::from_secs(10);
/// The pauses before one that took requests, and soon went away by itself, is started again. The
/// first time it is at once: somebody waits.
const LATER: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(1);
/// Ends of young ones by somebody's SIGKILL before the first request that are not held against the
/// code, in a row: whoever waits is served by the next start. One that takes long to come up is no
/// longer young, or who waits for what memory is short for would wait for all of them.
const FORGIVEN: u32 = 4;
const YOUNG: Duration = Duration::from_secs(2);
/// The pauses before one that does not come up is tried again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a language process speaks.
pub trait Tongue: Send + Sync + 'static {
    /// Gets ready for a process that is about to start, and gives the variables that it needs.
    fn prepare(&self) -> impl Future<Output = io::Result<Vec<(String, String)>>> + Send;
    /// Waits until the process takes requests. An error is what it says of why it can't.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// The process takes requests; it can be ended by `handle`.
    fn begin(&self, handle: Handle);
    /// The process ends or has ended, and why: it gets no more requests, but what it has said already
    /// still counts.
    fn ends(&self, cause: &str);
    /// The process is gone, and why: whoever waits for it waits in vain.
    fn gone(&self, cause: &str);
    /// The requests that the process has.
    fn requests(&self) -> Arc<Requests>;
}

/// What all language processes share.
#[derive(Debug)]
pub struct World {
    /// What the environment says.
    pub settings: Settings,
    /// Where lines go.
    pub log: Log,
    /// What the pod has come to.
    pub board: Board,
    /// Who waits for processes.
    pub reaper: Arc<Reaper>,
    /// What is started instead of what the environment says, and where.
    pub program: OnceLock<(Vec<String>, PathBuf)>,
    starts: AtomicU64,
}

impl World {
    /// A world without processes.
    pub fn new(settings: Settings, log: Log) -> Self {
        let board = Board::new(settings.digest.to_string());
        let starts = AtomicU64::new(0);
        Self { settings, log, board, reaper: Arc::default(), program: OnceLock::new(), starts }
    }

    /// Program and arguments of the language process, and where it runs.
    fn program(&self) -> (&[String], &Path) {
        let own = (&self.settings.command[..], self.settings.folder.as_path());
        self.program.get().map_or(own, |(command, folder)| (command, folder))
    }

    /// A name that no other process of this pod has.
    fn mark(&self) -> String {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        format!("{}-{start}", std::process::id())
    }
}

/// What a supervisor is told.
#[derive(Debug)]
enum Order {
    /// The process of this start is to be replaced.
    Replace { start: u64, why: String },
    /// The pod ends.
    Terminate,
    /// A signal is to be passed on.
    Signal(Signal),
}

/// A process that takes requests, seen from those who send them.
#[derive(Clone, Debug)]
pub struct Handle {
    start: u64,
    orders: mpsc::Sender<Order>,
    /// What it prints.
    pub output: Arc<Output>,
    id: i32,
}

impl Handle {
    /// Has the process replaced, at once.
    pub fn replace(&self, why: impl Into<String>) {
        // A full queue is full of reasons to end it.
        let _ = self.orders.try_send(Order::Replace { start: self.start, why: why.into() });
    }

    /// Whether it has about as many files open as it may, and will hardly do well any more.
    pub fn is_short_of_files(&self) -> bool {
        let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", self.id)) else { return false };
        let open = u64::try_from(open.count()).unwrap_or(u64::MAX);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.id));
        let limits = limits.unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let most: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        most.is_some_and(|most| open >= most - most / 10)
    }
}

/// The orders of one supervisor.
#[derive(Clone, Debug)]
pub struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// Ends the process, and the supervisor with it.
    pub async fn terminate(&self) {
        // It may have ended already.
        let _ = self.0.send(Order::Terminate).await;
    }

    /// Passes a signal on.
    pub fn signal(&self, signal: Signal) {
        let _ = self.0.try_send(Order::Signal(signal));
    }
}

/// Keeps one language process.
#[derive(Debug)]
pub struct Supervisor<T> {
    world: Arc<World>,
    number: usize,
    tongue: Arc<T>,
    sender: mpsc::Sender<Order>,
    orders: mpsc::Receiver<Order>,
    start: u64,
}

/// How a life ended.
enum Life {
    /// It never took requests, and whether somebody killed it young.
    Failed { why: String, killed: bool },
    /// It did for a while, and was ended or not.
    Ended { why: String, lasted: Duration, ordered: bool },
    /// The pod ends.
    Over,
}

/// Why a process takes no requests.
enum Down {
    /// It has ended.
    Ended(Exit),
    /// It can't be used.
    Unfit(String),
    /// The pod ends.
    Over,
}

/// Why a process that took requests has ended.
enum End {
    /// By itself.
    Itself(String),
    /// It was to be replaced.
    Ordered(String),
    /// The pod ends.
    Over(String),
}

impl<T: Tongue> Supervisor<T> {
    /// One for the process `number`.
    pub fn new(world: Arc<World>, number: usize, tongue: Arc<T>) -> (Self, Orders) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let told = Orders(sender.clone());
        (Self { world, number, tongue, sender, orders, start: 0 }, told)
    }

    /// Starts the process again and again, until the pod ends.
    pub async fn run(mut self) {
        let (mut later, mut pause) = (Duration::ZERO, SHORTEST_PAUSE);
        let mut kills = 0;
        loop {
            self.start += 1;
            self.world.board.starting(self.number);
            let life = self.live().await;
            let log = &self.world.log;
            let wait = match life {
                Life::Over => return,
                Life::Ended { why, lasted, ordered } => {
                    log.note("the language process is gone", json!({"why": why}));
                    kills = 0;
                    pause = SHORTEST_PAUSE;
                    if ordered || lasted >= LIVED {
                        later = Duration::ZERO;
                        continue;
                    }
                    let next = (later * 2).clamp(LATER, LATEST);
                    std::mem::replace(&mut later, next)
                }
                Life::Failed { why, killed } => {
                    log.note("the language process does not come up", json!({"why": why}));
                    kills = if killed { kills + 1 } else { 0 };
                    if (1..=FORGIVEN).contains(&kills) {
                        continue;
                    }
                    self.world.board.failed(self.number, why);
                    let next = (pause * 2).min(LONGEST_PAUSE);
                    std::mem::replace(&mut pause, next)
                }
            };
            if self.is_over_after(wait).await {
                return;
            }
        }
    }

    /// Whether the pod ends before a pause is over.
    async fn is_over_after(&mut self, pause: Duration) -> bool {
        timeout(pause, until_over(&mut self.orders)).await.is_ok()
    }

    async fn live(&mut self) -> Life {
        let began = Instant::now();
        let mut running = match self.begin().await {
            Ok(running) => running,
            Err(error) => {
                let command = self.world.program().0.join(" ");
                let why = format!("starting {command:?}: {error}");
                return Life::Failed { why, killed: false };
            }
        };
        if let Err(down) = self.come_up(&mut running).await {
            return self.fail(running, down, began.elapsed()).await;
        }
        self.world.board.ready(self.number, began.elapsed());
        self.tongue.begin(Handle {
            start: self.start,
            orders: self.sender.clone(),
            output: Arc::clone(&running.output),
            id: running.id(),
        });
        let served = Instant::now();
        let end = self.serve(&mut running).await;
        let lasted = served.elapsed();
        let (End::Itself(why) | End::Ordered(why) | End::Over(why)) = &end;
        self.tongue.gone(why);
        match end {
            End::Itself(why) => Life::Ended { why, lasted, ordered: false },
            End::Ordered(why) => Life::Ended { why, lasted, ordered: true },
            End::Over(_) => Life::Over,
        }
    }

    async fn fail(&self, mut running: Running, down: Down, lasted: Duration) -> Life {
        running.kill().await;
        let (failure, killed) = match down {
            Down::Ended(exit) => {
                let why = format!("the language process {exit} before it took a request");
                (why, exit == Exit::Signal(Signal::KILL.as_raw()) && lasted < YOUNG)
            }
            Down::Unfit(why) => (why, false),
            Down::Over => {
                self.tongue.gone("the pod ends");
                return Life::Over;
            }
        };
        self.tongue.gone(&failure);
        let words = running.output.last_words();
        let close = if words.is_empty() { "" } else { "; it said last:\n" };
        Life::Failed { why: format!("{failure}{close}{words}"), killed }
    }

    async fn begin(&self) -> io::Result<Running> {
        let (command, folder) = self.world.program();
        let start = Start {
            command,
            variables: self.tongue.prepare().await?,
            folder,
            mark: self.world.mark(),
        };
        Running::start(start, &self.world.reaper, &self.world.log, &self.tongue.requests())
    }

    /// Waits until it takes requests.
    async fn come_up(&mut self, running: &mut Running) -> Result<(), Down> {
        let patience = self.world.settings.times.init;
        let late = sleep(patience);
        tokio::select! {
            outcome = self.tongue.ready() => outcome.map_err(Down::Unfit),
            exit = running.ended() => Err(Down::Ended(exit)),
            () = late => {
                Err(Down::Unfit(format!("the language process took no request in {patience:?}")))
            }
            () = until_over(&mut self.orders) => Err(Down::Over),
        }
    }

    /// Waits until the process has ended, and says why.
    async fn serve(&mut self, running: &mut Running) -> End {
        loop {
            let order = tokio::select! {
                exit = running.ended() => {
                    let why = format!("the language process {exit}");
                    self.tongue.ends(&why);
                    running.kill().await;
                    return End::Itself(why);
                }
                order = self.orders.recv() => order,
            };
            match order {
                Some(Order::Replace { start, why }) if start == self.start => {
                    // Before it is killed: nobody may find it dead.
                    self.tongue.ends(&why);
                    running.kill().await;
                    return End::Ordered(why);
                }
                Some(Order::Replace { .. }) => {}
                Some(Order::Signal(signal)) => running.signal(signal),
                Some(Order::Terminate) | None => {
                    let exit = running.terminate(self.world.settings.times.term).await;
                    return End::Over(format!("the pod ends, and the language process {exit}"));
                }
            }
        }
    }
}

/// Waits until the pod ends. Nothing else matters to a process that takes no requests.
async fn until_over(orders: &mut mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Terminate => return,
            Order::Signal(_) | Order::Replace { .. } => {}
        }
    }
}
