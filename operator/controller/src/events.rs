//! Events on Functions and Triggers: one for each change of what `Ready` says, and now and then one
//! for a change of the number of pods.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use rouse_core::function::names::MANAGER_CONTROLLER;
use rouse_crds::v1alpha1::{ConditionType, ScaleDecision};

use crate::error::chain;

/// Longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1024;

/// Publishes events.
#[derive(Clone)]
pub(crate) struct Announcer {
    recorder: Recorder,
}

impl Announcer {
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: MANAGER_CONTROLLER.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes what changed of `Ready`, if anything did. Events are a courtesy: one that can't be
    /// published is logged and forgotten.
    pub async fn announce(
        &self,
        object: ObjectReference,
        (before, after): (&[Condition], &[Condition]),
        woken: Option<String>,
    ) {
        let Some(event) = event_of(before, after, woken) else { return };
        if let Err(error) = self.recorder.publish(&event, &object).await {
            tracing::debug!(name = object.name, error = chain(&error), "event not published");
        }
    }

    /// Publishes that the number of pods changed, and `why`.
    pub async fn announce_scale(
        &self,
        object: ObjectReference,
        decision: &ScaleDecision,
        why: &str,
    ) {
        let ScaleDecision { from, to, .. } = decision;
        let event = Event {
            type_: EventType::Normal,
            reason: if to > from { "ScaledUp" } else { "ScaledDown" }.to_owned(),
            note: Some(cut(format!("from {from} to {to} pods: {why}"))),
            // Events of one action are counted in one object, with the note of the first.
            action: format!("ScaleFrom{from}To{to}"),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object).await {
            tracing::debug!(name = object.name, error = chain(&error), "event not published");
        }
    }
}

/// What a Function that is well does all day: no news, but for the waking itself.
const ROUTINE: [&str; 2] = ["Asleep", "Waking"];

fn event_of(before: &[Condition], after: &[Condition], woken: Option<String>) -> Option<Event> {
    let ready = |conditions: &[Condition]| {
        conditions.iter().find(|c| c.type_ == ConditionType::Ready.as_str()).cloned()
    };
    let (before, after) = (ready(before), ready(after)?);
    let is_ready = after.status == "True";
    let same = before.as_ref().map_or(is_ready, |before| {
        let routine = is_ready && ROUTINE.contains(&after.reason.as_str());
        before.status == after.status && (before.reason == after.reason || routine)
    });
    let woken = woken.filter(|_| is_ready && after.reason == "Serving");
    (!same).then(|| Event {
        type_: if is_ready { EventType::Normal } else { EventType::Warning },
        reason: after.reason,
        note: Some(cut(woken.unwrap_or(after.message))),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}

fn cut(mut note: String) -> String {
    if note.len() > MAX_NOTE {
        let end = (0..=MAX_NOTE).rev().find(|end| note.is_char_boundary(*end));
        note.truncate(end.unwrap_or_default());
    }
    note
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn ready(status: &str, reason: &str) -> Vec<Condition> {
        vec![Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: "ü".repeat(1000),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }]
    }

    #[test]
    fn only_changes_are_announced() {
        let quiet = |before: &[Condition], after: &[Condition]| {
            assert!(event_of(before, after, None).is_none());
        };
        quiet(&[], &ready("True", "Asleep"));
        quiet(&ready("True", "Asleep"), &ready("True", "Asleep"));
        quiet(&ready("True", "Asleep"), &ready("True", "Waking"));
        quiet(&ready("True", "Serving"), &ready("True", "Asleep"));
        let note = Some("woken in 312 ms".to_owned());
        let woken =
            event_of(&ready("True", "Waking"), &ready("True", "Serving"), note.clone()).unwrap();
        assert_eq!((woken.type_, woken.reason.as_str()), (EventType::Normal, "Serving"));
        assert_eq!(woken.note, note);
        let well = event_of(&ready("False", "ImagePullFailed"), &ready("True", "Asleep"), note);
        assert_eq!(well.unwrap().type_, EventType::Normal);
        let failed = event_of(&[], &ready("False", "NameTaken"), None).unwrap();
        assert_eq!(failed.type_, EventType::Warning);
        assert!(failed.note.unwrap().len() <= MAX_NOTE);
    }
}
