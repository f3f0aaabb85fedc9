//! The task of one owned Function: it follows the gate, the cluster and its own writes, lets the
//! state decide, and does what comes of it. It holds no state of its own but what is on its way.

pub mod actions;
pub mod activation;
pub mod claiming;
pub mod draining;
mod foresight;
mod learning;
pub mod metrics;
pub mod pods;
pub mod replacing;
pub mod replicas;
pub mod reporting;
pub mod state;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use rouse_core::handover::{Answer, ClaimId, Found};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use actions::{Action, Done};
use activation::Clocks;
use claiming::Heir;
use metrics::ScalerMetrics;
use pods::Asking;
use state::{Scaler, With};

use crate::admission::Gate;
use crate::community::Community;
use crate::instances::{CallError, Claimed, Instances, PodRef, ScaleError};
use crate::namespaces::{self, Seat};
use crate::observe::index::Observed;
use crate::readiness::ask_until_ready;
use crate::release::fresh::Fresh;
use crate::release::neighbours::Neighbours;
use crate::reports::Reports;
use crate::supply::Supply;

/// Pause before a pod is claimed again whose claim nobody knows.
const CLAIM_PAUSE: Duration = Duration::from_millis(200);
/// Pause before an activator is asked again that lives and does not give.
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// Pause before a pod is deleted again, or a Deployment told to shrink, that could not be.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// What the task of a Function is given.
pub struct Task<I> {
    /// The Function's gate.
    pub gate: Arc<Gate>,
    /// What is known of it. The task ends when the sender is dropped.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// Where its pods live.
    pub instances: Arc<I>,
    /// Where its reports go.
    pub reports: Reports,
    /// What it counts.
    pub metrics: ScalerMetrics,
    /// The other activators.
    pub neighbours: Arc<Neighbours>,
    /// Reads of the membership.
    pub fresh: Arc<Fresh<I>>,
    /// UIDs of the activators that may have owned the Function before.
    pub predecessors: Vec<Arc<str>>,
    /// Whether other activators may be sending to its pods.
    pub others: bool,
    /// Its part of the pods of its namespace, where these are bounded.
    pub seat: Option<Seat>,
    /// What Functions teach one another.
    pub community: Arc<Community>,
}

/// What is said where something is not done for want of certainty.
const NOT_CONFIRMED: &str = "that this activator owns the Function is not confirmed";

/// What is on its way.
struct Running<I> {
    gate: Arc<Gate>,
    instances: Arc<I>,
    reports: Reports,
    neighbours: Arc<Neighbours>,
    fresh: Arc<Fresh<I>>,
    work: FuturesUnordered<BoxFuture<'static, Option<Done>>>,
    asking: HashMap<Arc<str>, Asked>,
    uid: Arc<str>,
    membership: u64,
}

/// A pod that is asked, and supplied where it has source.
struct Asked {
    ready: AbortHandle,
    supplied: Option<AbortHandle>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.ready.abort();
        self.supplied.iter().for_each(AbortHandle::abort);
    }
}

/// Runs the task until the Function is no longer owned. It is made here and not within the future,
/// which would else keep room for what it is made of: there are ten thousand of them.
pub fn run<I: Instances>(task: Task<I>) -> impl Future<Output = ()> + Send {
    let Task {
        gate,
        mut observed,
        instances,
        reports,
        metrics,
        neighbours,
        fresh,
        predecessors,
        others,
        seat,
        community,
    } = task;
    let first = Arc::clone(&observed.borrow_and_update());
    let heir = Heir { me: Arc::clone(neighbours.me()), predecessors };
    let mut changed = seat.as_ref().map(Seat::watch);
    let with = With { heir, others, metrics, seat, community };
    let mut scaler = Scaler::new(Arc::clone(&gate), Arc::clone(&first), with, Instant::now());
    let mut running = Running {
        gate: Arc::clone(&gate),
        instances,
        reports,
        neighbours,
        fresh,
        work: FuturesUnordered::new(),
        asking: HashMap::new(),
        uid: Arc::clone(&first.function.uid),
        membership: first.membership,
    };
    running.begin_all(scaler.observe(first));
    async move {
        loop {
            let (actions, wake_at) = scaler.step(&Clocks::now());
            running.begin_all(actions);
            let mut timer = Timer::until(wake_at);
            tokio::select! {
                biased;
                changed = observed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let observed = Arc::clone(&observed.borrow_and_update());
                    running.membership = observed.membership;
                    running.begin_all(scaler.observe(observed));
                }
                Some(done) = running.work.next(), if !running.work.is_empty() => {
                    if let Some(done) = done {
                        running.follow_up(&done);
                        scaler.finish(done, Instant::now());
                    }
                }
                () = gate.changed() => {}
                () = namespaces::changed(changed.as_mut()), if scaler.shares_pods() => {}
                () = timer.wait() => {}
            }
        }
    }
}

