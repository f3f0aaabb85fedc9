//! What the task of one owned Function knows, and what it does next. Synchronous: it is told what
//! happened, changes the gate, and answers with what is to be done. The clock comes in as an
//! argument; nothing here does IO.

mod crowding;
mod outcome;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use rouse_core::function::start_failure::StartFailure;
use rouse_core::function::switch::{self, Plan, RevisionSeen};
use rouse_core::history::History;
use rouse_core::scaling::idle::Outlook;
use rouse_core::scaling::{self, Decision, Moment, Reason, Rest, Seen};
use rouse_core::spread::LEASE;
use rouse_crds::v1alpha1::{Activation, LastError};
use tokio::time::Instant;

use super::actions::{Action, Done};
use super::activation::Clocks;
use super::claiming::{Claiming, Heir};
use super::draining::{Shrinking, choose_victims, decide_shrinking};
use super::foresight::{NextTick, StartTime};
use super::learning::{self, Memory};
use super::metrics::ScalerMetrics;
use super::pods::{Pods, Tracked};
use super::replacing::Replacing;
use super::replicas::Replicas;
use super::reporting::Publisher;
use crate::admission::{Gate, Load};
use crate::community::Community;
use crate::instances::{PodRef, RecordRef};
use crate::namespaces::Seat;
use crate::observe::index::Observed;
use crowding::Delay;

/// What the loss of a pod that shall go costs; all others cost 0.
const VICTIM_COST: i32 = -100;
/// After as many failures a pod goes without its cost: it is idle, and its grace covers the rest.
const MOST_COST_FAILURES: u32 = 3;

/// What the state of a Function is given.
#[derive(Debug)]
pub struct With {
    /// Who may have claims on its pods.
    pub heir: Heir,
    /// Whether other activators may be sending to its pods.
    pub others: bool,
    /// What it counts.
    pub metrics: ScalerMetrics,
    /// Its part of the pods of its namespace, where these are bounded.
    pub seat: Option<Seat>,
    /// What Functions teach one another.
    pub community: Arc<Community>,
}

/// The state of one owned Function.
#[derive(Debug)]
pub struct Scaler {
    gate: Arc<Gate>,
    observed: Arc<Observed>,
    origin: Instant,
    spread: f64,
    scaling: scaling::State,
    /// What is told of what was learned.
    memory: Memory,
    switch: switch::State,
    pods: Pods,
    claiming: Claiming,
    /// In boxes: a map with a single entry makes room for eleven.
    replicas: BTreeMap<Arc<str>, Box<Replicas>>,
    /// Whether there were requests since the decision before. Then the task looks again in a
    /// while; else the next request wakes it.
    active: bool,
    /// Whether the gate turns requests away since no start can succeed.
    failing: bool,
    replacing: Replacing,
    /// How long a pod takes from the write that asks for it until it answers, as measured.
    start_time: StartTime,
    next_tick: NextTick,
    /// What keeps pods from opening, as the gate was told last.
    delay: Option<Delay>,
    /// Whether the gate holds a burst back for pods on their way.
    expecting: bool,
    last_error: Option<LastError>,
    /// In a box, so that the task of a Function that was not woken is small.
    last_activation: Option<Box<Activation>>,
    history: History,
    /// Pods by the last decision.
    desired: u32,
    publisher: Publisher,
    /// When every other activator that sends to the pods has said so, or has stopped.
    others_known_at: Instant,
    metrics: ScalerMetrics,
    seat: Option<Seat>,
    /// Why no pod may come, while the namespace has none left.
    crowded_out: Option<Box<StartFailure>>,
    community: Arc<Community>,
}

