//! Follows the log of one pod: fetches what it prints as it comes, and keeps it, until the pod is gone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use rouse_core::kept::{END_HEADER, FROM_HEADER, Piece, PieceHead, RUN_HEADER};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::fetch::{Answer, Connection};
use crate::metrics::Metrics;
use crate::store::{Place, Store, StoreError};

/// The pauses before a pod is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long an answer may take: a pod that has nothing to say waits for 20 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that an answer may have: a pod gives 64 KiB at once.
const MOST: usize = 256 << 10;
/// What comes in small pieces is let gather, so that a chatty pod does not keep two processes busy.
const SMALL: usize = 16 << 10;
const GATHER: Duration = Duration::from_millis(200);
/// How long a pod that is gone may still answer.
const REST: Duration = Duration::from_secs(2);
/// Pause after lines that could not be written.
const FULL: Duration = Duration::from_secs(1);

/// A pod that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Printing {
    pub function: String,
    pub name: String,
    pub uid: String,
    /// Where its shim is asked.
    pub address: SocketAddr,
}

/// What it takes to follow.
#[derive(Clone)]
pub(crate) struct Means {
    pub store: Arc<Store>,
    /// The Functions that there are; none while that is not known.
    pub functions: watch::Receiver<Option<BTreeSet<String>>>,
    pub metrics: Metrics,
}

/// Why a pod is not asked on.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// For now: it does not answer, or has ended.
    Pause,
    /// It will never give lines.
    Never,
}

/// What an answer says of the lines in it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    place: Place,
    is_last: bool,
}

/// Follows `pod` until it is `gone`.
pub(crate) async fn follow(pod: Printing, means: Means, mut gone: watch::Receiver<bool>) {
    means.metrics.pods.inc();
    let mut log = Log { place: means.store.place(&pod.function, &pod.uid), pod, means };
    let over = async {
        // Whoever says so may be gone, too.
        let _ = gone.wait_for(|gone| *gone).await;
        sleep(REST).await;
    };
    tokio::select! {
        () = log.follow() => {}
        () = over => {}
    }
    log.means.metrics.pods.dec();
}

/// The log of a pod.
struct Log {
    pod: Printing,
    means: Means,
    /// Where it goes on.
    place: Option<Place>,
}

impl Log {
    async fn follow(&mut self) {
        let mut pause = PAUSES.0;
        loop {
            let before = self.place;
            if self.ask_on().await == Stop::Never {
                return;
            }
            pause = if self.place == before { (pause * 2).min(PAUSES.1) } else { PAUSES.0 };
            sleep(pause).await;
        }
    }

    /// Asks for lines until there is a reason to stop.
    async fn ask_on(&mut self) -> Stop {
        let opened = Connection::open(self.pod.address, &self.pod.uid).await;
        let Ok(mut connection) = opened else { return Stop::Pause };
        loop {
            let query = match self.place {
                Some(Place { run, from }) => format!("/logs?run={run}&from={from}"),
                None => "/logs".to_owned(),
            };
            let asked = connection.call(Method::GET, &query, (MOST, PATIENCE)).await;
            let Ok(Answer { status, headers, body }) = asked else { return Stop::Pause };
            match status {
                StatusCode::OK => {}
                // The shim is older than this.
                StatusCode::NOT_FOUND => return Stop::Never,
                // The address is another pod's by now.
                _ => return Stop::Pause,
            }
            let Some(told) = read_headers(&headers) else { return Stop::Pause };
            let bytes = body.len();
            if bytes > 0 && !self.keep(told.place, body).await {
                return Stop::Never;
            }
            if told.is_last {
                return Stop::Pause;
            }
            if bytes < SMALL {
                sleep(GATHER).await;
            }
        }
    }

    /// Keeps lines, as often as it takes. False where nobody wants them any more.
    async fn keep(&mut self, told: Place, lines: Bytes) -> bool {
        let is_gone = |all: &BTreeSet<String>| !all.contains(&self.pod.function);
        if self.means.functions.borrow().as_ref().is_some_and(is_gone) {
            return false;
        }
        let metrics = &self.means.metrics;
        if let Some(place) = self.place.filter(|place| place.run == told.run) {
            metrics.missed.inc_by(told.from.saturating_sub(place.from));
        }
        let bytes = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let (pod, uid) = (self.pod.name.clone(), self.pod.uid.clone());
        let head = PieceHead { pod, uid, run: told.run, from: told.from, bytes };
        self.place = Some(Place { run: told.run, from: head.end() });
        while let Err(error) = self.put(head.clone(), lines.clone()).await {
            metrics.failures.inc();
            let error = error.to_string();
            tracing::warn!(function = self.pod.function, error, "lines can't be kept");
            sleep(FULL).await;
        }
        true
    }

    async fn put(&self, head: PieceHead, lines: Bytes) -> Result<(), StoreError> {
        let (store, function) = (Arc::clone(&self.means.store), self.pod.function.clone());
        let kept = tokio::task::spawn_blocking(move || {
            store.keep(&function, &Piece { head, lines: &lines })
        });
        // It fails only when the process ends.
        let kept = kept.await.unwrap_or(Ok(0))?;
        self.means.metrics.bytes.inc_by(kept);
        Ok(())
    }
}

fn read_headers(headers: &HeaderMap) -> Option<Told> {
    let number = |name| headers.get(name)?.to_str().ok()?.parse::<i64>().ok();
    let place = Place { run: number(RUN_HEADER)?, from: u64::try_from(number(FROM_HEADER)?).ok()? };
    Some(Told { place, is_last: headers.contains_key(END_HEADER) })
}

#[cfg(test)]
mod tests;
