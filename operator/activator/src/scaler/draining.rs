//! Which pods of a revision go when there shall be fewer, and when the Deployment may be told so
//! without a request being cut off. Pure.
//!
//! The controller of `ReplicaSet`s chooses whom it kills: first those that the kubelet does not
//! hold for ready, then those of the lowest deletion cost. The choice here must foresee that one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

/// How far a pod is for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has not answered.
    Starting,
    /// It answers, and gets no requests.
    Closed,
    /// It gets requests.
    Open,
}

/// What counts of a pod.
#[derive(Clone, Debug)]
pub struct PodFacts {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// How far it is.
    pub standing: Standing,
    /// The kubelet holds it for ready.
    pub ready: bool,
    /// The Deployment was told to have fewer pods, and this one was meant.
    pub condemned: bool,
    /// Requests that it is serving.
    pub in_flight: u32,
    /// When it was made.
    pub made: Option<Timestamp>,
}

/// The pods that go so that `wanted` stay. A choice once made is kept as long as it can be.
pub fn choose_victims(pods: &[PodFacts], wanted: u32) -> BTreeSet<Arc<str>> {
    let mut ordered: Vec<&PodFacts> = pods.iter().collect();
    ordered.sort_by_key(|pod| {
        (
            Reverse(pod.condemned),
            pod.ready,
            pod.standing,
            pod.in_flight,
            Reverse(pod.made),
            Arc::clone(&pod.uid),
        )
    });
    let surplus = pods.len().saturating_sub(usize::try_from(wanted).unwrap_or(usize::MAX));
    ordered.into_iter().take(surplus).map(|pod| Arc::clone(&pod.uid)).collect()
}

/// How far the Deployment may shrink now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrinking {
    /// Pods that it may be told to have.
    pub replicas: u32,
    /// Those that must go then, and no others.
    pub batch: BTreeSet<Arc<str>>,
}

