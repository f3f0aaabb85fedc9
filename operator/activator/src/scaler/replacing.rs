//! Which failing pod is replaced by a new one. Pure.
//!
//! A pod is replaced only while others of its revision serve: where all fail alike it is the
//! Function that is broken, and new pods would be no better.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::PodLoad;

/// Ejections in a row after which a pod is replaced: each is a request that tried it in vain, and
/// together they last for a quarter of a minute.
const EJECTIONS: u32 = 4;

/// Shortest pause between two pods of one Function.
const PAUSE: Duration = Duration::from_mins(1);

/// When a pod of the Function was last replaced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replacing {
    last: Option<Instant>,
}

impl Replacing {
    /// The pod that is to be replaced now, if there is one. It counts as replaced then.
    pub fn choose(&mut self, pods: &[PodLoad], now: Instant) -> Option<Arc<str>> {
        if self.last.is_some_and(|last| now < last + PAUSE) {
            return None;
        }
        let failing = |pod: &&PodLoad| {
            pod.open && pod.failing.is_some_and(|failing| failing.ejections >= EJECTIONS)
        };
        let chosen = pods
            .iter()
            .filter(failing)
            .filter(|pod| most_serve(pods, &pod.revision))
            .min_by_key(|pod| pod.failing.map(|failing| failing.since))?;
        self.last = Some(now);
        Some(Arc::clone(&chosen.uid))
    }
}

/// Whether at least half of the pods of `revision` that get requests serve them.
fn most_serve(pods: &[PodLoad], revision: &str) -> bool {
    let (failing, sound): (Vec<_>, Vec<_>) = pods
        .iter()
        .filter(|pod| pod.open && *pod.revision == *revision)
        .partition(|pod| pod.failing.is_some());
    !sound.is_empty() && failing.len() <= sound.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Failing;

    fn pod(uid: &str, ejections: Option<u32>, since: Instant) -> PodLoad {
        PodLoad {
            uid: uid.into(),
            revision: "r".into(),
            in_flight: 1,
            open: true,
            awaited: false,
            failing: ejections.map(|ejections| Failing { since, ejections }),
        }
    }

    #[test]
    fn one_that_keeps_failing_beside_others_that_serve_is_replaced_and_the_next_a_minute_later() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut replacing = Replacing::default();
        let few = [pod("a", None, now), pod("b", Some(EJECTIONS - 1), now)];
        assert_eq!(replacing.choose(&few, now), None);
        let pods = [
            pod("a", None, now),
            pod("b", Some(7), later),
            pod("c", Some(4), now),
            pod("d", None, now),
        ];
        assert_eq!(replacing.choose(&pods, later).as_deref(), Some("c"));
        assert_eq!(replacing.choose(&pods, later + PAUSE / 2), None);
        assert_eq!(replacing.choose(&pods, later + PAUSE).as_deref(), Some("c"));
    }

    #[test]
    fn where_all_or_most_fail_alike_nobody_is_replaced() {
        let now = Instant::now();
        let all = [pod("a", Some(9), now), pod("b", Some(9), now)];
        assert_eq!(Replacing::default().choose(&all, now), None);
        let most = [pod("a", Some(9), now), pod("b", Some(0), now), pod("c", None, now)];
        assert_eq!(Replacing::default().choose(&most, now), None);
        let other = PodLoad { revision: "other".into(), ..pod("c", None, now) };
        assert_eq!(Replacing::default().choose(&[pod("a", Some(9), now), other], now), None);
        let alone = [pod("a", Some(9), now)];
        assert_eq!(Replacing::default().choose(&alone, now), None);
    }
}
