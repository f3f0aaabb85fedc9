//! The Function that gets the events: a small server of this process, the same for all who send to
//! it, that notes each event when its request has come whole.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rouse_e2e::hollow::node::{Container, Workload};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What came of one event: when, each time, and under which id.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(pub Vec<(Instant, String)>);

/// What the Function saw of the events that are expected, by their numbers.
#[derive(Clone)]
pub struct Seen {
    state: Arc<Mutex<State>>,
    count: watch::Sender<usize>,
    /// How long each takes.
    takes: Duration,
    /// The number of an event by its data.
    number: fn(&[u8]) -> Option<usize>,
}

#[derive(Default)]
struct State {
    expected: Range<usize>,
    events: HashMap<usize, Arrivals>,
}

impl Seen {
    /// A Function that has seen nothing, and takes so long for each event.
    pub fn new(takes: Duration, number: fn(&[u8]) -> Option<usize>) -> Self {
        Self { state: Arc::default(), count: watch::Sender::new(0), takes, number }
    }

    /// What its pods do.
    pub fn workload(&self) -> Workload {
        let seen = self.clone();
        Arc::new(move |container: Container| serve(container, seen.clone()).boxed())
    }

    /// Forgets all, and notes only these from now on.
    pub fn expect(&self, numbers: Range<usize>) {
        *self.lock() = State { expected: numbers, events: HashMap::new() };
        self.count.send_replace(0);
    }

    /// Waits until there have been `count` different events.
    pub async fn reaches(&self, count: usize) {
        // The sender is this one's own.
        drop(self.count.subscribe().wait_for(|seen| *seen >= count).await);
    }

    /// How many different events there have been.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// When each event came first, in the order of time.
    pub fn firsts(&self) -> Vec<Instant> {
        let state = self.lock();
        let mut firsts: Vec<Instant> =
            state.events.values().filter_map(|Arrivals(all)| Some(all.first()?.0)).collect();
        firsts.sort();
        firsts
    }

    /// What came of an event.
    pub fn arrivals(&self, number: usize) -> Arrivals {
        self.lock().events.get(&number).cloned().unwrap_or_default()
    }

    fn note(&self, data: &[u8], id: String) {
        let now = Instant::now();
        let Some(number) = (self.number)(data) else { return };
        let mut state = self.lock();
        if !state.expected.contains(&number) {
            return;
        }
        state.events.entry(number).or_default().0.push((now, id));
        let count = state.events.len();
        drop(state);
        self.count.send_if_modified(|before| std::mem::replace(before, count) != count);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until it is told to end, or killed.
async fn serve(container: Container, seen: Seen) {
    let Container { listener, mut stopping, .. } = container;
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let Ok(stream) = stream else { continue };
        drop(stream.set_nodelay(true));
        let seen = seen.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, seen.clone()));
            // Whoever breaks off sends again.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Seen,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let id = request.headers().get("ce-id").and_then(|id| id.to_str().ok());
    // A server that posts by itself has none.
    let id = id.unwrap_or_default().to_owned();
    if let Ok(body) = request.into_body().collect().await {
        if !seen.takes.is_zero() {
            sleep(seen.takes).await;
        }
        seen.note(&body.to_bytes(), id);
    }
    Ok(Response::new(Empty::new()))
}