impl Scaler {
    /// The state of a Function that is owned from `now` on. What runs already counts as busy.
    /// [`Scaler::observe`] comes next.
    pub fn new(
        gate: Arc<Gate>,
        observed: Arc<Observed>,
        With { heir, others, metrics, seat, community }: With,
        now: Instant,
    ) -> Self {
        let found = found_running(&observed);
        let idle_for = learning::idle_for(&observed.function, Timestamp::now());
        let origin = idle_for.and_then(|idle| now.checked_sub(idle)).unwrap_or(now);
        let scaling = match found {
            0 if idle_for.is_some() => scaling::State::found_asleep(Moment::ZERO),
            0 => scaling::State::default(),
            replicas => scaling::State::found_running(now - origin, replicas),
        };
        let scaling = learning::resume(&observed.function, scaling);
        let spread = spread(&observed.function.uid);
        let limited = observed.function.settings.bounds.concurrency.limit.is_some();
        let unknown = others && !limited && !observed.pods.is_empty();
        Self {
            gate,
            observed,
            origin,
            spread,
            scaling,
            memory: Memory::default(),
            switch: switch::State::default(),
            pods: Pods::default(),
            claiming: Claiming::new(heir),
            replicas: BTreeMap::new(),
            active: false,
            failing: false,
            replacing: Replacing::default(),
            start_time: StartTime::default(),
            next_tick: NextTick::default(),
            delay: None,
            expecting: false,
            last_error: None,
            last_activation: None,
            history: History::default(),
            desired: found,
            publisher: Publisher::default(),
            others_known_at: if unknown { now + LEASE } else { now },
            metrics,
            seat,
            crowded_out: None,
            community,
        }
    }

    /// Takes in what was observed.
    pub fn observe(&mut self, observed: Arc<Observed>) -> Vec<Action> {
        self.observed = observed;
        self.gate.configure(self.observed.function.settings.bounds);
        self.observe_deployments();
        self.pods.observe(&self.observed, &self.gate).into_iter().map(Action::Ask).collect()
    }

    /// Takes in what was done.
    pub fn finish(&mut self, done: Done, now: Instant) {
        match done {
            Done::Answered { uid, exits, at } => self.finish_asking(&uid, exits, at),
            Done::Scaled { revision, result } => {
                self.metrics.scale_written(&result);
                self.pods.end_write(&revision, now);
                if let Some(replicas) = self.replicas.get_mut(&revision) {
                    replicas.end_write(result, now);
                }
            }
            Done::Told { uid, exits, failure, .. } => self.pods.told(&uid, exits, failure, now),
            Done::CostSet { uid, cost, result } => self.pods.end_cost(&uid, cost, result.is_ok()),
            Done::Claimed { uid, found } => self.claiming.claimed(&self.gate, &uid, &found),
            Done::AskedFor { member, answer } => {
                self.metrics.asked_for(&answer);
                self.claiming.asked(&self.gate, &member, &answer);
            }
            Done::NotReplaced { uid } => self.claiming.not_replaced(&uid),
            Done::FailingReplaced { pod, result } => self.metrics.replaced(&pod, &result),
        }
    }

    /// Decides what to do now, and when to decide again if nothing happens before.
    pub fn step(&mut self, clocks: &Clocks) -> (Vec<Action>, Option<Instant>) {
        let now = clocks.instant;
        let silent_at = self.gate.expire_followers();
        let mut actions = self.claim();
        let (load, decision) = self.decide_scale(clocks);
        let (plan, seen) = self.decide_plan(decision.desired, now);
        actions.append(&mut self.ask(&plan));
        actions.extend(self.replace_failing(&load, now));
        self.route(&plan, &load, &decision, now);
        // As it is now that pods were closed.
        let load = self.gate.load();
        let targets = self.write_scales(&plan, &load, now, &mut actions);
        self.settle_failure(&plan, &seen, clocks);
        self.settle_delay(&plan, &decision);
        let expecting_until = self.expect_pods(&plan, now);
        self.tell_followers(&decision);
        self.note_activation(&load, clocks);
        let wake_at = self.next_moment(&load, &decision, &targets, now);
        self.metrics.keep_warm(&self.observed.function, &self.gate, self.pods.answering());
        let report = self.report(&plan, &targets, &load);
        let (report, publish_at) = self.publisher.offer(report, now);
        actions.extend(report.map(Action::Publish));
        let moments = [wake_at, publish_at, expecting_until, silent_at];
        (actions, moments.into_iter().flatten().min())
    }

