//! The connections of one pod that can serve another request.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::pod::Pod;

/// How long a connection may stand idle and still be used. Shorter than the shortest default that
/// is common among servers (2 s): a server that closes a connection while a request is on its way
/// leaves open whether it ran.
const IDLE: Duration = Duration::from_millis(1500);

/// Idle connections that are kept for one pod; more than a busy pod needs at a time.
const MOST_IDLE: usize = 256;

/// The connections of one pod.
#[derive(Default)]
pub struct Connections {
    /// Idle connections of HTTP/1.1, the one used last at the back.
    idle: Mutex<VecDeque<Idle>>,
    /// The connection of HTTP/2 that all requests share.
    shared: Mutex<Option<http2::SendRequest<RequestBody>>>,
    /// Whoever makes the shared connection holds this.
    pub(super) connecting: tokio::sync::Mutex<()>,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

impl Connections {
    /// An idle connection that is alive, the one used last.
    pub(super) fn take_idle(&self) -> Option<http1::SendRequest<RequestBody>> {
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
            if entry.sender.is_closed() {
                idle.remove(i);
            } else if entry.sender.is_ready() {
                return idle.remove(i).map(|entry| entry.sender);
            }
            // Else it is still at the end of the answer before: it will be ready in a moment.
        }
        None
    }

    fn put_idle(&self, sender: http1::SendRequest<RequestBody>) {
        let mut idle = self.idle();
        let now = Instant::now();
        while idle.len() >= MOST_IDLE || idle.front().is_some_and(|e| now - e.since >= IDLE) {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, since: now });
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

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_slot(&self) -> MutexGuard<'_, Option<http2::SendRequest<RequestBody>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("idle", &self.idle().len()).finish_non_exhaustive()
    }
}

/// A connection of HTTP/1.1 that is serving a request. Dropped it is closed, so that a pod learns
/// that nobody wants its answer any more.
pub(crate) struct Lease {
    pod: Arc<Pod>,
    sender: http1::SendRequest<RequestBody>,
}

impl Lease {
    pub(super) const fn new(pod: Arc<Pod>, sender: http1::SendRequest<RequestBody>) -> Self {
        Self { pod, sender }
    }

    /// Lets the connection serve others: its answer was read to the end.
    pub(crate) fn give_back(self) {
        if !self.sender.is_closed() {
            self.pod.connections.put_idle(self.sender);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("pod", &self.pod.uid).finish_non_exhaustive()
    }
}
