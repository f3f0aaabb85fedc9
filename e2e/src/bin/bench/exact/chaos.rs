//! The disturbances: one after the other, each chosen by the dice. Never more than one activator at
//! a time is away, so that callers get on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use rouse_e2e::hollow::activator::{Activator, Controller};
use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::{Hollow, NAMESPACE};
use rustix::process::Signal;
use tokio::time::sleep;

use super::callers::{Callers, Shared};
use super::dice::Dice;
use super::{FUNCTIONS, function};

/// Pause between two disturbances.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1500));
/// How long a process is frozen, or away.
const AWAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Disturbance {
    /// An activator stands still and goes on.
    Freeze,
    /// An activator is killed and started again in its pod.
    Kill,
    /// An activator leaves and another one comes.
    Replace,
    /// A pod is told to go.
    DeletePod,
    /// A pod is gone at once.
    ForcePod,
    /// A pod's container is killed and started again.
    CrashPod,
    /// The controller stands still and goes on.
    FreezeController,
}

/// All of them, as often as each comes.
pub const ALL: &[Disturbance] = &[
    Disturbance::Freeze,
    Disturbance::Freeze,
    Disturbance::Kill,
    Disturbance::Replace,
    Disturbance::DeletePod,
    Disturbance::ForcePod,
    Disturbance::CrashPod,
    Disturbance::FreezeController,
];

/// Who disturbs, and what.
pub struct Chaos {
    dice: Dice,
    /// What may happen.
    may: Vec<Disturbance>,
    callers: Arc<Shared>,
    activators: Vec<Activator>,
    controller: Controller,
    node: Node,
    counts: BTreeMap<String, u64>,
    /// How many things have happened to their end.
    happened: Arc<AtomicU64>,
    hollow: Arc<Hollow>,
}

impl Chaos {
    /// Nothing is disturbed yet.
    pub fn new(
        hollow: Arc<Hollow>,
        node: Node,
        controller: Controller,
        activators: Vec<Activator>,
        callers: &Callers,
    ) -> Self {
        let callers = callers.shared();
        let (dice, may) = (Dice::new(0), Vec::new());
        let (counts, happened) = (BTreeMap::new(), Arc::default());
        Self { dice, may, callers, activators, controller, node, counts, happened, hollow }
    }

    /// Takes these dice, and lets only these things happen.
    pub fn throw(&mut self, dice: Dice, may: &[Disturbance]) {
        (self.dice, self.may) = (dice, may.to_vec());
    }

    /// Disturbs until it is dropped, or fails.
    pub async fn run(&mut self) -> anyhow::Error {
        loop {
            sleep(self.dice.between(PAUSE.0, PAUSE.1)).await;
            let disturbance = self.may.get(self.dice.below(self.may.len())).copied();
            let disturbance = disturbance.unwrap_or(Disturbance::Freeze);
            *self.counts.entry(format!("{disturbance:?}")).or_default() += 1;
            let disturbed = self.disturb(disturbance).await;
            if let Err(error) = disturbed.and_then(|()| self.controller.revive()) {
                return error.context(format!("{disturbance:?}"));
            }
            self.happened.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many things have happened to their end, as it grows.
    pub fn happened(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.happened)
    }

    /// How often each happened.
    pub const fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// How often each happened, in words.
    pub fn told(&self) -> String {
        let all: Vec<String> =
            self.counts.iter().map(|(what, count)| format!("{count} x {what}")).collect();
        all.join(", ")
    }

    async fn disturb(&mut self, disturbance: Disturbance) -> anyhow::Result<()> {
        let away = self.dice.between(AWAY.0, AWAY.1);
        let chosen = self.dice.below(self.activators.len());
        match disturbance {
            Disturbance::Freeze => {
                let Some(activator) = self.activators.get(chosen) else { return Ok(()) };
                activator.signal(Signal::STOP)?;
                sleep(away).await;
                activator.signal(Signal::CONT)
            }
            Disturbance::Kill => {
                let Some(activator) = self.activators.get_mut(chosen) else { return Ok(()) };
                activator.kill().await?;
                sleep(away).await;
                // Like a Service, which leads only to those that are ready.
                let address = activator.http;
                self.callers.remove_address(address);
                activator.restart().await?;
                activator.ready().await?;
                self.tell_callers();
                Ok(())
            }
            Disturbance::Replace => self.replace(chosen).await,
            Disturbance::DeletePod => self.delete_pod(&DeleteParams::default()).await,
            Disturbance::ForcePod => {
                self.delete_pod(&DeleteParams::default().grace_period(0)).await
            }
            Disturbance::CrashPod => {
                if let Some(pod) = self.choose_pod() {
                    self.node.crash(&pod);
                }
                Ok(())
            }
            Disturbance::FreezeController => {
                self.controller.signal(Signal::STOP)?;
                sleep(away).await;
                self.controller.signal(Signal::CONT)
            }
        }
    }

    /// As a rolling update does it: the new one comes before the old one goes.
    async fn replace(&mut self, chosen: usize) -> anyhow::Result<()> {
        let new = self.hollow.start_activator().await?;
        self.activators.push(new);
        let old = self.activators.swap_remove(chosen);
        self.tell_callers();
        old.retire().await
    }

    fn tell_callers(&self) {
        let addresses = self.activators.iter().map(|activator| activator.http).collect();
        self.callers.set_addresses(addresses);
    }

    async fn delete_pod(&mut self, params: &DeleteParams) -> anyhow::Result<()> {
        let Some(name) = self.choose_pod() else { return Ok(()) };
        let pods: Api<Pod> = Api::namespaced(self.hollow.client.clone(), NAMESPACE);
        match pods.delete(&name, params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    fn choose_pod(&mut self) -> Option<String> {
        let pods = self.node.pods(&function(self.dice.below(FUNCTIONS)));
        pods.get(self.dice.below(pods.len())).cloned()
    }
}