    fn observe_deployments(&mut self) {
        let deployments = &self.observed.deployments;
        self.replicas.retain(|revision, replicas| {
            deployments.iter().any(|seen| seen.revision == *revision && replicas.is_of(seen))
        });
        for seen in deployments {
            self.replicas
                .entry(Arc::clone(&seen.revision))
                .or_insert_with(|| Box::new(Replicas::new(seen, self.spread)))
                .observe(seen);
        }
    }

    fn finish_asking(&mut self, uid: &str, exits: u32, at: Instant) {
        let raise = self.pods.get(uid).and_then(|pod| {
            let replicas = self.replicas.get(&pod.view().seen.revision)?;
            replicas.raise_of(pod.view().created?)
        });
        if let Some(raise) = raise.filter(|_| exits == 0) {
            let took = at.saturating_duration_since(raise.sent);
            self.start_time.note(took);
        }
        self.pods.answered(uid, exits, at, raise);
    }

    /// Works on the claims of pods, without which nothing is sent to them.
    fn claim(&mut self) -> Vec<Action> {
        let actions = self.claiming.step(&self.gate, &self.observed);
        let gate = &self.gate;
        self.pods.note_claims(|uid| gate.may_send_to(uid));
        actions
    }

    fn decide_scale(&mut self, clocks: &Clocks) -> (Load, Decision) {
        let now = clocks.instant;
        let load = self.gate.take_load();
        let seen = Seen {
            peak: load.peak,
            load: load.in_flight.saturating_add(load.waiting),
            waiting: load.waiting,
            ready: u32::try_from(self.pods.open_count()).unwrap_or(u32::MAX),
            starting: u32::try_from(self.pods.starting_count()).unwrap_or(u32::MAX),
            idle_since: load.idle_since.map(|at| at.saturating_duration_since(self.origin)),
            rest: load.rest.map(|(since, until)| Rest {
                since: since.saturating_duration_since(self.origin),
                until: until.saturating_duration_since(self.origin),
            }),
            traffic: load.traffic,
            outlook: self.look_ahead(&load, clocks),
            ..Seen::default()
        };
        self.active = load.peak > 0;
        let decision = self.decide_among_others(seen, now);
        self.metrics.decided(&decision);
        let from = std::mem::replace(&mut self.desired, decision.desired);
        self.memory.note(&self.scaling, self.origin, from != decision.desired, clocks);
        if from != decision.desired {
            self.history.decided(from, &decision, clocks.wall);
        }
        (load, decision)
    }

