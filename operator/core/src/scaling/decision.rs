//! What the policy decided, why, and from what: enough to explain it to the user.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::Moment;

/// Why there are as many pods as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Reason {
    /// The load asks for them.
    Load,
    /// The load asks for more than `scaling.max`.
    Max,
    /// The load asks for more than the namespace has left.
    NamespaceMax,
    /// The load is lower, but not for long enough.
    StableWindow,
    /// No request is there, but the idle time is not over.
    Idle,
    /// No request is there, but one is likely to come now, as often before.
    Habit,
    /// A request is known to come.
    Schedule,
    /// The idle time is over.
    Asleep,
    /// No request is there, and the namespace has few pods left for others.
    MadeRoom,
    /// `scaling.min` asks for them.
    Min,
}

impl Reason {
    /// Whether a pod stays, or comes, without a request.
    pub(super) const fn keeps_a_pod(self) -> bool {
        !matches!(self, Self::Asleep | Self::MadeRoom)
    }
}

/// How many pods there shall be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Pods.
    pub desired: u32,
    /// Why.
    pub reason: Reason,
    /// When to ask again, if nothing happens before; none while only an arrival changes anything.
    #[serde(skip)]
    pub again_at: Option<Moment>,
    /// What it was decided from.
    pub inputs: Inputs,
}

/// What a decision was made from. Times are in milliseconds where this is written as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// Requests in flight and waiting.
    pub load: u32,
    /// Most of them at one moment since the decision before.
    pub peak: u32,
    /// Of the load, those that wait for a pod.
    pub waiting: u32,
    /// Requests per second that arrived of late.
    pub rate: f64,
    /// Requests that a pod is counted for.
    pub per_pod: u32,
    /// Pods that serve.
    pub ready: u32,
    /// Pods on their way.
    pub starting: u32,
    /// How long a pod has a request, as measured.
    #[serde(serialize_with = "millis")]
    pub service: Option<Duration>,
    /// How long a start takes, as measured.
    #[serde(serialize_with = "millis")]
    pub start: Option<Duration>,
    /// Requests that there must be room for at once so that no one waits long.
    pub slots: f64,
    /// Pods that the load asks for now.
    pub wanted: u32,
    /// Pods that it asked for at most in the stable window.
    pub window: u32,
    /// How long no request is there.
    #[serde(serialize_with = "millis")]
    pub idle: Option<Duration>,
    /// How long it is until the next request that is known.
    #[serde(serialize_with = "millis")]
    pub expected_in: Option<Duration>,
}

#[allow(clippy::ref_option, reason = "as serde calls it")]
fn millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    millis.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_can_be_told_in_json() {
        let inputs = Inputs { start: Some(Duration::from_millis(350)), ..Inputs::default() };
        let decision = Decision { desired: 1, reason: Reason::Load, again_at: None, inputs };
        let told = serde_json::to_value(decision).unwrap();
        assert_eq!(told["reason"], "Load");
        assert_eq!(told["inputs"]["start"], 350);
        assert_eq!(told["inputs"]["service"], serde_json::Value::Null);
    }
}
