//! What Functions use, as far as this activator sees it: the time of the requests that it sends, and
//! of the pods that it keeps warm. Gates count requests where they count slots; here that is gathered
//! every few seconds, shown as metrics and told to the controller. It decides nothing.

mod counts;
mod families;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use rouse_core::function::FunctionKey;
use rouse_core::usage::{Process, UsageReport};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::counts::FunctionCounts;
use self::families::Families;
use crate::admission::Gate;
use crate::reports::Reports;

/// Time between two gatherings: what a crash loses is this and the way to the controller, ten
/// seconds at most.
const PAUSE: Duration = Duration::from_secs(5);

/// What all Functions use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Meters(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    families: Families,
    /// By UID; only Functions that had a pod or a request here.
    functions: Mutex<HashMap<Arc<str>, Arc<Meter>>>,
}

/// What one Function uses.
#[derive(Debug)]
pub struct Meter {
    key: FunctionKey,
    uid: Arc<str>,
    counts: Mutex<FunctionCounts>,
}

impl Meters {
    /// Makes the families known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        Self(Arc::new(Shared {
            families: Families::register(registry),
            functions: Mutex::default(),
        }))
    }

    /// Counts from here on what requests use that `gate` lets through to pods of the Function.
    pub fn watch(&self, key: &FunctionKey, uid: &Arc<str>, gate: &Arc<Gate>) -> Arc<Meter> {
        let mut functions = self.functions();
        let meter = functions.entry(Arc::clone(uid)).or_insert_with(|| {
            Arc::new(Meter {
                key: key.clone(),
                uid: Arc::clone(uid),
                counts: Mutex::new(FunctionCounts::new(Instant::now())),
            })
        });
        meter.lock().watch(gate);
        Arc::clone(meter)
    }

    /// Forgets a Function that was deleted.
    pub fn forget(&self, uid: &str) {
        let meter = self.functions().remove(uid);
        if let Some(meter) = meter {
            self.0.families.forget(&meter.key, meter.lock().revisions());
        }
    }

    /// Gathers what was used; a report for each Function of which there is news, or for `all`.
    pub fn gather(&self, process: &Process, all: bool) -> Vec<UsageReport> {
        let meters: Vec<Arc<Meter>> = self.functions().values().cloned().collect();
        let mut reports = Vec::new();
        for meter in meters {
            let mut counts = meter.lock();
            let news = counts.gather(Instant::now(), |revision, used| {
                self.0.families.add(&meter.key, revision, used);
            });
            for revision in counts.drop_idle(Instant::now()) {
                self.0.families.forget(&meter.key, [revision]);
            }
            if news || all {
                reports.push(UsageReport {
                    key: meter.key.clone(),
                    uid: meter.uid.to_string(),
                    process: process.clone(),
                    counts: counts.told(),
                });
            }
        }
        reports
    }

    /// Tells `reports` what is used, for as long as it is polled.
    pub async fn run(&self, reports: &Reports, process: &Process) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for report in self.gather(process, false) {
                reports.publish_usage(report);
            }
        }
    }

    fn functions(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Meter>>> {
        self.0.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    /// Says which pods are warm from here on: the revision and the memory of each.
    pub fn keep_warm<'a>(&self, pods: impl Iterator<Item = (&'a Arc<str>, u64)>) {
        self.lock().keep_warm(pods, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, FunctionCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