    /// What is known of the time ahead.
    fn look_ahead(&mut self, load: &Load, clocks: &Clocks) -> Outlook<'static> {
        let (mean, cautious) = (self.start_time.mean(), self.start_time.cautious());
        let outlook = Outlook { start: mean, lead: cautious, ..Outlook::default() };
        let busy = if load.in_flight.saturating_add(load.waiting) > 0 {
            Some(clocks.wall)
        } else {
            load.idle_since.map(|at| clocks.wall_of(at))
        };
        let at = (clocks.wall, outlook.late());
        let tick = self.next_tick.find(&self.observed.ticks, busy, at);
        let expected = tick.map(|tick| self.moment_of(tick, clocks));
        Outlook { expected, ..outlook }
    }

    /// A time on the wall's clock, on that of decisions.
    fn moment_of(&self, wall: Timestamp, clocks: &Clocks) -> Moment {
        let now = clocks.instant.saturating_duration_since(self.origin);
        let ahead = wall.duration_since(clocks.wall);
        if ahead.is_negative() {
            now.saturating_sub(ahead.unsigned_abs())
        } else {
            now + ahead.unsigned_abs()
        }
    }

    fn decide_plan(
        &mut self,
        desired: u32,
        now: Instant,
    ) -> (Plan, BTreeMap<Arc<str>, RevisionSeen>) {
        let revisions: BTreeMap<Arc<str>, RevisionSeen> = self
            .replicas
            .keys()
            .map(|revision| (Arc::clone(revision), self.revision_seen(revision, now)))
            .collect();
        let function = &self.observed.function;
        let seen = switch::Seen {
            latest_ready: function.latest_ready.as_ref(),
            latest_created: function.latest_created.as_ref(),
            revisions: &revisions,
            desired,
        };
        (switch::decide(seen, &mut self.switch), revisions)
    }

    fn revision_seen(&self, revision: &str, now: Instant) -> RevisionSeen {
        let answering = self.pods.of(revision).filter(|(_, pod)| pod.is_dependable(now)).count();
        let failures = || self.failures(revision, now);
        RevisionSeen {
            answering: u32::try_from(answering).unwrap_or(u32::MAX),
            failing: failures().any(|failure| !failure.cause.is_capacity()),
            crowded: failures().any(|failure| failure.cause.is_capacity()),
        }
    }

    /// Why pods of a revision don't start: those that are there, then those that are not.
    fn failures<'a>(
        &'a self,
        revision: &'a str,
        now: Instant,
    ) -> impl Iterator<Item = &'a StartFailure> {
        let of_pods = self.pods.of(revision).filter_map(move |(_, pod)| pod.failure(now));
        let replicas = self.replicas.get(revision);
        let wanted = move |_: &&StartFailure| {
            replicas.is_some_and(|replicas| replicas.known() > 0 || replicas.is_refused())
        };
        of_pods.chain(replicas.and_then(|replicas| replicas.failure()).filter(wanted))
    }

    fn ask(&mut self, plan: &Plan) -> Vec<Action> {
        let function = &self.observed.function;
        let asking = self.pods.ask(function, |revision| plan.pods_of(revision) > 0);
        asking.into_iter().map(Action::Ask).collect()
    }

    /// Deletes a pod that keeps failing. The write that names its UID is what says whom it means.
    fn replace_failing(&mut self, load: &Load, now: Instant) -> Option<Action> {
        let uid = self.replacing.choose(&load.pods, now)?;
        let seen = &self.pods.get(&uid)?.view().seen;
        let pod = PodRef { namespace: Arc::clone(&seen.namespace), name: Arc::clone(&seen.name) };
        Some(Action::ReplaceFailing { uid, pod })
    }

    /// Opens and closes pods. The alarm comes first: whoever comes to a gate whose last pod was
    /// closed must wake this task.
    fn route(&mut self, plan: &Plan, load: &Load, decision: &Decision, now: Instant) {
        self.gate.set_alarm(self.alarm(decision));
        let mut victims = BTreeSet::new();
        for revision in self.replicas.keys() {
            let facts = self.pods.facts(revision, load, now);
            victims.append(&mut choose_victims(&facts, plan.pods_of(revision)));
        }
        let routed = |uid: &str, pod: &Tracked| {
            !victims.contains(uid) && plan.routes_to(&pod.view().seen.revision)
        };
        self.pods.route(&self.gate, now, routed);
    }

    /// Load above which the decision may be another. Whoever ends a rest is told of, too.
    fn alarm(&self, decision: &Decision) -> u32 {
        if !self.active {
            return 0;
        }
        scaling::alarm(&self.observed.function.settings.policy, decision)
    }

    /// Tells who sends straight to the pods which are open. Each is to keep to its share of the
    /// target while more pods can come of what is left over.
    fn tell_followers(&self, decision: &Decision) {
        let settings = &self.observed.function.settings;
        let most = decision.reason == Reason::NamespaceMax
            || decision.desired >= settings.policy.scaling.max;
        let final_count = most && !self.expecting;
        let target = settings.bounds.concurrency.target;
        self.gate.tell_followers((!final_count).then_some(target));
    }

    /// Begins the writes that bring each Deployment to its number; answers with these numbers.
    fn write_scales(
        &mut self,
        plan: &Plan,
        load: &Load,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> BTreeMap<Arc<str>, u32> {
        let mut targets = BTreeMap::new();
        for (revision, replicas) in &mut self.replicas {
            let wanted = plan.pods_of(revision);
            let facts = self.pods.facts(revision, load, now);
            let victims = choose_victims(&facts, wanted);
            let shrinking = decide_shrinking(&facts, &victims, wanted);
            let target = wanted.max(shrinking.replicas.min(replicas.known()));
            targets.insert(Arc::clone(revision), target);
            // Somebody came after the last pod was closed: the next step, which that one has
            // called for, opens it again.
            let awaited = plan.serving.as_ref() == Some(revision) && load.waiting > 0;
            if replicas.is_writing() || (target == 0 && awaited) {
                continue;
            }
            let shrinks = target < replicas.known();
            if shrinks && now < self.others_known_at {
                continue;
            }
            if shrinks && target > 0 && !settle_costs(&mut self.pods, revision, &shrinking, actions)
            {
                continue;
            }
            if replicas.begin_write(target, now) {
                if shrinks {
                    self.pods.condemn(&shrinking.batch);
                }
                actions.push(Action::Scale {
                    revision: Arc::clone(revision),
                    deployment: replicas.target().clone(),
                    replicas: target,
                    shrinks,
                });
                // Beside the write, so that the code is there before the pod.
                if !shrinks && replicas.takes_code() {
                    let function = &self.observed.function;
                    let record = RecordRef::new(&function.key, &function.uid, revision);
                    actions.push(Action::FetchCode(record));
                }
            }
        }
        targets
    }
}

