//! What a Trigger's conditions say of its source, from what the source tells of itself and from
//! whether the pod is there that would run it. Pure.

use rouse_crds::v1alpha1::SourceStatus;

use crate::function::status::Trouble;

/// Reasons for which a source waits, and those for which somebody must change something. The rest
/// is told by others, and unknown here.
const WAITING: [&str; 4] = ["ServerAway", "SecretMissing", "SourceInUse", "SourceMissing"];
const STALLED: [&str; 5] =
    ["AccessDenied", "AddressForbidden", "PositionLost", "SourceInvalid", "SourceNotSupported"];

/// What matters of how a source goes: a change of anything else is no reason to look at conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHealth {
    /// The generation that runs.
    pub generation: Option<i64>,
    /// Whether the server is there.
    pub connected: bool,
    /// Reason and message of what keeps it from its work.
    pub error: Option<(String, String)>,
}

impl SourceHealth {
    /// Of what a source tells.
    pub fn of(status: &SourceStatus) -> Self {
        let error = status.last_error.as_ref().filter(|_| !status.connected);
        Self {
            generation: status.observed_generation,
            connected: status.connected,
            error: error.map(|error| (error.reason.clone(), error.message.clone())),
        }
    }
}

/// How it stands with the pod that runs the sources of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePod {
    /// It is ready, or was a moment ago.
    There,
    /// It is not.
    Away,
    /// It can't be made.
    Refused(Trouble),
}

/// What keeps events from a Function; none where nothing does. `generation` is that of the spec.
pub fn trouble_of_source(
    health: Option<&SourceHealth>,
    generation: Option<i64>,
    pod: &SourcePod,
) -> Option<Trouble> {
    let passing = |reason, message: &str| {
        Some(Trouble { reason, message: message.to_owned(), passing: true })
    };
    if let SourcePod::Refused(trouble) = pod {
        return Some(trouble.clone());
    }
    if *pod == SourcePod::Away {
        return passing(
            "SourceAway",
            "the pod that runs the sources of this namespace is not ready: see the Deployment \
             rouse-source",
        );
    }
    let Some(health) = health.filter(|health| health.generation == generation) else {
        return passing("SourceStarting", "the source has not been started as it is written");
    };
    match &health.error {
        _ if health.connected => None,
        None => passing("Connecting", "the source is on its way to its server"),
        Some((reason, message)) => {
            let find = |of: &[&'static str]| of.iter().find(|known| *known == reason).copied();
            let (reason, passing) = match (find(&WAITING), find(&STALLED)) {
                (Some(reason), _) => (reason, true),
                (_, Some(reason)) => (reason, false),
                _ => ("SourceFailed", true),
            };
            Some(Trouble { reason, message: message.clone(), passing })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge(status: serde_json::Value, pod: &SourcePod) -> Option<(&'static str, bool)> {
        let status: SourceStatus = serde_json::from_value(status).unwrap();
        let trouble = trouble_of_source(Some(&SourceHealth::of(&status)), Some(2), pod);
        trouble.map(|trouble| (trouble.reason, trouble.passing))
    }

    fn failed(reason: &str) -> serde_json::Value {
        let error = json!({"reason": reason, "message": "m", "time": "2026-01-01T00:00:00Z"});
        json!({"observedGeneration": 2, "connected": false, "lastError": error})
    }

    #[test]
    fn a_connected_source_is_well_whatever_was_before() {
        let mut status = failed("ServerAway");
        status["connected"] = json!(true);
        assert_eq!(judge(status.clone(), &SourcePod::There), None);
        assert_eq!(judge(status.clone(), &SourcePod::Away), Some(("SourceAway", true)));
        status["observedGeneration"] = json!(1);
        assert_eq!(judge(status, &SourcePod::There), Some(("SourceStarting", true)));
        assert_eq!(
            trouble_of_source(None, Some(2), &SourcePod::There).unwrap().reason,
            "SourceStarting"
        );
    }

    #[test]
    fn what_somebody_must_change_stalls() {
        let judge = |reason| judge(failed(reason), &SourcePod::There);
        assert_eq!(judge("ServerAway"), Some(("ServerAway", true)));
        assert_eq!(judge("SecretMissing"), Some(("SecretMissing", true)));
        assert_eq!(judge("AccessDenied"), Some(("AccessDenied", false)));
        assert_eq!(judge("AddressForbidden"), Some(("AddressForbidden", false)));
        assert_eq!(judge("Whatever"), Some(("SourceFailed", true)));
    }

    #[test]
    fn what_is_refused_comes_first() {
        let trouble = Trouble { reason: "NameTaken", message: "m".into(), passing: false };
        let refused = SourcePod::Refused(trouble);
        assert_eq!(judge(failed("ServerAway"), &refused), Some(("NameTaken", false)));
    }
}
