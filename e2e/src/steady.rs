//! A load at a rate that does not depend on the answers, over connections that are kept: each
//! request has its moment, and is made also when the one before it came late. What did not succeed
//! is kept one by one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use crate::activators;
use crate::cluster::Cluster;
use crate::wait;
use crate::wire::{self, Answer, Broken};

/// How long a connection and an answer may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_mins(1);

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the Service, which chooses an activator.
    Service(SocketAddr),
    /// To the activators themselves, by turns beginning with that one.
    Direct(usize),
}

/// One connection's share of the load.
#[derive(Clone, Debug)]
pub struct Share {
    /// Where it leads.
    pub way: Way,
    /// The Function that it calls.
    pub host: String,
    /// Time between two requests.
    pub every: Duration,
}

/// A request that failed, or a connection that was refused.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What the client met.
    pub what: String,
    /// The Function.
    pub host: String,
    /// Where the connection led.
    pub way: Way,
    /// Who was called.
    pub address: SocketAddr,
    /// When.
    pub at: Instant,
    /// When the connection was made, if there was one.
    pub since: Option<Instant>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers with status 200, by host.
    pub good: BTreeMap<String, u64>,
    /// Requests that failed in the end.
    pub failed: Vec<Failed>,
    /// Attempts that failed and were made again on another connection.
    pub mended: Vec<Failed>,
    /// The longest that a request took from its moment to its answer, by host.
    pub longest: BTreeMap<String, Duration>,
}

impl Outcome {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.good.values().sum::<u64>() + self.failed.len() as u64
    }

    /// Attempts that met a refused connection.
    pub fn refused(&self) -> impl Iterator<Item = &Failed> {
        let refused = Broken::Refused.to_string();
        self.failed.iter().chain(&self.mended).filter(move |failed| failed.what == refused)
    }
}

/// How often each thing happened.
pub fn kinds<'f>(failed: impl IntoIterator<Item = &'f Failed>) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for failed in failed {
        *kinds.entry(failed.what.clone()).or_default() += 1;
    }
    kinds
}

#[derive(Debug)]
struct Shared {
    outcome: Mutex<Outcome>,
    activators: Mutex<Vec<SocketAddr>>,
    /// Whether a request whose connection failed is made once more on a new one.
    reconnect: bool,
    stopped: watch::Receiver<bool>,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    callers: JoinSet<()>,
}

impl Load {
    /// Starts a connection for each share of the plan, their moments spread evenly.
    pub fn start(activators: Vec<SocketAddr>, plan: &[Share], reconnect: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (outcome, activators) = (Mutex::default(), Mutex::new(activators));
        let shared = Arc::new(Shared { outcome, activators, reconnect, stopped });
        let begun = Instant::now();
        let count = u32::try_from(plan.len()).unwrap_or(u32::MAX).max(1);
        let mut callers = JoinSet::new();
        for (number, own) in (0..).zip(plan) {
            let first = begun + own.every * number / count;
            let caller = Caller { shared: Arc::clone(&shared), share: own.clone(), open: None };
            callers.spawn(caller.run(first));
        }
        Self { shared, stop, callers }
    }

    /// Says which activators are called directly from now on; connections stay where they are.
    pub fn set_activators(&self, activators: Vec<SocketAddr>) {
        *lock(&self.shared.activators) = activators;
    }

    /// Waits until the activators make `is_so` true, and calls those directly that are ready, as
    /// whoever watches them would.
    pub async fn follow(
        &self,
        cluster: &Cluster,
        is_so: impl Fn(&[Pod]) -> bool,
    ) -> anyhow::Result<()> {
        wait::list(&activators::pods(cluster), activators::LABEL, PATIENCE, |pods| {
            let ready = pods.iter().filter(|pod| activators::is_ready(pod));
            let ready: anyhow::Result<Vec<_>> = ready.map(activators::address).collect();
            // One without an address yet is looked at again when it has one.
            if let Ok(ready) = ready {
                self.set_activators(ready);
            }
            is_so(pods)
        })
        .await
        .map(drop)
    }

    /// Waits until so many requests have come back.
    pub async fn reached(&self, requests: u64) {
        let mut looks = interval(Duration::from_millis(100));
        while self.outcome().requests() < requests {
            looks.tick().await;
        }
    }

    /// What came back so far.
    pub fn outcome(&self) -> Outcome {
        lock(&self.shared.outcome).clone()
    }

    /// Stops the callers, each after the request that it is at.
    pub async fn stop(self) -> Outcome {
        self.stop.send_replace(true);
        self.callers.join_all().await;
        lock(&self.shared.outcome).clone()
    }
}

