//! Leaving without a lost request.
//!
//! First the process says that it is not ready, and goes on accepting: load balancers take a moment
//! to hear of it. Clients that ask meanwhile are told to use another connection for their next
//! request. Then the ports close and what was begun is finished. Connections that stood idle all
//! that time are closed last, when it is least likely that a request is on its way on one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Shared;

/// Longest time for which connections are still accepted; load balancers need less.
const MOST_ANNOUNCE: Duration = Duration::from_secs(5);

/// How much of its time a server keeps for closing connections in order.
const CLOSING: Duration = Duration::from_secs(1);

/// How a server leaves.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long connections are still accepted.
    pub announce: Duration,
    /// How long all of it may take; what runs then is cut off.
    pub total: Duration,
}

impl Drain {
    /// Leaves within `total`.
    pub fn within(total: Duration) -> Self {
        Self { announce: MOST_ANNOUNCE.min(total / 4), total }
    }
}

/// How far the leaving is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Not begun.
    Serving,
    /// Connections are accepted, and clients told to use others.
    Leaving,
    /// No more connections are accepted; what was begun is finished.
    Finishing,
    /// Idle connections are closed.
    Closing,
    /// The time is over.
    Ended,
}

/// Leaves, on all threads at once.
pub(super) async fn run(shared: &[Arc<Shared>], drain: &Drain, mut accepting: JoinSet<()>) {
    let end = Instant::now() + drain.total;
    let enter = |phase| {
        for shared in shared {
            shared.phase.send_replace(phase);
        }
    };
    tracing::info!(seconds = drain.total.as_secs(), "leaving");
    enter(Phase::Leaving);
    sleep_until((Instant::now() + drain.announce).min(end)).await;
    enter(Phase::Finishing);
    while accepting.join_next().await.is_some() {}
    let finish_until = end.checked_sub(CLOSING).unwrap_or(end);
    let finished = join_all(shared.iter().map(|shared| finished(shared)));
    if timeout_at(finish_until, finished).await.is_err() {
        let requests: usize = shared.iter().map(|shared| shared.requests.len()).sum();
        let tunnels: usize = shared.iter().map(|shared| shared.proxy.tunnels().len()).sum();
        tracing::warn!(requests, tunnels, "cutting off");
    }
    enter(Phase::Closing);
    let closed = || {
        join_all(shared.iter().map(|shared| {
            shared.connections.close();
            shared.connections.wait()
        }))
    };
    if timeout_at(end, closed()).await.is_err() {
        enter(Phase::Ended);
        closed().await;
    }
}

/// Ends when all that was begun on one thread has ended.
async fn finished(shared: &Shared) {
    let (requests, tunnels) = (&shared.requests, shared.proxy.tunnels());
    requests.close();
    tunnels.close();
    requests.wait().await;
    tunnels.wait().await;
}
