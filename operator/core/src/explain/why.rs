//! Why a Function has as many pods as it has.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rouse_crds::v1alpha1::{FunctionSpec, IdlePolicy, ScaleDecision};

/// One decision in a sentence.
pub fn sentence(decision: &ScaleDecision, spec: &FunctionSpec) -> String {
    let ScaleDecision { reason, peak, in_flight, waiting, per_pod, ready, .. } = decision;
    let requests = format!(
        "{} at once at most, of which {in_flight} in pods and {waiting} waiting now; \
         {per_pod} count for a pod, {} ready",
        count(*peak, "request"),
        count(*ready, "pod"),
    );
    let scaling = &spec.scaling;
    match reason.as_str() {
        "Load" => requests,
        "Max" => format!("{requests}; scaling.max is {}", scaling.max),
        "NamespaceMax" => format!(
            "{requests}; the namespace may have no more pods (functions.podCaps of Rouse's chart)"
        ),
        "MadeRoom" => "no request, and the namespace has few pods left for its other Functions \
             (functions.podCaps of Rouse's chart)"
            .to_owned(),
        "StableWindow" => format!(
            "the load was lower for all of scaling.stableWindow ({}): {requests}",
            scaling.stable_window
        ),
        "Idle" if learns(spec) => {
            "no request, but one is likely enough to keep a pod (scaling.idle.policy is Learned)"
                .to_owned()
        }
        "Idle" => {
            format!("no request, but scaling.idle.after ({}) is not over", scaling.idle.after)
        }
        "Habit" => "no request, but one is likely to come now, as often before".to_owned(),
        "Schedule" => "a request is known to come".to_owned(),
        "Asleep" if learns(spec) => {
            "no request, and none is likely enough to keep a pod (scaling.idle.policy is Learned)"
                .to_owned()
        }
        "Asleep" => {
            format!("no request for as long as scaling.idle says ({})", scaling.idle.after)
        }
        "Min" => format!("scaling.min is {}", scaling.min),
        other => format!("{other}: {requests}"),
    }
}

/// What goes on now, beyond the last decision.
pub fn now(last: Option<&ScaleDecision>, spec: &FunctionSpec) -> String {
    let Some(last) = last else {
        return "Nothing has changed the number of pods since it is kept.".to_owned();
    };
    let scaling = &spec.scaling;
    match last.to {
        0 => "It sleeps: the next request wakes it.".to_owned(),
        pods if pods == scaling.min => {
            format!("It keeps {} at least (scaling.min).", count(pods, "pod"))
        }
        pods => {
            let last = if learns(spec) {
                "once no request is likely enough (scaling.idle.policy is Learned)".to_owned()
            } else {
                format!("{} after the last request (scaling.idle.after)", scaling.idle.after)
            };
            format!(
                "It keeps {} until the load has been lower for {} (scaling.stableWindow); the last \
                 goes {last}.",
                count(pods, "pod"),
                scaling.stable_window,
            )
        }
    }
}

fn learns(spec: &FunctionSpec) -> bool {
    spec.scaling.idle.policy == IdlePolicy::Learned
}

/// The time of a decision, in UTC.
pub fn clock(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn count(number: u32, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::scaling::Reason;

    fn spec() -> FunctionSpec {
        let scaling = json!({"min": 1, "max": 7, "stableWindow": "42s", "idle": {"after": "43s"}});
        serde_json::from_value(json!({"image": "x", "scaling": scaling})).unwrap()
    }

    fn decision(reason: &str, to: u32) -> ScaleDecision {
        ScaleDecision {
            time: Time(Timestamp::UNIX_EPOCH),
            from: 0,
            to,
            reason: reason.into(),
            peak: 25,
            in_flight: 10,
            waiting: 15,
            per_pod: 5,
            ready: 1,
        }
    }

    #[test]
    fn each_reason_is_told_with_what_it_rests_on() {
        let tell = |reason: Reason| sentence(&decision(&format!("{reason:?}"), 2), &spec());
        assert_eq!(
            tell(Reason::Load),
            "25 requests at once at most, of which 10 in pods and 15 waiting now; 5 count for a pod, \
             1 pod ready"
        );
        assert!(tell(Reason::Max).ends_with("scaling.max is 7"));
        assert!(tell(Reason::StableWindow).contains("42s"));
        assert!(tell(Reason::Asleep).contains("43s"));
        let all = [
            Reason::NamespaceMax,
            Reason::MadeRoom,
            Reason::Idle,
            Reason::Habit,
            Reason::Schedule,
            Reason::Min,
        ];
        for reason in all {
            let told = tell(reason);
            assert!(!told.starts_with(&format!("{reason:?}")), "{told}");
        }
        assert!(sentence(&decision("Novel", 2), &spec()).starts_with("Novel: 25 requests"));
    }

    #[test]
    fn whoever_learns_is_not_told_of_a_fixed_time() {
        let mut spec = spec();
        spec.scaling.idle.policy = IdlePolicy::Learned;
        for reason in ["Idle", "Asleep"] {
            let told = sentence(&decision(reason, 0), &spec);
            assert!(told.contains("Learned") && !told.contains("43s"), "{told}");
        }
        let told = now(Some(&decision("Load", 3)), &spec);
        assert!(told.contains("Learned") && !told.contains("43s"), "{told}");
    }

    #[test]
    fn the_present_follows_from_the_last_decision() {
        assert!(now(None, &spec()).starts_with("Nothing"));
        assert!(now(Some(&decision("Asleep", 0)), &spec()).starts_with("It sleeps"));
        assert!(now(Some(&decision("Min", 1)), &spec()).contains("scaling.min"));
        assert!(now(Some(&decision("Load", 3)), &spec()).starts_with("It keeps 3 pods until"));
        assert_eq!(clock(Timestamp::UNIX_EPOCH), "1970-01-01 00:00:00");
    }
}
