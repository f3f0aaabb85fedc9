//! The pods of one Function as its task follows them: who was asked, who answered, who gets
//! requests, who is condemned. It changes the gate and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rouse_core::function::start_failure::StartFailure;
use tokio::time::Instant;

use super::draining::{PodFacts, Standing};
use super::replicas::Raise;
use crate::admission::{Gate, Load};
use crate::instances::{Question, RecordRef};
use crate::observe::index::{FunctionView, Observed, PodView};
use crate::observe::objects::CodeWay;
use crate::pod::{Pod, Start};
use crate::supply::Shim;
use crate::upstream::Connections;

/// How long after a Deployment was told to have fewer pods one that was meant may still be killed.
/// It gets no requests until then, even if it is wanted again.
const CONDEMNED_FOR: Duration = Duration::from_secs(1);

/// The pods of one Function.
#[derive(Debug, Default)]
pub struct Pods {
    all: BTreeMap<Arc<str>, Tracked>,
}

/// One pod.
#[derive(Debug)]
pub struct Tracked {
    view: Arc<PodView>,
    /// What it is being asked.
    asking: Option<Question>,
    /// What requests know of it, once it has answered; it answers while `exits` stands.
    pod: Option<Arc<Pod>>,
    answered_at_exits: Option<u32>,
    /// What its shim says that keeps it from serving.
    told: Option<Told>,
    /// Whether its claim is held, where one is needed.
    claimed: bool,
    open: bool,
    condemned: Option<Condemned>,
    /// Its deletion cost, by the newest word.
    cost: i32,
    cost_in_flight: bool,
    cost_failures: u32,
}

#[derive(Clone, Debug)]
struct Told {
    failure: StartFailure,
    /// How often its container had ended.
    exits: u32,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Condemned {
    /// The write is on its way.
    Writing,
    /// The write is over; the pod may still be killed until then.
    Until(Instant),
}

/// A container that runs and has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nothing listens on this port.
    Port(u16),
    /// Its code has not come up.
    Code,
}

/// A change of what is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Asking {
    /// Ask this pod until it answers, and no longer what it was asked before.
    Begin {
        /// UID of the pod.
        uid: Arc<str>,
        /// How often its container had ended.
        exits: u32,
        /// How to ask.
        question: Question,
        /// How to supply it, where it has source.
        shim: Option<Shim>,
    },
    /// Ask it no more.
    End {
        /// UID of the pod.
        uid: Arc<str>,
    },
}

impl Tracked {
    fn new(view: &Arc<PodView>) -> Self {
        Self {
            view: Arc::clone(view),
            asking: None,
            pod: None,
            answered_at_exits: None,
            told: None,
            claimed: false,
            open: false,
            condemned: None,
            cost: view.seen.deletion_cost,
            cost_in_flight: false,
            cost_failures: 0,
        }
    }

    /// The pod as the cluster tells of it.
    pub fn view(&self) -> &PodView {
        &self.view
    }

    /// Whether it has answered, and its container has not ended since.
    pub fn is_answering(&self) -> bool {
        self.answered_at_exits == Some(self.view.seen.exits)
    }

    fn standing(&self) -> Standing {
        match (self.open, self.is_answering() && self.claimed) {
            (true, _) => Standing::Open,
            (false, true) => Standing::Closed,
            (false, false) => Standing::Starting,
        }
    }

    /// What can be said of its container where that runs and has not answered.
    pub fn silence(&self) -> Option<Silence> {
        let seen = &self.view.seen;
        let address = seen.address.filter(|_| seen.running && !self.is_answering())?;
        Some(if seen.code.is_some() { Silence::Code } else { Silence::Port(address.port()) })
    }

    /// Whether it gets requests.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Its deletion cost.
    pub const fn cost(&self) -> i32 {
        self.cost
    }

    /// Whether its cost is being written, or could not be written too often.
    pub const fn cost_settles(&self, most_failures: u32) -> (bool, bool) {
        (self.cost_in_flight, self.cost_failures >= most_failures)
    }

    /// How it came up.
    pub fn start(&self) -> Option<&Start> {
        self.pod.as_ref().map(|pod| &pod.start)
    }

    fn is_condemned(&self, now: Instant) -> bool {
        match self.condemned {
            None => false,
            Some(Condemned::Writing) => true,
            Some(Condemned::Until(until)) => now < until,
        }
    }

    /// Whether it can serve for some time to come.
    pub fn is_dependable(&self, now: Instant) -> bool {
        self.is_answering() && self.claimed && !self.is_condemned(now)
    }

