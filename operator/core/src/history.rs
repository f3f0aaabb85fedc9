//! What happened to a Function last: how it was woken, and how its number of pods changed. Bounded.
//! Pure.

use jiff::Timestamp;
use rouse_crds::v1alpha1::{Activation, ScaleDecision};
use serde::{Deserialize, Serialize};

use crate::scaling::Decision;

/// Activations and decisions that are kept, as the schema of the status has it.
const MOST_ACTIVATIONS: usize = 10;
const MOST_DECISIONS: usize = 16;

/// What happened last, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Wakings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activations: Vec<Activation>,
    /// Changes of the number of pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<ScaleDecision>,
}

impl History {
    /// Takes in a waking.
    pub fn woken(&mut self, activation: Activation) {
        self.activations.push(activation);
        keep_last(&mut self.activations, MOST_ACTIVATIONS);
    }

    /// Takes in a decision that changed the number of pods, which was `from`.
    pub fn decided(&mut self, from: u32, decision: &Decision, now: Timestamp) {
        let Decision { desired, reason, inputs, .. } = decision;
        self.decisions.push(ScaleDecision {
            time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now),
            from,
            to: *desired,
            reason: format!("{reason:?}"),
            peak: inputs.peak,
            in_flight: inputs.load.saturating_sub(inputs.waiting),
            waiting: inputs.waiting,
            per_pod: inputs.per_pod,
            ready: inputs.ready,
        });
        keep_last(&mut self.decisions, MOST_DECISIONS);
    }

    /// What is known after an owner told `self`, who may be a new one and know little, if it was
    /// `before`.
    #[must_use]
    pub fn after(&self, before: &Self) -> Self {
        let activation = |activation: &Activation| activation.requested_at.0;
        let decision = |decision: &ScaleDecision| decision.time.0;
        Self {
            activations: join(
                (&before.activations, &self.activations),
                activation,
                MOST_ACTIVATIONS,
            ),
            decisions: join((&before.decisions, &self.decisions), decision, MOST_DECISIONS),
        }
    }
}

fn join<T: Clone>((before, told): (&[T], &[T]), at: fn(&T) -> Timestamp, most: usize) -> Vec<T> {
    let first = told.first().map(at);
    let older = before.iter().filter(|entry| first.is_none_or(|first| at(entry) < first));
    let mut all: Vec<T> = older.chain(told).cloned().collect();
    keep_last(&mut all, most);
    all
}

fn keep_last<T>(entries: &mut Vec<T>, most: usize) {
    entries.drain(..entries.len().saturating_sub(most));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::{Inputs, Reason};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn decided(history: &mut History, second: i64) {
        let inputs = Inputs { load: 7, waiting: 3, per_pod: 2, ..Inputs::default() };
        let decision = Decision { desired: 4, reason: Reason::Load, again_at: None, inputs };
        history.decided(1, &decision, at(second));
    }

    fn seconds(history: &History) -> Vec<i64> {
        history.decisions.iter().map(|decision| decision.time.0.as_second()).collect()
    }

    #[test]
    fn the_last_are_kept_with_what_they_were_made_from() {
        let mut history = History::default();
        (0..20).for_each(|second| decided(&mut history, second));
        assert_eq!(seconds(&history), (4..20).collect::<Vec<_>>());
        let last = history.decisions.last().unwrap();
        assert_eq!((last.from, last.to, last.reason.as_str()), (1, 4, "Load"));
        assert_eq!((last.in_flight, last.waiting, last.per_pod), (4, 3, 2));
    }

    #[test]
    fn a_new_owner_goes_on_where_the_former_ended() {
        let (mut before, mut told) = (History::default(), History::default());
        for second in [1, 2, 3] {
            decided(&mut before, second);
        }
        assert_eq!(told.after(&before), before, "it has nothing to tell yet");
        for second in [3, 4] {
            decided(&mut told, second);
        }
        let after = told.after(&before);
        assert_eq!(seconds(&after), [1, 2, 3, 4]);
        assert_eq!(told.after(&after), after, "told again it is the same");
        (5..30).for_each(|second| decided(&mut told, second));
        assert_eq!(told.after(&after).decisions.len(), 16);
    }
}
