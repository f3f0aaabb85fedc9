//! Which activator may send requests to the pods of a Function with a hard limit. Pure.
//!
//! The right to send to a pod is its *claim*. It comes to be once, by a compare-and-swap on the pod
//! (an annotation that is set where none is), and from then on it only goes from hand to hand: the
//! holder gives it away when the next owner of the Function asks for it, together with the number
//! of requests that it still has in flight there. Nobody can take it. So a pod has one sender at
//! most at any moment, whatever the membership says and to whom, and however long anybody sleeps
//! between a look and the act that follows: no step rests on a clock, or on knowledge that may have
//! become old.
//!
//! A Function may move on before it has arrived: who is asked while it waits for an answer itself
//! gives only once it has that, and names who else may have something. The one who asked may know
//! nothing of them, where the Function moved more often than it heard of.
//!
//! A holder that does not answer (dead, frozen, cut off) keeps its claims for ever: who owns the
//! Function then has those pods *replaced*. Waiting, asking and replacing decide how soon requests
//! are served, never how many are in a pod.

mod claims;
mod takeover;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::membership::Member;

pub use claims::Claims;
pub use takeover::{Action, Answer, Found, Takeover};

/// Path on an activator's peer port under which another asks it to release a Function.
pub const RELEASE_PATH: &str = "/v1/release";

/// What stands on a claimed pod: who claimed it first. A tenure is the time from owning a Function
/// to releasing it; no two tenures, of whatever process, have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimId(Arc<str>);

impl ClaimId {
    /// The claim of the activator with the UID `member`, in its process with the (random) number
    /// `process`, in the tenure with the number `tenure` of that process.
    pub fn new(member: &str, process: u64, tenure: u64) -> Self {
        Self(format!("{member}/{process:x}/{tenure}").into())
    }

    /// UID of the activator.
    pub fn member(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// As it stands on the pod.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Arc<str>> for ClaimId {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one activator asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// UID of the Function.
    pub function: Arc<str>,
    /// Version of the membership under which the asking activator owns it.
    pub version: u64,
    /// The asking activator.
    pub to: Member,
}

/// All that an activator has of a Function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Estate {
    /// Pods whose claims it held.
    pub pods: Vec<PodCount>,
    /// Pods that it was about to claim: whether it has, only the pods tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// UIDs of activators that may have owned the Function before and have not said what they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<Arc<str>>,
    /// Where those are, for one who does not know them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Member>,
}

/// A pod and the requests that are in flight there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCount {
    /// UID of the pod.
    pub pod: Arc<str>,
    /// Requests that were admitted before the release and have not ended.
    pub in_flight: u32,
}

/// A pod that may turn out to be claimed by one of these, which then counts as its heir's claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// UID of the pod.
    pub pod: Arc<str>,
    /// The claims.
    pub claims: Vec<ClaimId>,
}

/// One line of the answer to a [`Release`]: `Refused`, or an `Estate`, then a `Count` whenever a
/// number falls, and `Done` when all are zero. An answer that ends without `Done` broke off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseLine {
    /// The activator that was asked knows of a newer membership: the asking one is not the owner.
    Refused {
        /// The version that it knows.
        version: u64,
    },
    /// All that it had.
    Estate(Estate),
    /// Requests of the former owner that are left in a pod.
    Count(PodCount),
    /// None is left.
    Done,
    /// Nothing changed for a while; the activator is there.
    Heartbeat,
}

#[cfg(test)]
mod tests;