/// How far a Deployment with `pods` may shrink towards `wanted`, when `victims` go.
pub fn decide_shrinking(pods: &[PodFacts], victims: &BTreeSet<Arc<str>>, wanted: u32) -> Shrinking {
    let idle = |pod: &&PodFacts| {
        victims.contains(&pod.uid) && pod.in_flight == 0 && pod.standing != Standing::Open
    };
    let (batch, stay): (Vec<_>, Vec<_>) = pods.iter().partition(idle);
    // An unready pod that stays would be killed before a ready one that goes.
    let unready_stays = stay.iter().any(|pod| !pod.ready);
    let foreseeable = |pod: &&PodFacts| !unready_stays || !pod.ready;
    let batch: BTreeSet<Arc<str>> =
        batch.into_iter().filter(foreseeable).map(|pod| Arc::clone(&pod.uid)).collect();
    let staying = u32::try_from(pods.len() - batch.len()).unwrap_or(u32::MAX);
    Shrinking { replicas: wanted.max(staying), batch }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pod(uid: &str) -> PodFacts {
        PodFacts {
            uid: uid.into(),
            standing: Standing::Open,
            ready: true,
            condemned: false,
            in_flight: 0,
            made: None,
        }
    }

    fn names(set: &BTreeSet<Arc<str>>) -> Vec<&str> {
        set.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn the_least_loaded_and_then_the_youngest_go() {
        let made = |second| Timestamp::from_second(second).ok();
        let pods = [
            PodFacts { in_flight: 3, made: made(9), ..pod("busy") },
            PodFacts { made: made(1), ..pod("old") },
            PodFacts { made: made(5), ..pod("young") },
        ];
        assert_eq!(names(&choose_victims(&pods, 2)), ["young"]);
        assert_eq!(names(&choose_victims(&pods, 1)), ["old", "young"]);
        assert_eq!(names(&choose_victims(&pods, 3)), [""; 0]);
        assert_eq!(names(&choose_victims(&pods, 9)), [""; 0]);
    }

    #[test]
    fn whom_the_cluster_would_kill_first_goes_first() {
        let pods = [
            PodFacts { ready: false, in_flight: 9, ..pod("unready") },
            pod("idle"),
            PodFacts { ready: false, standing: Standing::Starting, ..pod("starting") },
        ];
        assert_eq!(names(&choose_victims(&pods, 2)), ["starting"]);
        assert_eq!(names(&choose_victims(&pods, 1)), ["starting", "unready"]);
    }

    #[test]
    fn a_choice_is_kept() {
        let pods =
            [PodFacts { standing: Standing::Closed, in_flight: 2, ..pod("chosen") }, pod("idle")];
        assert_eq!(names(&choose_victims(&pods, 1)), ["chosen"]);
        let pods = [
            PodFacts { condemned: true, standing: Standing::Closed, ..pod("condemned") },
            pods[0].clone(),
        ];
        assert_eq!(names(&choose_victims(&pods, 1)), ["condemned"]);
    }

    #[test]
    fn a_deployment_shrinks_by_its_idle_victims_only() {
        let pods = [
            pod("stays"),
            PodFacts { standing: Standing::Closed, in_flight: 1, ..pod("busy") },
            PodFacts { standing: Standing::Closed, ..pod("idle") },
        ];
        let victims = choose_victims(&pods, 1);
        assert_eq!(names(&victims), ["busy", "idle"]);
        let shrinking = decide_shrinking(&pods, &victims, 1);
        assert_eq!((shrinking.replicas, names(&shrinking.batch)), (2, vec!["idle"]));
    }

    #[test]
    fn pods_that_are_not_made_yet_need_not_come() {
        let pods = [pod("only")];
        let shrinking = decide_shrinking(&pods, &choose_victims(&pods, 2), 2);
        assert_eq!((shrinking.replicas, shrinking.batch.len()), (2, 0));
    }

    #[test]
    fn an_unready_pod_that_is_busy_holds_the_ready_ones_back() {
        let pods = [
            PodFacts { standing: Standing::Closed, ready: false, in_flight: 1, ..pod("busy") },
            PodFacts { standing: Standing::Closed, ..pod("idle") },
        ];
        let victims = choose_victims(&pods, 0);
        assert_eq!(decide_shrinking(&pods, &victims, 0).replicas, 2);
    }

    prop_compose! {
        fn any_pod()(
            standing in prop::sample::select(vec![
                Standing::Starting, Standing::Closed, Standing::Open,
            ]),
            ready: bool, condemned: bool, in_flight in 0u32..3,
        ) -> PodFacts {
            PodFacts {
                standing: if condemned { standing.min(Standing::Closed) } else { standing },
                ready,
                condemned,
                in_flight: if standing == Standing::Starting { 0 } else { in_flight },
                ..pod("")
            }
        }
    }

    /// The order in which the controller of `ReplicaSet`s kills, when the batch has the lowest cost.
    fn killed(pods: &[PodFacts], shrinking: &Shrinking) -> Vec<PodFacts> {
        let mut ordered = pods.to_vec();
        ordered.sort_by_key(|pod| (pod.ready, !shrinking.batch.contains(&pod.uid)));
        ordered.truncate(pods.len().saturating_sub(shrinking.replicas as usize));
        ordered
    }

    proptest! {
        #[test]
        fn no_pod_with_requests_is_ever_killed(
            pods in prop::collection::vec(any_pod(), 0..8), wanted in 0u32..8,
        ) {
            let named = |(i, pod): (usize, PodFacts)| PodFacts { uid: i.to_string().into(), ..pod };
            let mut pods: Vec<PodFacts> = pods.into_iter().enumerate().map(named).collect();
            let victims = choose_victims(&pods, wanted);
            for pod in &mut pods {
                if victims.contains(&pod.uid) {
                    pod.standing = pod.standing.min(Standing::Closed);
                }
            }
            let shrinking = decide_shrinking(&pods, &victims, wanted);
            prop_assert!(shrinking.replicas >= wanted);
            for pod in killed(&pods, &shrinking) {
                prop_assert!(shrinking.batch.contains(&pod.uid), "{pod:?} was not meant");
                prop_assert!(pod.in_flight == 0 && pod.standing != Standing::Open);
            }
        }
    }
}
