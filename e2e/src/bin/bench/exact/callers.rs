//! The callers: each has one request after the other, on a connection that it keeps as long as it
//! can, to an activator that it picks anew when the connection ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rouse_e2e::hollow::NAMESPACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::dice::Dice;
use super::{FUNCTIONS, function};

/// How long a caller waits for an answer, longer than any freeze.
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests after which a caller picks another activator.
const STAYS: usize = 50;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest answer: a problem document.
const LONGEST: usize = 64 * 1024;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers with status 200.
    pub good: u64,
    /// Everything else, by kind.
    pub bad: BTreeMap<String, u64>,
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
        let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else {
            shared.note_bad("no connection".to_owned());
            sleep(PAUSE).await;
            continue;
        };
        for _ in 0..STAYS {
            let function = function(dice.below(FUNCTIONS));
            let request = format!("GET / HTTP/1.1\r\nhost: {function}.{NAMESPACE}\r\n\r\n");
            let answered = timeout(PATIENCE, exchange(&mut stream, request.as_bytes())).await;
            match answered {
                Ok(Ok(Answer { status: 200, closes, .. })) => {
                    lock(&shared.outcome).good += 1;
                    if closes {
                        break;
                    }
                }
                Ok(Ok(Answer { status, problem, .. })) => {
                    shared.note_bad(format!("{status} {problem}"));
                    sleep(PAUSE).await;
                    break;
                }
                Ok(Err(kind)) => {
                    shared.note_bad(kind);
                    sleep(PAUSE).await;
                    break;
                }
                Err(_) => {
                    shared.note_bad(format!("no answer within {PATIENCE:?}"));
                    break;
                }
            }
            if *stopped.borrow() {
                return;
            }
        }
    }
}

struct Answer {
    status: u16,
    closes: bool,
    /// The kind of a problem.
    problem: String,
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Answer, String> {
    stream.write_all(request).await.map_err(|_| "cut off while sending".to_owned())?;
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await.map_err(|_| "cut off".to_owned())?;
        if let Some(answer) = parse(&bytes)? {
            return Ok(answer);
        }
        if read == 0 || bytes.len() > LONGEST {
            return Err("cut off".to_owned());
        }
    }
}

/// An answer that is there to its end.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| format!("an answer that is none: {error}"))?;
    let httparse::Status::Complete(start) = parsed else { return Ok(None) };
    let value = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let body = bytes.get(start..).unwrap_or_default();
    let ended = match value("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"\r\n0\r\n\r\n"),
    };
    if !ended {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(body);
    let problem = text.split_once("\"type\":\"").and_then(|(_, rest)| rest.split_once('"'));
    Ok(Some(Answer {
        status: head.code.unwrap_or_default(),
        closes: value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        problem: problem.map(|(kind, _)| kind.to_owned()).unwrap_or_default(),
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
