//! What the leader remembers of Functions between reconciles: what was refused and when to try
//! again, how often it failed, what it wrote last. All of it may be lost; it only saves requests.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rouse_core::function::plan::{ChildKind, Write};
use rouse_core::function::status::Trouble;
use rouse_crds::v1alpha1::Function;
use tokio::time::Instant;

use crate::backoff::delay;
use crate::error::Class;
use crate::index::version;

/// How long something that is changed on its way is left as it is: whoever changes it will do so
/// again.
const CHANGED_WAIT: Duration = Duration::from_mins(10);

/// Shortest time between two announcements of how many pods a Function has: they explain, but a load
/// that goes up and down shall not fill the cluster with events.
const SCALE_PAUSE: Duration = Duration::from_secs(30);

/// How long a status may lag behind how its Function runs: a waking is told in one write.
const LAG: Duration = Duration::from_secs(1);

/// Time from one such write to the next, of whatever Function: 20 a second. They stay a small part
/// of what an API server bears, even while thousands of Functions wake and sleep.
const PACE: Duration = Duration::from_millis(50);

/// The memory of all Functions, by UID.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    functions: Mutex<HashMap<String, Entry>>,
    /// The last turn that was given.
    last_turn: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Entry {
    failures: u32,
    refusals: HashMap<(ChildKind, String), Refusal>,
    written: Option<Arc<Function>>,
    turn: Option<Instant>,
    scale_announced_at: Option<Instant>,
    sighting: Option<Sighting>,
}

/// When a generation of a Function's spec was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// The version of the object by then: who knows that one or a later one knows the generation,
    /// however often the status is written meanwhile.
    pub version: u64,
    pub at: Instant,
    /// Whether all activators had routes for it once.
    pub routed: bool,
    generation: Option<i64>,
}

/// A write that is not worth trying again for a while.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// When it is worth a try.
    pub until: Instant,
    /// What the status says of it; none where the write was taken, but changed on its way, as
    /// admission webhooks do.
    pub trouble: Option<Trouble>,
    digest: u64,
    failures: u32,
}

impl Memory {
    /// Counts a failed reconcile; how many there were in a row.
    pub fn failed(&self, uid: &str) -> u32 {
        let mut functions = self.lock();
        let entry = functions.entry(uid.to_owned()).or_default();
        entry.failures = entry.failures.saturating_add(1);
        entry.failures
    }

    pub fn succeeded(&self, uid: &str) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.failures = 0;
        }
    }

    /// Whether the very same write was refused lately.
    pub fn refusal(&self, uid: &str, write: &Write) -> Option<Refusal> {
        let functions = self.lock();
        let refusal = functions.get(uid)?.refusals.get(&key(write))?;
        let same = refusal.digest == digest(write) && Instant::now() < refusal.until;
        same.then(|| refusal.clone())
    }

    /// Remembers that `write` was refused, or taken but changed where there is no `trouble`.
    pub fn refuse(&self, uid: &str, write: &Write, trouble: Option<Trouble>) -> Refusal {
        let mut functions = self.lock();
        let refusals = &mut functions.entry(uid.to_owned()).or_default().refusals;
        let digest = digest(write);
        let before = refusals.get(&key(write)).filter(|before| before.digest == digest);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let wait = match trouble {
            Some(_) => delay(Class::Invalid, failures, uid),
            None => CHANGED_WAIT,
        };
        let until = Instant::now() + wait;
        let refusal = Refusal { until, trouble, digest, failures };
        refusals.insert(key(write), refusal.clone());
        refusal
    }

    pub fn accept(&self, uid: &str, write: &Write) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.refusals.remove(&key(write));
        }
    }

    /// Keeps a Function as a write of its status left it.
    pub fn wrote(&self, uid: &str, function: Function) {
        let mut functions = self.lock();
        let entry = functions.entry(uid.to_owned()).or_default();
        entry.written = Some(Arc::new(function));
        entry.turn = None;
    }

    /// Whether a change of the number of pods may be announced, which counts as done then.
    pub fn may_announce_scale(&self, uid: &str) -> bool {
        let mut functions = self.lock();
        let entry = functions.entry(uid.to_owned()).or_default();
        let lately = entry.scale_announced_at.is_some_and(|at| at.elapsed() < SCALE_PAUSE);
        if !lately {
            entry.scale_announced_at = Some(Instant::now());
        }
        !lately
    }

    /// When how a Function runs may be written to its status. It has one turn until then.
    pub fn turn(&self, uid: &str) -> Instant {
        let mut functions = self.lock();
        let entry = functions.entry(uid.to_owned()).or_default();
        *entry.turn.get_or_insert_with(|| self.next_turn())
    }

    /// There is nothing to write any more.
    pub fn forgo_turn(&self, uid: &str) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.turn = None;
        }
    }

    fn next_turn(&self) -> Instant {
        let mut last = self.last_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let soonest = Instant::now() + LAG;
        let turn = last.map_or(soonest, |last| soonest.max(last + PACE));
        *last = Some(turn);
        turn
    }

    /// When the present generation of `function` was first seen.
    pub fn sight(&self, function: &Function) -> Sighting {
        let meta = &function.metadata;
        let uid = meta.uid.as_deref().unwrap_or_default();
        let mut functions = self.lock();
        let entry = functions.entry(uid.to_owned()).or_default();
        let generation = meta.generation;
        let known = entry.sighting.filter(|sighting| sighting.generation == generation);
        *entry.sighting.insert(known.unwrap_or_else(|| Sighting {
            version: version(meta).unwrap_or_default(),
            at: Instant::now(),
            routed: false,
            generation,
        }))
    }

    /// All activators have routes for the generation that was seen last.
    pub fn note_routed(&self, uid: &str) {
        let mut functions = self.lock();
        let entry = functions.get_mut(uid);
        if let Some(sighting) = entry.and_then(|entry| entry.sighting.as_mut()) {
            sighting.routed = true;
        }
    }

    /// The newer of what the watch brought and what was written last.
    pub fn newest(&self, watched: Arc<Function>) -> Arc<Function> {
        let mut functions = self.lock();
        let uid = watched.metadata.uid.as_deref().unwrap_or_default();
        let Some(entry) = functions.get_mut(uid) else { return watched };
        let Some(written) = &entry.written else { return watched };
        if version(&written.metadata) > version(&watched.metadata) {
            return written.clone();
        }
        entry.written = None;
        watched
    }

    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Forgets all Functions but those that `is_there`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(write: &Write) -> (ChildKind, String) {
    (write.kind, write.name.clone())
}

