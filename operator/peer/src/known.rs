//! Which keys are whose, as far as it was proved. Pure.
//!
//! A proof does not age: the key was that pod's, and never leaves its process. A process that
//! starts anew in the same pod has another key, whose proof takes the place of the first.

use std::collections::HashMap;
use std::time::Duration;

use rouse_core::peer::Fingerprint;
use tokio::time::Instant;

/// Activators that are remembered, which is more than a cluster has. Those that have been asked
/// for least recently go first.
const MOST: usize = 1024;

/// How long a key that was found wrong need not be asked about again.
const WRONG: Duration = Duration::from_secs(10);

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is that activator's.
    Proved,
    /// It was found not to be, moments ago.
    Wrong,
    /// Nothing.
    Unknown,
}

/// The keys of activators, by the UIDs of their pods.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<String, Keys>);

#[derive(Debug)]
struct Keys {
    proved: Option<Fingerprint>,
    wrong: Option<(Fingerprint, Instant)>,
    used: Instant,
}

impl Known {
    /// What is known of `key` as that of the activator `uid`.
    pub fn verdict(&mut self, uid: &str, key: Fingerprint, now: Instant) -> Verdict {
        let Some(keys) = self.0.get_mut(uid) else { return Verdict::Unknown };
        keys.used = now;
        if keys.proved == Some(key) {
            return Verdict::Proved;
        }
        match keys.wrong {
            Some((wrong, at)) if wrong == key && now < at + WRONG => Verdict::Wrong,
            _ => Verdict::Unknown,
        }
    }

    /// Remembers that `key` is the activator's.
    pub fn note_proved(&mut self, uid: &str, key: Fingerprint, now: Instant) {
        let keys = self.keys(uid, now);
        keys.proved = Some(key);
        keys.wrong = None;
    }

    /// Remembers that `key` is not the activator's. True if that is news: the first wrong key since
    /// the last that was right.
    pub fn note_wrong(&mut self, uid: &str, key: Fingerprint, now: Instant) -> bool {
        self.keys(uid, now).wrong.replace((key, now)).is_none()
    }

    fn keys(&mut self, uid: &str, now: Instant) -> &mut Keys {
        if self.0.len() >= MOST && !self.0.contains_key(uid) {
            let oldest = self.0.iter().min_by_key(|(_, keys)| keys.used);
            if let Some(oldest) = oldest.map(|(uid, _)| uid.clone()) {
                self.0.remove(&oldest);
            }
        }
        let empty = || Keys { proved: None, wrong: None, used: now };
        self.0.entry(uid.to_owned()).or_insert_with(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Fingerprint {
        Fingerprint::of(name.as_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_does_not_age_and_is_of_one_activator() {
        let mut known = Known::default();
        let now = Instant::now();
        assert_eq!(known.verdict("a", key("1"), now), Verdict::Unknown);
        known.note_proved("a", key("1"), now);
        let much_later = now + Duration::from_hours(10_000);
        assert_eq!(known.verdict("a", key("1"), much_later), Verdict::Proved);
        assert_eq!(known.verdict("a", key("2"), now), Verdict::Unknown);
        assert_eq!(known.verdict("b", key("1"), now), Verdict::Unknown);
        known.note_proved("a", key("2"), now);
        assert_eq!(known.verdict("a", key("2"), now), Verdict::Proved);
        assert_eq!(known.verdict("a", key("1"), now), Verdict::Unknown, "a process of before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_key_is_remembered_for_a_while_and_harms_no_proof() {
        let mut known = Known::default();
        let now = Instant::now();
        known.note_proved("a", key("1"), now);
        assert!(known.note_wrong("a", key("2"), now), "news");
        assert_eq!(known.verdict("a", key("2"), now), Verdict::Wrong);
        assert_eq!(known.verdict("a", key("1"), now), Verdict::Proved);
        assert_eq!(known.verdict("a", key("2"), now + WRONG), Verdict::Unknown);
        assert!(!known.note_wrong("a", key("3"), now), "told already");
        known.note_proved("a", key("1"), now);
        assert!(known.note_wrong("a", key("3"), now), "news again");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_those_in_use_stay() {
        let mut known = Known::default();
        let start = Instant::now();
        known.note_proved("used", key("1"), start);
        for i in 0..2 * MOST {
            let now = start + Duration::from_secs(i as u64);
            known.note_proved(&format!("uid-{i}"), key("1"), now);
            assert_eq!(known.verdict("used", key("1"), now), Verdict::Proved);
            assert!(known.0.len() <= MOST);
        }
    }
}