    /// Why it does not start, once that has lasted for its grace.
    pub fn failure(&self, now: Instant) -> Option<&StartFailure> {
        let (failure, since) = self.trouble()?;
        let counts = since + failure.cause.grace() <= now;
        (counts && !self.is_answering()).then_some(failure)
    }

    /// When its failure counts.
    pub fn failure_counts_at(&self) -> Option<Instant> {
        let (failure, since) = self.trouble()?;
        Some(since + failure.cause.grace())
    }

    /// What keeps it from serving, and since when: by the kubelet, else by itself.
    fn trouble(&self) -> Option<(&StartFailure, Instant)> {
        let seen = &self.view.seen;
        if let Some(failure) = &seen.failure {
            return Some((failure, self.view.failing?));
        }
        let told = self.told.as_ref().filter(|told| told.exits == seen.exits)?;
        Some((&told.failure, told.since))
    }

    /// How to supply it while it comes up, where it has source. `function` is its Function.
    fn shim(&self, function: &FunctionView) -> Option<Shim> {
        let seen = &self.view.seen;
        let record = || RecordRef::new(&function.key, &function.uid, &seen.revision);
        let record = (seen.code? == CodeWay::Pushed).then(record);
        Some(Shim { control: SocketAddr::new(seen.address?.ip(), seen.control_port), record })
    }

    fn question(&self, path: Option<&Arc<str>>) -> Option<Question> {
        Some(Question {
            address: self.view.seen.address?,
            protocol: self.view.seen.protocol,
            path: path.cloned(),
        })
    }
}

impl Pods {
    /// A pod that is not on its way out.
    pub fn get(&self, uid: &str) -> Option<&Tracked> {
        self.all.get(uid)
    }