/// Sees to it that those of the batch cost less than those that stay; answers whether they do.
fn settle_costs(
    pods: &mut Pods,
    revision: &str,
    shrinking: &Shrinking,
    actions: &mut Vec<Action>,
) -> bool {
    let mut settled = true;
    let mut writes = Vec::new();
    for (uid, pod) in pods.of(revision) {
        let goes = shrinking.batch.contains(uid);
        let right = if goes { pod.cost() <= VICTIM_COST } else { pod.cost() > VICTIM_COST };
        let (writing, given_up) = pod.cost_settles(MOST_COST_FAILURES);
        settled &= (right && !writing) || given_up;
        if !right && !writing && !given_up {
            let seen = &pod.view().seen;
            let pod =
                PodRef { namespace: Arc::clone(&seen.namespace), name: Arc::clone(&seen.name) };
            let cost = if goes { VICTIM_COST } else { 0 };
            writes.push(Action::SetCost { uid: Arc::clone(uid), pod, cost });
        }
    }
    for write in &writes {
        if let Action::SetCost { uid, .. } = write {
            pods.begin_cost(uid);
        }
    }
    actions.append(&mut writes);
    settled
}

/// Pods that were asked for, of a revision that serves or soon may: what others still have only
/// drains.
fn found_running(observed: &Observed) -> u32 {
    let function = &observed.function;
    let counts = [&function.latest_ready, &function.latest_created];
    let current = |revision: &Arc<str>| counts.iter().any(|r| r.as_ref() == Some(revision));
    let deployments = observed.deployments.iter().filter(|seen| current(&seen.revision));
    deployments.map(|seen| seen.replicas).max().unwrap_or_default()
}

/// A factor around 1, the same for a Function always.
fn spread(uid: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let fraction = u8::try_from(hasher.finish() & 0xff).map_or(0.5, |byte| f64::from(byte) / 255.0);
    0.75 + fraction / 2.0
}
