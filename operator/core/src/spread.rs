//! Spread: who does not own a Function without a hard limit sends its requests straight to the open
//! pods, and tells the owner what it has there. Pure.
//!
//! A *follower* keeps to the table of pods that the owner last told, and acknowledges each one. The
//! owner lets a pod go once nobody may send to it any more: every follower has acknowledged a table
//! without it and counts nothing there. A follower that says nothing is forgotten after
//! [`LEASE`]; it stopped sending before, since it sends for no longer than [`VALID`] after the
//! moment at which it said what the owner heard last. Both spans begin with the same words, the
//! follower's earlier, so neither a frozen process nor a slow network lets one outlast the other.
//!
//! Nothing exact hangs on that: pods end gracefully, and what finds no connection goes elsewhere.
//! Functions with a hard limit are never spread (see [`crate::handover`]).

mod ledger;
mod subscription;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::function::FunctionKey;
use crate::scaling::Traffic;

pub use ledger::{Ledger, StreamId};
pub use subscription::Subscription;

/// Path on an activator's peer port under which others follow a Function that it owns.
pub const SPREAD_PATH: &str = "/v1/spread";

/// How long a follower sends straight after it said what the owner heard last.
pub const VALID: Duration = Duration::from_secs(3);

/// How long the owner counts with a follower after it last heard of it.
pub const LEASE: Duration = Duration::from_secs(5);

/// A moment on one activator's monotonic clock, counted from an origin that only it knows.
pub type Moment = Duration;

/// Which Function an activator wants to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribe {
    /// Namespace and name.
    pub function: FunctionKey,
    /// UID of the Function.
    pub uid: Arc<str>,
    /// UID of the pod of the activator that asks.
    pub member: Arc<str>,
}

/// One line of a follower. The first is `Subscribe`, the second `Counts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FollowerLine {
    /// What it wants.
    Subscribe(Subscribe),
    /// What it has.
    Counts(Counts),
    /// It has nothing in flight and sends nothing any more.
    Goodbye,
}

/// All that a follower has in flight in pods, sent there by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// The number of this line on its stream.
    pub number: u64,
    /// Version of the table that it keeps to; 0 while it has none.
    pub table: u64,
    /// Requests by UID of the pod, where there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pods: BTreeMap<Arc<str>, u32>,
    /// Most of all together since the last line.
    pub peak: u32,
    /// What it has sent.
    #[serde(default)]
    pub traffic: Traffic,
}

/// One line of the owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Word {
    /// Number of the last line that it heard.
    pub heard: u64,
    /// Most requests that this follower shall have in one pod; none where that is all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<NonZeroU32>,
    /// The table, if it is another than the one told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
}

/// The pods that requests may be sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Its version: from 1, growing.
    pub version: u64,
    /// UIDs of the pods.
    pub pods: Vec<Arc<str>>,
}

/// The part of a soft `target` of one who has `own` requests of the `all` that `holders` activators
/// have: by use, with room for who begins, and one at least. The parts add up to the target, but for
/// less than one for each holder.
pub fn share(target: NonZeroU32, own: u32, all: u32, holders: u32) -> NonZeroU32 {
    let whole = u64::from(all.max(own)) + u64::from(holders.max(1));
    let part = (u64::from(target.get()) * (u64::from(own) + 1)).div_ceil(whole);
    let part = u32::try_from(part).unwrap_or(u32::MAX);
    NonZeroU32::new(part).unwrap_or(NonZeroU32::MIN).min(target)
}

#[cfg(test)]
mod tests;
