//! Releasing a Function with a hard limit to its next owner, and asking for it (see
//! `rouse_core::handover`): the answer of who gives, and what becomes of it at who asked. Deciding
//! is the business of `ownership` and `scaler`, connections are that of `forward`.

pub mod fresh;
pub mod neighbours;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use http::Response;
use rouse_core::handover::{Answer, Estate, PodCount, Release, ReleaseLine};
use rouse_core::membership::Member;
use tokio::time::timeout;

use crate::admission::Gate;
use crate::body::ResponseBody;
use crate::ndjson::{self, encode};

/// Silence after which who gives says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Asks an activator to release a Function.
pub type AskPeer = dyn Fn(Member, Release) -> BoxFuture<'static, Released> + Send + Sync;

/// Releases a Function to another activator.
pub type ReleaseTo = dyn Fn(Release) -> BoxFuture<'static, Handed> + Send + Sync;

/// What an activator that was asked says.
#[derive(Debug)]
pub enum Released {
    /// It gives all that it had, and may go on to tell how many requests are left.
    Gave {
        /// What it had.
        estate: Estate,
        /// The rest of its answer.
        rest: Option<Rest>,
    },
    /// It lives and does not give.
    Refused,
    /// It does not answer.
    Silent,
}

impl Released {
    /// Has the claims of `gate` hear what `member` said. It may go on to tell how many requests are
    /// left: that concerns the gate, for as long as it lasts.
    pub fn take_in(self, gate: &Arc<Gate>, member: &str) -> Answer {
        let (answer, rest) = match self {
            Self::Gave { estate, rest } => (Answer::Gave(estate), rest),
            Self::Refused => (Answer::Refused, None),
            Self::Silent => (Answer::Silent, None),
        };
        let mut counts = Vec::new();
        gate.change_claims(|claims| counts = claims.hear(member, &answer));
        if !counts.is_empty() {
            Rest::follow(rest, Arc::clone(gate), counts);
        }
        answer
    }
}

/// What becomes of a question for now.
#[derive(Debug)]
pub enum Step {
    /// It is answered.
    Now(Handed),
    /// This activator waits for an answer itself, which may be what is asked for: this gate tells.
    Later(Arc<Gate>),
}

/// What this activator says where it was asked.
#[derive(Debug)]
pub enum Handed {
    /// Who asks does not own the Function by the membership of this version.
    Refused {
        /// The version.
        version: u64,
    },
    /// All that there was.
    Gave {
        /// What there was.
        estate: Estate,
        /// Where the requests that are left are counted.
        gate: Option<Arc<Gate>>,
    },
}

/// The rest of an answer: the numbers of requests that are left, as they fall.
pub struct Rest(pub BoxStream<'static, ReleaseLine>);

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rest")
    }
}

impl Rest {
    /// Tells `gate` of the requests that are `left` until there are none. Where the other side
    /// breaks off before, the pods that have some are given up: nobody can tell when they end.
    pub fn follow(rest: Option<Self>, gate: Arc<Gate>, left: Vec<PodCount>) {
        let mut left: BTreeMap<Arc<str>, u32> =
            left.into_iter().map(|count| (count.pod, count.in_flight)).collect();
        // It outlives the Function's task: the gate may be given away itself, and then passes on
        // what it hears. It ends with the stream.
        tokio::spawn(async move {
            let mut lines = rest.map_or_else(|| stream::empty().boxed(), |Self(lines)| lines);
            while left.values().any(|count| *count > 0) {
                match lines.next().await {
                    Some(ReleaseLine::Count(PodCount { pod, in_flight })) => {
                        gate.change_claims(|claims| claims.count_down(&pod, in_flight));
                        left.insert(pod, in_flight);
                    }
                    Some(ReleaseLine::Done) => return,
                    Some(ReleaseLine::Heartbeat) => {}
                    Some(ReleaseLine::Estate(_) | ReleaseLine::Refused { .. }) | None => break,
                }
            }
            left.retain(|_, count| *count > 0);
            if !left.is_empty() {
                tracing::warn!(
                    pods = left.len(),
                    "a former owner broke off, its pods are replaced"
                );
                gate.change_claims(|claims| left.keys().for_each(|pod| claims.lose(pod)));
            }
        });
    }
}

/// The answer of who gives.
pub fn respond(handed: Handed) -> Response<ResponseBody> {
    let telling = Telling::new(handed);
    ndjson::respond(stream::unfold(telling, |mut telling| async move {
        let lines = telling.next().await?;
        Some((lines, telling))
    }))
}

/// Where an answer is.
struct Telling {
    first: Option<ReleaseLine>,
    gate: Option<Arc<Gate>>,
    told: BTreeMap<Arc<str>, u32>,
    over: bool,
}

impl Telling {
    fn new(handed: Handed) -> Self {
        let (first, gate, told, over) = match handed {
            Handed::Refused { version } => {
                (ReleaseLine::Refused { version }, None, BTreeMap::new(), true)
            }
            Handed::Gave { estate, gate } => {
                let busy = estate.pods.iter().filter(|count| count.in_flight > 0);
                let told = busy.map(|count| (Arc::clone(&count.pod), count.in_flight)).collect();
                (ReleaseLine::Estate(estate), gate, told, false)
            }
        };
        Self { first: Some(first), gate, told, over }
    }

    /// The next lines; none at the end, and where nobody can tell any more what is left.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(encode([first]));
        }
        loop {
            if self.over {
                return None;
            }
            let mut lines = self.falls()?;
            if self.told.is_empty() {
                self.over = true;
                lines.push(ReleaseLine::Done);
            }
            if !lines.is_empty() {
                return Some(encode(lines));
            }
            let gate = self.gate.as_ref()?;
            if timeout(HEARTBEAT, gate.fell()).await.is_err() {
                return Some(encode([ReleaseLine::Heartbeat]));
            }
        }
    }

    /// What fell since it was last told.
    fn falls(&mut self) -> Option<Vec<ReleaseLine>> {
        let mut lines = Vec::new();
        for (pod, told) in &mut self.told {
            let in_flight = self.gate.as_ref().map_or(Some(0), |gate| gate.remaining(pod))?;
            if in_flight < *told {
                *told = in_flight;
                lines.push(ReleaseLine::Count(PodCount { pod: Arc::clone(pod), in_flight }));
            }
        }
        self.told.retain(|_, told| *told > 0);
        Some(lines)
    }
}

#[cfg(test)]
mod tests;