    /// All pods that are not on their way out, with their UIDs.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Tracked)> {
        self.all.iter()
    }

    /// The pods of one revision.
    pub fn of<'a>(
        &'a self,
        revision: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Tracked)> {
        self.all.iter().filter(move |(_, pod)| &*pod.view.seen.revision == revision)
    }

    /// Notes whose claims are held, where claims are needed.
    pub fn note_claims(&mut self, held: impl Fn(&str) -> bool) {
        for (uid, pod) in &mut self.all {
            pod.claimed = held(uid);
        }
    }

    /// Pods that get requests.
    pub fn open_count(&self) -> usize {
        self.all.values().filter(|pod| pod.open).count()
    }

    /// Pods that have not answered yet.
    pub fn starting_count(&self) -> usize {
        self.all.values().filter(|pod| !pod.is_answering()).count()
    }

    /// Revisions and memory of the pods that answer.
    pub fn answering(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let answering = self.all.values().filter(|pod| pod.is_answering());
        answering.map(|pod| (&pod.view.seen.revision, pod.view.seen.memory))
    }

    /// Takes in what was observed, and forgets who goes.
    pub fn observe(&mut self, observed: &Observed, gate: &Arc<Gate>) -> Vec<Asking> {
        let mut changes = Vec::new();
        let there: BTreeSet<&Arc<str>> = observed
            .pods
            .iter()
            .filter(|view| !view.seen.going)
            .map(|view| &view.seen.uid)
            .collect();
        self.all.retain(|uid, pod| {
            if there.contains(uid) {
                return true;
            }
            gate.retire(uid);
            if pod.asking.is_some() {
                changes.push(Asking::End { uid: Arc::clone(uid) });
            }
            false
        });
        for view in observed.pods.iter().filter(|view| !view.seen.going) {
            let uid = Arc::clone(&view.seen.uid);
            let pod = self.all.entry(uid).or_insert_with(|| Tracked::new(view));
            if pod.view.seen.deletion_cost != view.seen.deletion_cost {
                pod.cost = view.seen.deletion_cost;
            }
            pod.view = Arc::clone(view);
        }
        changes
    }

    /// Begins to ask those whom it is time to ask, and leaves the others alone. `wanted` says
    /// whether a revision has any use for its pods.
    pub fn ask(&mut self, function: &FunctionView, wanted: impl Fn(&str) -> bool) -> Vec<Asking> {
        let path = function.settings.readiness_path.as_ref();
        let mut changes = Vec::new();
        for (uid, pod) in &mut self.all {
            let seen = &pod.view.seen;
            let useful = !pod.is_answering() && seen.failure.is_none() && wanted(&seen.revision);
            let question = pod.question(path).filter(|_| useful);
            if pod.asking == question {
                continue;
            }
            let (uid, exits) = (Arc::clone(uid), seen.exits);
            changes.push(match question.clone() {
                Some(question) => Asking::Begin { uid, exits, question, shim: pod.shim(function) },
                None => Asking::End { uid },
            });
            pod.asking = question;
        }
        changes
    }

    /// Takes in what a pod's shim says of it, after its container had ended `exits` times.
    pub fn told(&mut self, uid: &str, exits: u32, failure: Option<StartFailure>, now: Instant) {
        if let Some(pod) = self.all.get_mut(uid) {
            pod.told = failure.map(|failure| Told { failure, exits, since: now });
        }
    }

    /// Takes in that a pod answered `at` that moment, after its container had ended `exits` times.
    /// `raise` is the write that asked for it.
    pub fn answered(&mut self, uid: &str, exits: u32, at: Instant, raise: Option<Raise>) {
        let Some(pod) = self.all.get_mut(uid) else { return };
        pod.asking = None;
        let Some(address) = pod.view.seen.address.filter(|_| pod.view.seen.exits == exits) else {
            return;
        };
        pod.answered_at_exits = Some(exits);
        let view = &pod.view;
        pod.pod.get_or_insert_with(|| {
            Arc::new(Pod {
                uid: Arc::clone(&view.seen.uid),
                name: Arc::clone(&view.seen.name),
                revision: Arc::clone(&view.seen.revision),
                address,
                protocol: view.seen.protocol,
                memory: view.seen.memory,
                start: start_of(view, at, raise),
                connections: Connections::default(),
            })
        });
    }

    /// Lets requests through to those that `routed` says and to nobody else. Opens before it
    /// closes, so that a switch has no gap.
    pub fn route(
        &mut self,
        gate: &Arc<Gate>,
        now: Instant,
        routed: impl Fn(&str, &Tracked) -> bool,
    ) {
        let mut close = Vec::new();
        for (uid, pod) in &mut self.all {
            let open = pod.is_dependable(now) && routed(uid, pod);
            match &pod.pod {
                Some(known) if open && !pod.open => gate.open(known),
                _ if !open && pod.open => close.push(uid),
                _ => {}
            }
            pod.open = open;
        }
        for uid in close {
            gate.close(uid);
        }
    }

    /// What counts of the pods of a revision, under `load`.
    pub fn facts(&self, revision: &str, load: &Load, now: Instant) -> Vec<PodFacts> {
        // One that others may be sending to counts as busy.
        let in_flight: HashMap<&str, u32> = load
            .pods
            .iter()
            .map(|pod| (&*pod.uid, pod.in_flight.max(u32::from(pod.awaited && !pod.open))))
            .collect();
        self.of(revision)
            .map(|(uid, pod)| PodFacts {
                uid: Arc::clone(uid),
                standing: pod.standing(),
                ready: pod.view.seen.ready,
                condemned: pod.is_condemned(now),
                in_flight: in_flight.get(&**uid).copied().unwrap_or_default(),
                made: pod.view.seen.made,
            })
            .collect()
    }

    /// Notes that a Deployment is told to do without these.
    pub fn condemn(&mut self, batch: &BTreeSet<Arc<str>>) {
        for (uid, pod) in &mut self.all {
            if batch.contains(uid) {
                pod.condemned = Some(Condemned::Writing);
            }
        }
    }

    /// Notes that the Deployment of a revision was told, or was not: nobody can know.
    pub fn end_write(&mut self, revision: &str, now: Instant) {
        for pod in self.all.values_mut().filter(|pod| &*pod.view.seen.revision == revision) {
            if matches!(pod.condemned, Some(Condemned::Writing)) {
                pod.condemned = Some(Condemned::Until(now + CONDEMNED_FOR));
            }
        }
    }

    /// When the next condemned pod may be taken for a survivor.
    pub fn reprieve_at(&self, now: Instant) -> Option<Instant> {
        let until = |pod: &Tracked| match pod.condemned {
            Some(Condemned::Until(until)) => Some(until),
            _ => None,
        };
        self.all.values().filter_map(until).filter(|until| *until > now).min()
    }

    /// Notes that the cost of a pod is being written.
    pub fn begin_cost(&mut self, uid: &str) {
        if let Some(pod) = self.all.get_mut(uid) {
            pod.cost_in_flight = true;
        }
    }

    /// Takes in what became of the write of a pod's cost.
    pub fn end_cost(&mut self, uid: &str, cost: i32, written: bool) {
        let Some(pod) = self.all.get_mut(uid) else { return };
        pod.cost_in_flight = false;
        if written {
            pod.cost = cost;
            pod.cost_failures = 0;
        } else {
            pod.cost_failures += 1;
        }
    }
}

/// How a pod came up that was seen to answer `at` that moment.
fn start_of(view: &PodView, at: Instant, raise: Option<Raise>) -> Start {
    Start {
        scaled: raise.and_then(|raise| raise.acknowledged),
        created: view.created,
        scheduled: view.scheduled,
        addressed: view.addressed,
        listening: Some(at),
    }
}
