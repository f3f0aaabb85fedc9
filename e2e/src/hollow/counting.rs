//! Pods that count how many requests they have at once: what no client and no proxy can see for
//! sure. A request is in its pod from the moment its head is read until it is answered or its
//! connection is closed; a connection that was closed and not read from since counts as closed.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream as Raw;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::node::{Container, Workload};

/// Longest head.
const MOST_HEAD: usize = 16 * 1024;
/// Cases of too many at once that are kept word by word.
const MOST_CASES: usize = 20;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What all pods of a run counted together.
#[derive(Debug, Default)]
pub struct Ledger {
    begun: AtomicU64,
    answered: AtomicU64,
    most: AtomicU64,
    cases: Mutex<Vec<String>>,
}

impl Ledger {
    /// Requests that reached a pod.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Requests that a pod answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Most requests that a pod had at once.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// The first cases of more than one request at once, in words.
    pub fn cases(&self) -> Vec<String> {
        lock(&self.cases).clone()
    }

    fn note(&self, at_once: u64, case: impl FnOnce() -> String) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(at_once, Ordering::Relaxed);
        let mut cases = lock(&self.cases);
        if at_once > 1 && cases.len() < MOST_CASES {
            cases.push(case());
        }
    }
}

/// How long a request runs, told anew for each.
pub type Service = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Pods that count into `ledger` and take `service` for each request.
pub fn workload(ledger: &Arc<Ledger>, service: &Service) -> Workload {
    let (ledger, service) = (Arc::clone(ledger), Arc::clone(service));
    Arc::new(move |container| {
        serve_pod(container, Arc::clone(&ledger), Arc::clone(&service)).boxed()
    })
}

/// One container: its connections are its own, and end with it.
struct Pod {
    name: String,
    ledger: Arc<Ledger>,
    service: Service,
    running: Mutex<BTreeMap<u64, Running>>,
    /// Number of requests that run, for who waits until there is none.
    count: watch::Sender<usize>,
    next: AtomicU64,
}

/// A request that runs.
struct Running {
    /// A second handle of its connection, to see whether that was closed.
    connection: Raw,
    /// Where it came from and what it asked for.
    what: String,
}

impl Running {
    /// Whether its connection was closed, whatever was read of it so far.
    fn is_gone(&self) -> bool {
        match self.connection.peek(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

async fn serve_pod(container: Container, ledger: Arc<Ledger>, service: Service) {
    let Container { pod, restarts, listener, mut stopping, .. } = container;
    let pod = Arc::new(Pod {
        name: format!("{pod} ({restarts})"),
        ledger,
        service,
        running: Mutex::default(),
        count: watch::Sender::new(0),
        next: AtomicU64::new(0),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(Arc::clone(&pod), stream));
                }
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
            // An error is the end of the node.
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    // Asked to end: what runs is ended, what comes is not taken.
    drop(listener);
    drop(pod.count.subscribe().wait_for(|count| *count == 0).await);
}

async fn serve(pod: Arc<Pod>, stream: TcpStream) -> io::Result<()> {
    let from = stream.peer_addr()?;
    stream.set_nodelay(true)?;
    let raw = stream.into_std()?;
    let mut stream = TcpStream::from_std(raw.try_clone()?)?;
    let mut head = Vec::new();
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 || head.len() > MOST_HEAD {
                return Ok(());
            }
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let what = format!("{} from {from}", String::from_utf8_lossy(line));
        let here = pod.begin(Running { connection: raw.try_clone()?, what });
        // Nothing is read meanwhile but the end of the connection.
        let mut byte = [0];
        tokio::select! {
            () = sleep((pod.service)()) => {}
            _ = stream.read(&mut byte) => return Ok(()),
        }
        // It is over before its answer can be read, or the next one could come before.
        drop(here);
        pod.ledger.answered.fetch_add(1, Ordering::Relaxed);
        stream.write_all(ANSWER).await?;
    }
}

impl Pod {
    fn begin(self: &Arc<Self>, request: Running) -> Here {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut running = lock(&self.running);
        running.insert(id, request);
        let at_once = running.values().filter(|request| !request.is_gone()).count();
        self.ledger.note(at_once as u64, || {
            let all: Vec<&str> = running
                .values()
                .filter(|request| !request.is_gone())
                .map(|request| request.what.as_str())
                .collect();
            format!("{}: {}", self.name, all.join(", "))
        });
        self.count.send_replace(running.len());
        drop(running);
        Here { pod: Arc::clone(self), id }
    }
}

/// A request's place among those that run.
struct Here {
    pod: Arc<Pod>,
    id: u64,
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut running = lock(&self.pod.running);
        running.remove(&self.id);
        self.pod.count.send_replace(running.len());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;
    use tokio::time::interval;

    use super::*;

    /// A pod whose requests run until their connections are closed.
    async fn pod() -> (Arc<Ledger>, SocketAddr, (watch::Sender<bool>, JoinSet<()>)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ledger = Arc::new(Ledger::default());
        let service: Service = Arc::new(|| Duration::from_hours(1));
        let (stop, stopping) = watch::channel(false);
        let container = Container {
            pod: "p".to_owned(),
            uid: "u".to_owned(),
            function: "f".to_owned(),
            restarts: 0,
            spec: k8s_openapi::api::core::v1::Container::default(),
            listener,
            stopping,
        };
        let mut running = JoinSet::new();
        running.spawn(workload(&ledger, &service)(container));
        (ledger, address, (stop, running))
    }

    async fn ask(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        stream
    }

    async fn begun(ledger: &Ledger, requests: u64) {
        let mut looks = interval(Duration::from_millis(1));
        while ledger.begun() < requests {
            looks.tick().await;
        }
    }

    #[tokio::test]
    async fn two_at_once_are_noticed() {
        let (ledger, address, _running) = pod().await;
        let _first = ask(address).await;
        begun(&ledger, 1).await;
        assert_eq!((ledger.most(), ledger.cases().len()), (1, 0));
        let _second = ask(address).await;
        begun(&ledger, 2).await;
        assert_eq!((ledger.most(), ledger.cases().len()), (2, 1));
    }

    #[tokio::test]
    async fn a_request_is_over_when_its_connection_was_closed() {
        let (ledger, address, _running) = pod().await;
        drop(ask(address).await);
        begun(&ledger, 1).await;
        let _second = ask(address).await;
        begun(&ledger, 2).await;
        assert_eq!(ledger.most(), 1);
    }
}