/// Only ever compared within this process.
fn digest(write: &Write) -> u64 {
    let mut hasher = DefaultHasher::new();
    write.body.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use rouse_core::function::plan::Verb;
    use serde_json::json;

    use super::*;

    fn write(body: &str) -> Write {
        let kind = ChildKind::Deployment;
        Write { kind, name: "x".into(), verb: Verb::Create, body: json!(body) }
    }

    fn trouble() -> Trouble {
        Trouble { reason: "TemplateRefused", message: "no".into(), passing: false }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_write_waits_longer_each_time_and_another_does_not() {
        let memory = Memory::default();
        assert!(memory.refusal("u", &write("a")).is_none());
        let first = memory.refuse("u", &write("a"), Some(trouble())).until - Instant::now();
        assert!(memory.refusal("u", &write("a")).is_some());
        assert!(memory.refusal("u", &write("b")).is_none(), "something else is worth a try");
        assert!(memory.refusal("v", &write("a")).is_none());
        tokio::time::advance(first).await;
        assert!(memory.refusal("u", &write("a")).is_none(), "the wait is over");
        let second = memory.refuse("u", &write("a"), Some(trouble())).until - Instant::now();
        assert!(second > first);
        memory.accept("u", &write("a"));
        assert!(memory.refuse("u", &write("a"), Some(trouble())).until - Instant::now() < second);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_after_a_second_and_at_a_pace() {
        let memory = Memory::default();
        let now = Instant::now();
        assert_eq!(memory.turn("u"), now + LAG);
        assert_eq!(memory.turn("v"), now + LAG + PACE);
        tokio::time::advance(LAG / 2).await;
        assert_eq!(memory.turn("u"), now + LAG, "it has a turn");
        tokio::time::advance(LAG * 2).await;
        assert_eq!(memory.turn("w"), Instant::now() + LAG, "nobody is before it");
        memory.forgo_turn("u");
        assert_eq!(memory.turn("u"), Instant::now() + LAG + PACE);
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_it() {
        let memory = Memory::default();
        let function = |version: u32| {
            let function: Function = serde_json::from_value(json!({
                "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
                "metadata": {"name": "f", "uid": "u", "resourceVersion": version.to_string()},
                "spec": {"image": "i"},
            }))
            .unwrap();
            function
        };
        let newest = |version| version_of(&memory.newest(Arc::new(function(version))));
        assert_eq!(newest(1), Some(1));
        memory.wrote("u", function(10));
        assert_eq!(newest(9), Some(10));
        assert_eq!(newest(11), Some(11));
        assert_eq!(newest(9), Some(9), "the watch never goes back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_generation_counts_from_its_first_version() {
        let memory = Memory::default();
        let function = |generation: i64, version: u32| {
            let function: Function = serde_json::from_value(json!({
                "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
                "metadata": {"name": "f", "uid": "u", "generation": generation,
                    "resourceVersion": version.to_string()},
                "spec": {"image": "i"},
            }))
            .unwrap();
            function
        };
        let first = memory.sight(&function(1, 10));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((first.version, first.routed), (10, false));
        assert_eq!(memory.sight(&function(1, 12)), first, "the status was written");
        memory.note_routed("u");
        assert!(memory.sight(&function(1, 13)).routed);
        let second = memory.sight(&function(2, 14));
        assert_eq!((second.version, second.routed), (14, false));
        assert!(second.at > first.at);
    }

    fn version_of(function: &Function) -> Option<u64> {
        version(&function.metadata)
    }

    #[test]
    fn failures_count_until_a_success() {
        let memory = Memory::default();
        assert_eq!((memory.failed("u"), memory.failed("u")), (1, 2));
        memory.succeeded("u");
        assert_eq!(memory.failed("u"), 1);
        memory.forget("u");
        memory.retain(|_| false);
        assert_eq!(memory.failed("u"), 1);
    }
}