struct Caller {
    shared: Arc<Shared>,
    share: Share,
    open: Option<Open>,
}

struct Open {
    stream: TcpStream,
    address: SocketAddr,
    since: Instant,
}

impl Caller {
    async fn run(mut self, first: Instant) {
        let mut at = first;
        let mut stopped = self.shared.stopped.clone();
        loop {
            tokio::select! {
                () = sleep_until(at) => {}
                // The sender lives as long as the load.
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let asked = self.ask().await;
            self.note(at, asked);
            at += self.share.every;
        }
    }

    /// Makes one request, on the connection that there is if there is one.
    async fn ask(&mut self) -> Result<(), Failed> {
        let failed = match self.attempt().await {
            Ok(()) => return Ok(()),
            // An answer is an answer.
            Err((failed, None)) => return Err(failed),
            Err((failed, Some(_))) if !self.shared.reconnect => return Err(failed),
            Err((failed, Some(_))) => failed,
        };
        let again = self.attempt().await;
        lock(&self.shared.outcome).mended.push(failed);
        again.map_err(|(failed, _)| failed)
    }

    async fn attempt(&mut self) -> Result<(), (Failed, Option<Broken>)> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let failed = |what: String| Failed {
            what,
            host: self.share.host.clone(),
            way: self.share.way,
            address: open.address,
            at: Instant::now(),
            since: Some(open.since),
        };
        match wire::get(&mut open.stream, &self.share.host, PATIENCE).await {
            Ok(Answer { status, closes, problem }) => {
                let result = if status == 200 {
                    Ok(())
                } else {
                    Err((failed(format!("{status} {}: {}", problem.kind, problem.detail)), None))
                };
                self.open = Some(open).filter(|_| !closes);
                result
            }
            Err(broken) => Err((failed(broken.to_string()), Some(broken))),
        }
    }

    async fn connect(&mut self) -> Result<Open, (Failed, Option<Broken>)> {
        let address = self.next_address();
        match wire::connect(address, CONNECT_PATIENCE).await {
            Ok(stream) => Ok(Open { stream, address, since: Instant::now() }),
            Err(broken) => {
                let (host, way) = (self.share.host.clone(), self.share.way);
                let (what, at) = (broken.to_string(), Instant::now());
                Err((Failed { what, host, way, address, at, since: None }, Some(broken)))
            }
        }
    }

    fn next_address(&mut self) -> SocketAddr {
        match &mut self.share.way {
            Way::Service(address) => *address,
            Way::Direct(turn) => {
                let activators = lock(&self.shared.activators);
                let address = activators.get(*turn % activators.len().max(1)).copied();
                *turn += 1;
                // Without any nobody is called, which fails.
                address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
            }
        }
    }

    fn note(&self, moment: Instant, asked: Result<(), Failed>) {
        let mut outcome = lock(&self.shared.outcome);
        match asked {
            Ok(()) => {
                let host = &self.share.host;
                *outcome.good.entry(host.clone()).or_default() += 1;
                let longest = outcome.longest.entry(host.clone()).or_default();
                *longest = (*longest).max(moment.elapsed());
            }
            Err(failed) => outcome.failed.push(failed),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    /// A server that answers `answers` requests on each connection and then closes it.
    async fn server(answers: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                for _ in 0..answers {
                    let _read = stream.read(&mut head).await.unwrap();
                    stream.write_all(GOOD).await.unwrap();
                }
            }
        });
        address
    }

    async fn run(way: Way, activators: Vec<SocketAddr>, reconnect: bool) -> Outcome {
        let every = Duration::from_millis(1);
        let share = Share { way, host: "f.shop".to_owned(), every };
        let load = Load::start(activators, &[share], reconnect);
        load.reached(9).await;
        load.stop().await
    }

    #[tokio::test]
    async fn a_connection_that_ends_fails_one_request_or_none_with_a_reconnect() {
        let address = server(2).await;
        let outcome = run(Way::Service(address), Vec::new(), false).await;
        assert!(outcome.failed.len() >= 3 && outcome.mended.is_empty(), "{outcome:?}");
        let outcome = run(Way::Service(address), Vec::new(), true).await;
        assert!(outcome.failed.is_empty() && outcome.mended.len() >= 4, "{outcome:?}");
    }

    #[tokio::test]
    async fn who_is_refused_goes_to_the_next_and_it_is_counted() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let outcome = run(Way::Direct(0), vec![gone, server(1000).await], true).await;
        assert!(outcome.failed.is_empty(), "{outcome:?}");
        assert_eq!(outcome.refused().count(), 1);
        assert_eq!(kinds(&outcome.mended), BTreeMap::from([("connection refused".into(), 1)]));
    }
}
