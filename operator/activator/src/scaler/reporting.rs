//! What the task of a Function tells the controller, and when. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rouse_core::function::switch::Plan;
use rouse_core::history::History;
use rouse_core::report::{FunctionReport, RevisionReport};
use rouse_crds::v1alpha1::{Activation, LastError, Learned};
use tokio::time::Instant;

use super::pods::Pods;
use crate::admission::Load;
use crate::observe::index::Observed;

/// Shortest pause between two reports that differ in the requests in flight alone.
const IN_FLIGHT_PAUSE: Duration = Duration::from_secs(1);

/// What a report is made of.
pub struct Reported<'a> {
    /// The Function and its children.
    pub observed: &'a Observed,
    /// Which revision serves.
    pub plan: &'a Plan,
    /// Pods that each Deployment is brought to.
    pub targets: &'a BTreeMap<Arc<str>, u32>,
    /// The pods.
    pub pods: &'a Pods,
    /// What they serve.
    pub load: &'a Load,
    /// The last waking.
    pub last_activation: Option<&'a Activation>,
    /// What last kept a pod from serving.
    pub last_error: Option<&'a LastError>,
    /// What was learned, as it is told.
    pub learned: Option<&'a Learned>,
    /// What happened last.
    pub history: &'a History,
}

/// Builds the report.
pub fn build_report(reported: &Reported<'_>) -> FunctionReport {
    let Reported { observed, plan, targets, pods, load, .. } = reported;
    let Reported { last_activation, last_error, learned, history, .. } = reported;
    let revision = |(revision, desired): (&Arc<str>, &u32)| {
        let ready = pods.of(revision).filter(|(_, pod)| pod.is_answering()).count();
        let serving = load.pods.iter().filter(|pod| pod.revision == *revision);
        let report = RevisionReport {
            desired: *desired,
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            in_flight: serving.map(|pod| pod.in_flight).sum(),
        };
        (revision.to_string(), report)
    };
    FunctionReport {
        key: observed.function.key.clone(),
        uid: observed.function.uid.to_string(),
        membership: observed.membership,
        serving: plan.serving.as_ref().filter(|_| plan.proven).map(ToString::to_string),
        revisions: targets.iter().map(revision).collect(),
        last_activation: last_activation.cloned(),
        last_error: last_error.cloned(),
        learned: learned.cloned(),
        history: (*history).clone(),
    }
}

/// Holds back what is not worth telling.
#[derive(Debug, Default)]
pub struct Publisher {
    last: Option<(FunctionReport, Instant)>,
}

impl Publisher {
    /// The report, if it shall go out now; else when to offer it again, if it differs at all.
    pub fn offer(
        &mut self,
        report: FunctionReport,
        now: Instant,
    ) -> (Option<Box<FunctionReport>>, Option<Instant>) {
        if let Some((last, at)) = &self.last {
            if *last == report {
                return (None, None);
            }
            let soon = *at + IN_FLIGHT_PAUSE;
            if now < soon && without_in_flight(last) == without_in_flight(&report) {
                return (None, Some(soon));
            }
        }
        self.last = Some((report.clone(), now));
        (Some(Box::new(report)), None)
    }
}

fn without_in_flight(report: &FunctionReport) -> FunctionReport {
    let mut report = report.clone();
    for revision in report.revisions.values_mut() {
        revision.in_flight = 0;
    }
    report
}

#[cfg(test)]
mod tests {
    use rouse_core::function::FunctionKey;

    use super::*;

    fn report(in_flight: u32, ready: u32) -> FunctionReport {
        FunctionReport {
            key: FunctionKey::new("shop", "f"),
            uid: "f".into(),
            membership: 1,
            serving: None,
            revisions: BTreeMap::from([(
                "r".into(),
                RevisionReport { desired: 1, ready, in_flight },
            )]),
            last_activation: None,
            last_error: None,
            learned: None,
            history: History::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_go_out_at_once_but_requests_in_flight_in_their_time() {
        let now = Instant::now();
        let mut publisher = Publisher::default();
        assert!(publisher.offer(report(0, 1), now).0.is_some());
        assert_eq!(publisher.offer(report(0, 1), now), (None, None));
        let later = now + IN_FLIGHT_PAUSE;
        assert_eq!(publisher.offer(report(1, 1), now), (None, Some(later)));
        assert!(publisher.offer(report(2, 2), now).0.is_some());
        assert!(publisher.offer(report(3, 2), later).0.is_some());
    }
}
