//! Which Functions the clock calls, by which Triggers. Synchronous; part of the index.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rouse_core::function::FunctionKey;
use rouse_core::trigger::TriggerKey;

use super::objects::Ticks;

/// The schedules of all Functions that have any.
#[derive(Debug, Default)]
pub struct AllTicks {
    of_functions: HashMap<FunctionKey, BTreeMap<TriggerKey, Arc<Ticks>>>,
    /// Whose each Trigger is.
    functions: BTreeMap<TriggerKey, FunctionKey>,
}

impl AllTicks {
    /// Takes in what a Trigger says; answers with the Functions for which that is another.
    pub fn put(&mut self, trigger: &TriggerKey, ticks: Option<Arc<Ticks>>) -> Vec<FunctionKey> {
        let function = self.functions.get(trigger);
        let former = function.and_then(|function| self.of_functions.get(function)?.get(trigger));
        if former == ticks.as_ref() {
            return Vec::new();
        }
        let mut changed = Vec::new();
        if let Some(function) = self.functions.remove(trigger) {
            if let Some(all) = self.of_functions.get_mut(&function) {
                all.remove(trigger);
                if all.is_empty() {
                    self.of_functions.remove(&function);
                }
            }
            changed.push(function);
        }
        if let Some(ticks) = ticks {
            let function = ticks.function.clone();
            self.functions.insert(trigger.clone(), function.clone());
            self.of_functions.entry(function.clone()).or_default().insert(trigger.clone(), ticks);
            changed.push(function);
        }
        changed
    }

    /// Keeps the Triggers that are `there`; answers with the Functions that lost one.
    pub fn retain(&mut self, there: impl Fn(&TriggerKey) -> bool) -> Vec<FunctionKey> {
        let gone = self.functions.keys().filter(|trigger| !there(trigger));
        let gone: Vec<TriggerKey> = gone.cloned().collect();
        gone.iter().flat_map(|trigger| self.put(trigger, None)).collect()
    }

    /// The schedules of a Function.
    pub fn of(&self, function: &FunctionKey) -> Vec<Arc<Ticks>> {
        let all = self.of_functions.get(function);
        all.map_or_else(Vec::new, |all| all.values().cloned().collect())
    }
}

/// The schedule of a Trigger that was made in 1970 and calls `function`, for tests.
#[cfg(test)]
pub(crate) fn ticks(function: &str, cron: &str) -> Arc<Ticks> {
    let trigger = serde_json::json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
        "metadata": {"name": "t", "namespace": "shop", "uid": "t",
            "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"function": function, "schedule": {"cron": cron}},
    });
    let trigger = serde_json::from_value(trigger).unwrap();
    super::objects::TriggerSeen::of(&trigger).unwrap().ticks.unwrap()
}
