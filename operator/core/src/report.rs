//! What activators tell the leading controller about the Functions that they own, a line of JSON
//! each. The controller is the only writer of status; this is where it learns of the pods.

use std::collections::BTreeMap;

use rouse_crds::v1alpha1::{Activation, LastError, Learned};
use serde::{Deserialize, Serialize};

use crate::function::FunctionKey;
use crate::history::History;
use crate::usage::{Process, UsageReport};

/// Path of the stream of reports on an activator's peer port.
pub const REPORTS_PATH: &str = "/v1/reports";

/// One line of the stream. A new stream tells how far the routes go, then starts with a `Function`
/// line for each owned Function, then `Synced`, then a line for each change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReportLine {
    /// What the activator knows of a Function that it owns; replaces what it said before.
    Function(Box<FunctionReport>),
    /// The activator no longer owns the Function with this UID.
    Released {
        /// UID of the Function.
        uid: String,
    },
    /// All owned Functions have been told.
    Synced,
    /// What the activator has routes for, whoever owns it. Told early on each stream and whenever
    /// it grows; the latest counts.
    Routed(Routed),
    /// The process that speaks. Told early on each stream.
    Process(Process),
    /// What the activator counted of a Function, whoever owns it; replaces what it said before.
    Usage(Box<UsageReport>),
    /// The last line of a process that ends in order: it counted nothing since.
    Farewell(Process),
    /// Nothing happened for a while; the activator is there.
    Heartbeat,
}

/// How far the routes in force go: they are made of all Functions and Triggers as they were at these
/// versions. Versions of one kind are numbers that grow, so that one number speaks for all objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routed {
    /// Newest `resourceVersion` of a Function.
    pub functions: u64,
    /// Newest `resourceVersion` of a Trigger.
    pub triggers: u64,
}

impl Routed {
    /// Whether these routes go as far as `needed`.
    pub const fn covers(self, needed: Self) -> bool {
        self.functions >= needed.functions && self.triggers >= needed.triggers
    }
}

/// What the owner of a Function knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionReport {
    /// Namespace and name.
    pub key: FunctionKey,
    /// UID of the object.
    pub uid: String,
    /// Version of the membership under which the activator owns it: a report of a higher version
    /// replaces one of a lower.
    pub membership: u64,
    /// Revision that takes the traffic, once it has answered under this owner or was `latestReady`
    /// when the owner took over.
    pub serving: Option<String>,
    /// State of each revision that has a Deployment.
    pub revisions: BTreeMap<String, RevisionReport>,
    /// The last waking.
    pub last_activation: Option<Activation>,
    /// What last kept a pod from serving; none again once a pod of that revision serves.
    pub last_error: Option<LastError>,
    /// What it has learned of its idle times; none where it does not learn, or nothing yet.
    #[serde(default)]
    pub learned: Option<Learned>,
    /// What happened last, as far as the owner saw it.
    #[serde(default)]
    pub history: History,
}

/// The pods of one revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionReport {
    /// Pods that the scaler asked for.
    pub desired: u32,
    /// Pods that answer.
    pub ready: u32,
    /// Requests that its pods are serving.
    pub in_flight: u32,
}
