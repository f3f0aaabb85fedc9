//! The task of one owned Function: it follows the gate, the cluster and its own writes, lets the
//! state decide, and does what comes of it. It holds no state of its own but what is on its way.

pub mod actions;
pub mod activation;
pub mod draining;
pub mod metrics;
pub mod pods;
pub mod replicas;
pub mod reporting;
pub mod state;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use actions::{Action, Done};
use activation::Clocks;
use metrics::ScalerMetrics;
use pods::Asking;
use state::Scaler;

use crate::admission::Gate;
use crate::instances::Instances;
use crate::observe::index::Observed;
use crate::readiness::ask_until_ready;
use crate::reports::Reports;

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
}

/// What is on its way.
struct Running<I> {
    instances: Arc<I>,
    reports: Reports,
    work: FuturesUnordered<BoxFuture<'static, Option<Done>>>,
    asking: HashMap<Arc<str>, AbortHandle>,
    uid: Arc<str>,
    membership: u64,
}

/// Runs the task until the Function is no longer owned.
pub async fn run<I: Instances>(task: Task<I>) {
    let Task { gate, mut observed, instances, reports, metrics } = task;
    let first = Arc::clone(&observed.borrow_and_update());
    let mut scaler = Scaler::new(Arc::clone(&gate), Arc::clone(&first), metrics, Instant::now());
    let mut running = Running {
        instances,
        reports,
        work: FuturesUnordered::new(),
        asking: HashMap::new(),
        uid: Arc::clone(&first.function.uid),
        membership: first.membership,
    };
    running.begin_all(scaler.observe(first));
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
                    running.forget(&done);
                    scaler.finish(done, Instant::now());
                }
            }
            () = gate.changed() => {}
            () = timer.wait() => {}
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
            Action::Ask(Asking::Begin { uid, exits, question }) => {
                let (handle, registration) = AbortHandle::new_pair();
                if let Some(former) = self.asking.insert(Arc::clone(&uid), handle) {
                    former.abort();
                }
                let asked = async move {
                    let at = ask_until_ready(&*instances, &question).await;
                    Done::Answered { uid, exits, at }
                };
                let asked = Abortable::new(asked, registration);
                self.work.push(Box::pin(async move { asked.await.ok() }));
            }
            Action::Ask(Asking::End { uid }) => {
                if let Some(handle) = self.asking.remove(&uid) {
                    handle.abort();
                }
            }
            Action::Scale { revision, deployment, replicas } => {
                self.work.push(Box::pin(async move {
                    let result = instances.apply_scale(&deployment, replicas).await;
                    Some(Done::Scaled { revision, result })
                }));
            }
            Action::SetCost { uid, pod, cost } => {
                self.work.push(Box::pin(async move {
                    let result = instances.apply_deletion_cost(&pod, cost).await;
                    Some(Done::CostSet { uid, cost, result })
                }));
            }
            Action::Publish(report) => self.reports.publish(*report),
        }
    }

    fn forget(&mut self, done: &Done) {
        if let Done::Answered { uid, .. } = done {
            self.asking.remove(uid);
        }
    }
}

impl<I> Drop for Running<I> {
    fn drop(&mut self) {
        self.reports.release(&self.uid, self.membership);
    }
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
