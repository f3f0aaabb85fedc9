//! The connections of one pod that can serve another request.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::line::Line;
use super::plain::Plain;
use crate::body::RequestBody;
use crate::pod::Pod;

/// How long a connection may stand idle and still be used. Shorter than the shortest default that
/// is common among servers (2 s): a server that closes a connection while a request is on its way
/// leaves open whether it ran.
const IDLE: Duration = Duration::from_millis(1500);

/// Idle connections of each kind that are kept for one pod, on all threads; more than a busy pod
/// needs at a time.
const MOST_IDLE: usize = 256;

/// A part of each pod's connections: that of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    /// Which it is, from 0.
    pub index: usize,
    /// How many there are.
    pub of: NonZeroUsize,
}

impl Shard {
    /// The only part.
    pub const ONLY: Self = Self { index: 0, of: NonZeroUsize::MIN };

    /// The part that all threads share.
    pub(super) const fn first(self) -> Self {
        Self { index: 0, of: self.of }
    }
}

/// The connections of one pod.
#[derive(Debug, Default)]
pub struct Connections {
    pools: OnceLock<Box<[Pool]>>,
    closed: AtomicBool,
    /// Whether the pod has given an answer that is not plain.
    odd: AtomicBool,
}

impl Connections {
    /// Makes no more of them, since the pod is going: its address may be another's soon. Those that
    /// serve a request finish it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for pool in self.pools.get().into_iter().flatten() {
            pool.idle().clear();
            pool.plain().clear();
            pool.forget_shared();
        }
    }

    /// Whether the pod is going.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether the pod has given none but plain answers. Handing one that is not to `hyper` costs as
    /// much as a new connection, so a pod that has given one is `hyper`'s from then on.
    pub(super) fn is_plain(&self) -> bool {
        !self.odd.load(Ordering::Relaxed)
    }

    /// The pod has given an answer that is not plain.
    pub(crate) fn note_odd(&self) {
        self.odd.store(true, Ordering::Relaxed);
    }

    /// Those of one thread. A process has as many parts as threads, the same number always.
    pub(super) fn of(&self, shard: Shard) -> &Pool {
        let make = || (0..shard.of.get()).map(|_| Pool::new(MOST_IDLE / shard.of)).collect();
        let pools = self.pools.get_or_init(make);
        &pools[shard.index % pools.len()]
    }
}

/// The connections of one pod that one thread uses.
pub(super) struct Pool {
    /// Idle connections of HTTP/1.1, the one used last at the back.
    idle: Mutex<VecDeque<Idle<Http1>>>,
    /// Idle connections for plain exchanges, the one used last at the back.
    plain: Mutex<VecDeque<Idle<Plain>>>,
    most_idle: usize,
    /// The connection of HTTP/2 that all requests share.
    shared: Mutex<Option<http2::SendRequest<RequestBody>>>,
    /// Whoever makes the shared connection holds this.
    pub(super) connecting: tokio::sync::Mutex<()>,
}

/// A connection of HTTP/1.1.
pub(super) struct Http1 {
    pub sender: http1::SendRequest<RequestBody>,
    /// Where its pod is limited.
    pub line: Option<Arc<Line>>,
}

impl Http1 {
    /// Notes that a request did not go out, where `request` came back.
    pub fn unsent<T>(&self, request: Option<T>) -> Option<T> {
        if let (Some(line), Some(_)) = (&self.line, &request) {
            line.end();
        }
        request
    }
}

struct Idle<C> {
    connection: C,
    since: Instant,
}

impl Pool {
    fn new(most_idle: usize) -> Self {
        Self {
            idle: Mutex::default(),
            plain: Mutex::default(),
            most_idle: most_idle.max(1),
            shared: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// An idle connection that is alive, the one used last.
    pub(super) fn take_idle(&self) -> Option<Http1> {
        let mut idle = self.idle();
        let mut index = idle.len();
        let now = Instant::now();
        while let Some(i) = index.checked_sub(1) {
            index = i;
            let entry = idle.get(i)?;
            if now - entry.since >= IDLE {
                idle.drain(..=i);
                return None;
            }
            if entry.connection.sender.is_closed() {
                idle.remove(i);
            } else if entry.connection.sender.is_ready() {
                return idle.remove(i).map(|entry| entry.connection);
            }
            // Else it is still at the end of the answer before: it will be ready in a moment.
        }
        None
    }

    /// A connection that is alive and still at the end of the answer before.
    pub(super) fn take_ending(&self) -> Option<Http1> {
        let mut idle = self.idle();
        while let Some(entry) = idle.pop_back() {
            if !entry.connection.sender.is_closed() {
                return Some(entry.connection);
            }
        }
        None
    }

    fn put_idle(&self, connection: Http1) {
        self.put(&mut self.idle(), connection);
    }

    /// A connection for a plain exchange that is alive and idle `now`, the one used last.
    pub(super) async fn take_plain(&self, now: Instant) -> Option<Plain> {
        loop {
            let mut connection = self.pop_plain(now)?;
            if connection.is_alive().await {
                return Some(connection);
            }
        }
    }

    fn pop_plain(&self, now: Instant) -> Option<Plain> {
        let mut plain = self.plain();
        let entry = plain.pop_back()?;
        if now.saturating_duration_since(entry.since) < IDLE {
            return Some(entry.connection);
        }
        // The others have stood for longer.
        plain.clear();
        None
    }

    pub(super) fn put_plain(&self, connection: Plain) {
        self.put(&mut self.plain(), connection);
    }

    fn put<C>(&self, idle: &mut VecDeque<Idle<C>>, connection: C) {
        let now = Instant::now();
        while idle.len() >= self.most_idle || idle.front().is_some_and(|e| now - e.since >= IDLE) {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: now });
    }

    /// The shared connection, if it is open.
    pub(super) fn shared(&self) -> Option<http2::SendRequest<RequestBody>> {
        self.shared_slot().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    pub(super) fn share(&self, sender: http2::SendRequest<RequestBody>) {
        *self.shared_slot() = Some(sender);
    }

    /// Makes the next request open another connection.
    pub(super) fn forget_shared(&self) {
        self.shared_slot().take();
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle<Http1>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plain(&self) -> MutexGuard<'_, VecDeque<Idle<Plain>>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_slot(&self) -> MutexGuard<'_, Option<http2::SendRequest<RequestBody>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle().len()).finish_non_exhaustive()
    }
}

/// A connection of HTTP/1.1 that is serving a request. Dropped it is closed, so that a pod learns
/// that nobody wants its answer any more.
pub(crate) struct Lease {
    pod: Arc<Pod>,
    shard: Shard,
    connection: Http1,
}

impl Lease {
    pub(super) const fn new(pod: Arc<Pod>, shard: Shard, connection: Http1) -> Self {
        Self { pod, shard, connection }
    }

    /// Lets the connection serve others: its answer was read to the end.
    pub(crate) fn give_back(self) {
        if let Some(line) = &self.connection.line {
            line.end();
        }
        if !self.connection.sender.is_closed() {
            self.pod.connections.of(self.shard).put_idle(self.connection);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("pod", &self.pod.uid).finish_non_exhaustive()
    }
}
