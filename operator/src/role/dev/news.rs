//! What is new of a Function or Trigger since it was told last: that it woke and from what, that it
//! sleeps, what keeps it from working. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rouse_core::explain::cold::{Phase, phases, total};
use rouse_crds::v1alpha1::{Activation, ConditionType, FunctionStatus, TriggerStatus};

/// What was told of an object last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How it woke last.
    pub waking: Option<String>,
    woken_at: Option<String>,
    pods: u32,
    wanted: u32,
    trouble: Option<String>,
}

impl Told {
    /// What it does, in a word or two; `is_called` says whether somebody waits for an answer.
    pub fn state(&self, is_called: bool) -> String {
        match (self.pods, self.wanted) {
            // The status comes a second after what it tells of.
            (0, 0) if !is_called => "asleep".to_owned(),
            (0, _) => "waking".to_owned(),
            (pods, _) => format!("warm {pods}"),
        }
    }
}

/// What is new of a Function.
pub fn of_function(told: &mut Told, name: &str, status: Option<&FunctionStatus>) -> Vec<String> {
    let Some(status) = status else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(activation) = &status.last_activation {
        let at = activation.requested_at.0.to_string();
        // Its last phase comes a moment after the others.
        let is_whole = activation.first_byte_millis.is_some();
        if is_whole && told.woken_at.as_ref() != Some(&at) {
            let waking = format!("woke {}", render_waking(activation));
            lines.push(format!("{name}  {waking}"));
            (told.waking, told.woken_at) = (Some(waking), Some(at));
        }
    }
    let was_awake = told.pods > 0 || told.wanted > 0;
    (told.pods, told.wanted) = (status.replicas, status.desired_replicas);
    if was_awake && told.pods == 0 && told.wanted == 0 {
        lines.push(format!("{name}  sleeps"));
    }
    let error = status.last_error.as_ref();
    let error = error.map(|error| format!("{}: {}", error.reason, error.message));
    let trouble = trouble(&status.conditions).or(error);
    lines.extend(of_trouble(told, name, trouble));
    lines
}

/// What is new of a Trigger.
pub fn of_trigger(told: &mut Told, name: &str, status: Option<&TriggerStatus>) -> Vec<String> {
    let trouble = status.and_then(|status| {
        // Its source tries on, and this is what it waits for.
        let source = status.source.as_ref().filter(|source| !source.connected);
        let error = source.and_then(|source| source.last_error.as_ref());
        let error = error.map(|error| format!("{}: {}", error.reason, error.message));
        trouble(&status.conditions).or(error)
    });
    of_trouble(told, &format!("Trigger {name}"), trouble).into_iter().collect()
}

fn of_trouble(told: &mut Told, name: &str, trouble: Option<String>) -> Option<String> {
    if told.trouble == trouble {
        return None;
    }
    told.trouble.clone_from(&trouble);
    // What a program said last may have many lines.
    let line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    trouble.map(|trouble| format!("{name}  {}", line(trouble)))
}

/// Why an object is not ready, once that is certain.
fn trouble(conditions: &[Condition]) -> Option<String> {
    let find = |kind: ConditionType, status: &str| {
        conditions.iter().find(|it| it.type_ == kind.as_str() && it.status == status)
    };
    let moving = find(ConditionType::Reconciling, "True").is_some();
    let unready = find(ConditionType::Ready, "False").filter(|_| !moving);
    let bad = find(ConditionType::Stalled, "True").or(unready)?;
    Some(format!("{}: {}", bad.reason, bad.message))
}

fn render_waking(activation: &Activation) -> String {
    let parts = Phase::ALL.into_iter().zip(phases(activation));
    let parts = parts.filter_map(|(phase, took)| {
        let took = took.filter(|took| *took > 0)?;
        Some(format!("{} {took}", phase.name().to_ascii_lowercase()))
    });
    let parts: Vec<String> = parts.collect();
    let all = total(activation).unwrap_or_default();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    format!("in {all} ms{parts}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn wakings_sleep_and_trouble_are_told_once() {
        let mut told = Told::default();
        let mut news = |status: &Value| {
            let status: FunctionStatus = serde_json::from_value(status.clone()).unwrap();
            of_function(&mut told, "hello", Some(&status))
        };
        let waking = json!({"requestedAt": "2026-01-01T00:00:00Z", "revision": "r",
            "scaledMillis": 1, "createdMillis": 1, "addressedMillis": 9, "listeningMillis": 60,
            "firstByteMillis": 62});
        let awake = json!({"replicas": 1, "lastActivation": waking});
        let said = "hello  woke in 62 ms (scale 1, sandbox 8, listen 51, answer 2)";
        assert_eq!(news(&awake), [said]);
        assert!(news(&awake).is_empty());
        assert_eq!(news(&json!({"replicas": 0})), ["hello  sleeps"]);
        let stalled = json!({"conditions": [{"type": "Stalled", "status": "True",
            "reason": "CodeRefused", "message": "no zip",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        assert_eq!(news(&stalled), ["hello  CodeRefused: no zip"]);
        assert!(news(&stalled).is_empty());
    }

    #[test]
    fn a_state_is_a_word_or_two() {
        let state = |pods, wanted| Told { pods, wanted, ..Told::default() }.state(false);
        assert_eq!([state(0, 0), state(0, 1), state(2, 3)], ["asleep", "waking", "warm 2"]);
        assert_eq!(Told::default().state(true), "waking");
    }

    #[test]
    fn what_keeps_a_trigger_from_working_is_told_in_one_line() {
        let mut told = Told::default();
        let status: TriggerStatus = serde_json::from_value(json!({"source": {
            "connected": false, "lastError": {"reason": "ServerAway", "message": "no\n  name",
            "time": "2026-01-01T00:00:00Z"}}}))
        .unwrap();
        let mut news = || of_trigger(&mut told, "made", Some(&status));
        assert_eq!(news(), ["Trigger made  ServerAway: no name"]);
        assert!(news().is_empty());
    }
}