impl<I: Instances> Running<I> {
    fn begin_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.begin(action);
        }
    }

    fn begin(&mut self, action: Action) {
        let instances = Arc::clone(&self.instances);
        match action {
            Action::Ask(Asking::Begin { uid, exits, question, shim }) => {
                let supply = shim.map(Supply::new);
                let supplied = supply.map(|supply| self.supply(&uid, exits, supply));
                let asked = (Arc::clone(&uid), exits);
                let ready = self.abortable(async move {
                    let at = ask_until_ready(&*instances, &question).await;
                    Done::Answered { uid: asked.0, exits: asked.1, at }
                });
                self.asking.insert(uid, Asked { ready, supplied });
            }
            Action::Ask(Asking::End { uid }) => drop(self.asking.remove(&uid)),
            Action::FetchCode(record) => self.work.push(Box::pin(async move {
                // Who needs it asks again, and tells what is wrong.
                let _ = instances.fetch_code(&record).await;
                None
            })),
            Action::Scale { revision, deployment, replicas, shrinks } => {
                let confirm = self.confirm();
                self.work.push(Box::pin(async move {
                    let result = if shrinks && !confirm.await {
                        Err(not_confirmed())
                    } else {
                        instances.apply_scale(&deployment, replicas).await
                    };
                    Some(Done::Scaled { revision, result })
                }));
            }
            Action::SetCost { uid, pod, cost } => {
                self.work.push(Box::pin(async move {
                    let result = instances.apply_deletion_cost(&pod, cost).await;
                    Some(Done::CostSet { uid, cost, result })
                }));
            }
            Action::Claim { uid, pod, claim } => self.claim(uid, pod, claim),
            Action::AskFor { member } => self.ask_for(member),
            Action::Replace { uid, pod } => self.replace(uid, pod),
            Action::ReplaceFailing { uid, pod } => self.replace_failing(uid, pod),
            Action::Publish(report) => self.reports.publish(*report),
        }
    }

    fn claim(&mut self, uid: Arc<str>, pod: PodRef, claim: ClaimId) {
        let instances = Arc::clone(&self.instances);
        self.work.push(Box::pin(async move {
            let found = match instances.apply_claim(&pod, &uid, claim.as_str()).await {
                Ok(Claimed::Ours) => Found::Standing(claim),
                Ok(Claimed::Others(standing)) => Found::Standing(standing.into()),
                Ok(Claimed::Gone) => Found::Gone,
                Err(error) => {
                    tracing::warn!(%error, pod = %pod.name, "claiming a pod failed");
                    sleep(CLAIM_PAUSE).await;
                    Found::Unknown
                }
            };
            Some(Done::Claimed { uid, found })
        }));
    }

    fn ask_for(&mut self, member: Arc<str>) {
        let (neighbours, function) = (Arc::clone(&self.neighbours), Arc::clone(&self.uid));
        let gate = Arc::clone(&self.gate);
        // It outlives this task: what is given must come to somebody, whoever owns the Function then.
        let asking = tokio::spawn(async move {
            let released = neighbours.ask(&function, &member).await;
            let answer = released.take_in(&gate, &member);
            (member, answer)
        });
        self.work.push(Box::pin(async move {
            let (member, answer) = asking.await.ok()?;
            if answer == Answer::Refused {
                sleep(ASK_PAUSE).await;
            }
            Some(Done::AskedFor { member, answer })
        }));
    }

    fn replace(&mut self, uid: Arc<str>, pod: PodRef) {
        let (instances, confirm) = (Arc::clone(&self.instances), self.confirm());
        self.work.push(Box::pin(async move {
            if confirm.await && delete(&*instances, &pod, &uid).await {
                return None;
            }
            sleep(WRITE_PAUSE).await;
            Some(Done::NotReplaced { uid })
        }));
    }

    fn replace_failing(&mut self, uid: Arc<str>, pod: PodRef) {
        let (instances, confirm) = (Arc::clone(&self.instances), self.confirm());
        self.work.push(Box::pin(async move {
            let result = if confirm.await {
                instances.delete_pod(&pod, &uid).await
            } else {
                Err(CallError(NOT_CONFIRMED.into()))
            };
            Some(Done::FailingReplaced { pod, result })
        }));
    }

    /// Whether the Function is still owned here: what is lost by a write is lost for all, and this
    /// process may have slept since it last heard of the membership.
    fn confirm(&self) -> impl Future<Output = bool> + Send + use<I> {
        let (fresh, neighbours) = (Arc::clone(&self.fresh), Arc::clone(&self.neighbours));
        let function = Arc::clone(&self.uid);
        async move {
            match fresh.fetch().await {
                Ok(now) => now.owner(&function).is_none_or(|owner| *owner.uid == **neighbours.me()),
                Err(error) => {
                    tracing::warn!(%error, "reading the membership failed");
                    false
                }
            }
        }
    }

    /// Begins work that can be broken off.
    fn abortable(&self, work: impl Future<Output = Done> + Send + 'static) -> AbortHandle {
        let (handle, registration) = AbortHandle::new_pair();
        let work = Abortable::new(work, registration);
        self.work.push(Box::pin(async move { work.await.ok() }));
        handle
    }

    /// Supplies a pod until there is something new to tell.
    fn supply(&self, uid: &Arc<str>, exits: u32, mut supply: Supply) -> AbortHandle {
        let (instances, uid) = (Arc::clone(&self.instances), Arc::clone(uid));
        self.abortable(async move {
            let failure = supply.until_news(&*instances).await;
            Done::Told { uid, exits, failure, supply }
        })
    }

    /// Ends or goes on with what was done.
    fn follow_up(&mut self, done: &Done) {
        match done {
            Done::Answered { uid, .. } => drop(self.asking.remove(uid)),
            Done::Told { uid, exits, supply, .. } if self.asking.contains_key(uid) => {
                let supplied = self.supply(uid, *exits, supply.clone());
                if let Some(asked) = self.asking.get_mut(uid) {
                    asked.supplied = Some(supplied);
                }
            }
            _ => {}
        }
    }
}

impl<I> Drop for Running<I> {
    fn drop(&mut self) {
        self.reports.release(&self.uid, self.membership);
    }
}

async fn delete<I: Instances>(instances: &I, pod: &PodRef, uid: &str) -> bool {
    let deleted = instances.delete_pod(pod, uid).await;
    match &deleted {
        Ok(()) => tracing::info!(pod = %pod.name, "replaced: nobody tells what runs in it"),
        Err(error) => tracing::warn!(%error, pod = %pod.name, "replacing a pod failed"),
    }
    deleted.is_ok()
}

fn not_confirmed() -> ScaleError {
    ScaleError::Unavailable { message: NOT_CONFIRMED.into(), retry_after: Some(WRITE_PAUSE) }
}

/// A timer that takes no memory while there is nothing to wait for.
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn until(at: Option<Instant>) -> Self {
        Self(at.map(|at| Box::pin(sleep_until(at))))
    }

    async fn wait(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
