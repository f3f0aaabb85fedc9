//! What Functions used: counted where requests and pods are, summed up in the status. Pure.
//!
//! A process of an activator keeps a [`Count`] for each revision that it met. A count only grows, and
//! has a number of its own in that process. Whoever sums up keeps a mark for each count: what of it is
//! in the sums. So a count may be told as often as one likes, by whom and to whom one likes; nothing
//! is counted twice, and nothing that was told is lost.

pub mod book;
mod memory;
pub mod price;
pub mod share;

use std::borrow::Borrow;

use rouse_crds::v1alpha1::UsageSums;
use serde::{Deserialize, Serialize};

use crate::function::FunctionKey;

pub use self::memory::memory_of;
pub use self::memory::parse_quantity;

/// Memory that a pod counts for which asks for none, in bytes.
pub const NOMINAL_MEMORY: u64 = 128 << 20;

/// Byte-nanoseconds of a MiB-millisecond.
const BYTE_NANOS: u128 = (1 << 20) * 1_000_000;

/// What was used, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Requests that ended.
    pub requests: u64,
    /// Their time, each rounded up to a millisecond, in nanoseconds.
    pub billed_nanos: u128,
    /// Their shares of their pods' time, times memory.
    pub billed_byte_nanos: u128,
    /// Time of pods.
    pub pod_nanos: u128,
    /// The same, times memory.
    pub pod_byte_nanos: u128,
}

impl Used {
    /// Adds what else was used.
    pub fn add(&mut self, more: &Self) {
        let Self { requests, billed_nanos, billed_byte_nanos, pod_nanos, pod_byte_nanos } = more;
        self.requests += requests;
        self.billed_nanos += billed_nanos;
        self.billed_byte_nanos += billed_byte_nanos;
        self.pod_nanos += pod_nanos;
        self.pod_byte_nanos += pod_byte_nanos;
    }

    /// What was used since it was `before`.
    #[must_use]
    pub const fn less(&self, before: &Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            billed_nanos: self.billed_nanos - before.billed_nanos,
            billed_byte_nanos: self.billed_byte_nanos - before.billed_byte_nanos,
            pod_nanos: self.pod_nanos - before.pod_nanos,
            pod_byte_nanos: self.pod_byte_nanos - before.pod_byte_nanos,
        }
    }

    /// The same in the units of the API, cut off: what is missing of one comes with the next.
    pub fn sums(&self) -> UsageSums {
        let whole = |amount: u128, unit: u128| u64::try_from(amount / unit).unwrap_or(u64::MAX);
        UsageSums {
            requests: self.requests,
            billed_millis: whole(self.billed_nanos, 1_000_000),
            billed_mib_millis: whole(self.billed_byte_nanos, BYTE_NANOS),
            pod_millis: whole(self.pod_nanos, 1_000_000),
            pod_mib_millis: whole(self.pod_byte_nanos, BYTE_NANOS),
        }
    }
}

/// What one process of an activator counted of one revision since it met that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Its number in the process; never used again.
    pub number: u64,
    /// The revision.
    pub revision: String,
    /// Requests or pods are there.
    pub active: bool,
    /// What was used.
    pub sums: UsageSums,
}

/// What one process of an activator counted of one Function. Replaces what it said before; a count
/// that is not in it any more is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// Namespace and name.
    pub key: FunctionKey,
    /// UID of the object.
    pub uid: String,
    /// The process: see [`Process`].
    pub process: Process,
    /// What it counted, by revision.
    pub counts: Vec<Count>,
}

/// A process of an activator: the UID of its pod, and when it started, since a container may start
/// again within its pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Process(String);

/// A process is found by the text of a mark.
impl Borrow<str> for Process {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Process {
    /// The process that started at this second of the wall clock in the pod with this UID.
    pub fn new(pod: &str, started: i64) -> Self {
        Self(format!("{pod}.{started}"))
    }

    /// As it stands in a mark.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// UID of the pod of the process that a mark names.
    pub fn pod_of(mark: &str) -> &str {
        mark.rsplit_once('.').map_or(mark, |(pod, _)| pod)
    }
}
