//! The callers: each has one request after the other, on a connection that it keeps as long as it
//! can, to an activator that it picks anew when the connection ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rouse_e2e::hollow::NAMESPACE;
use rouse_e2e::wire::{self, Answer, Problem};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::dice::Dice;
use super::{FUNCTIONS, function};

/// How long a caller waits for an answer, longer than any freeze.
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests after which a caller picks another activator.
const STAYS: usize = 50;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(20);

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers with status 200.
    pub good: u64,
    /// Everything else, by kind.
    pub bad: BTreeMap<String, u64>,
    /// The first problem of each kind, in its own words.
    pub problems: BTreeMap<String, String>,
}

/// Callers that call until they are told to stop.
pub struct Callers {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Where callers may go and what came back.
pub struct Shared {
    addresses: Mutex<Vec<SocketAddr>>,
    outcome: Mutex<Outcome>,
}

impl Shared {
    /// Says which activators there are.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        *lock(&self.addresses) = addresses;
    }

    /// Says that an activator can't be called for a while.
    pub fn remove_address(&self, address: SocketAddr) {
        lock(&self.addresses).retain(|other| *other != address);
    }

    fn note_problem(&self, status: u16, problem: Problem) {
        let Problem { kind, detail } = problem;
        self.note_bad(format!("{status} {kind}"));
        lock(&self.outcome).problems.entry(kind).or_insert(detail);
    }

    fn note_bad(&self, what: String) {
        *lock(&self.outcome).bad.entry(what).or_default() += 1;
    }
}

impl Callers {
    /// Starts `count` callers.
    pub fn start(addresses: Vec<SocketAddr>, count: usize, seed: u64) -> Self {
        let shared =
            Arc::new(Shared { addresses: Mutex::new(addresses), outcome: Mutex::default() });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let dice = Dice::new(seed.wrapping_add(number as u64) << 8);
            tasks.spawn(call(Arc::clone(&shared), dice, stopped.clone()));
        }
        Self { shared, stop, tasks }
    }

    /// What they share.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What came back so far, in words.
    pub fn told(&self) -> String {
        let outcome = lock(&self.shared.outcome);
        format!("{} good, {} not", outcome.good, outcome.bad.values().sum::<u64>())
    }

    /// Stops them, each after the request that it is at.
    pub async fn stop(self) -> Outcome {
        self.stop.send_replace(true);
        self.tasks.join_all().await;
        lock(&self.shared.outcome).clone()
    }
}

async fn call(shared: Arc<Shared>, mut dice: Dice, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let address = {
            let addresses = lock(&shared.addresses);
            addresses.get(dice.below(addresses.len())).copied()
        };
        let Some(address) = address else {
            sleep(PAUSE).await;
            continue;
        };
        let mut stream = match wire::connect(address, PATIENCE).await {
            Ok(stream) => stream,
            Err(broken) => {
                shared.note_bad(broken.to_string());
                sleep(PAUSE).await;
                continue;
            }
        };
        for _ in 0..STAYS {
            let host = format!("{}.{NAMESPACE}", function(dice.below(FUNCTIONS)));
            match wire::get(&mut stream, &host, PATIENCE).await {
                Ok(Answer { status: 200, closes, .. }) => {
                    lock(&shared.outcome).good += 1;
                    if closes {
                        break;
                    }
                }
                Ok(Answer { status, problem, .. }) => {
                    shared.note_problem(status, problem);
                    sleep(PAUSE).await;
                    break;
                }
                Err(broken) => {
                    shared.note_bad(broken.to_string());
                    sleep(PAUSE).await;
                    break;
                }
            }
            if *stopped.borrow() {
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
