//! How far each member's routes go, as they tell it, and which Functions wait for that. The word of
//! a member counts for as long as the stream lives that brought it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rouse_core::membership::Member;
use rouse_core::reach::{Reach, Voice};
use rouse_core::report::Routed;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a member is waited for that came or whose stream broke: several attempts to open one.
/// One that is gone is dropped from the membership; one that only this process can't reach would
/// keep every new Function from being ready.
pub(crate) const UNHEARD_GRACE: Duration = Duration::from_secs(5);

/// What members have told.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    state: Mutex<State>,
    progress: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// By their UIDs; none before it is known who they are.
    members: Option<BTreeMap<String, OfMember>>,
    /// What those say whose streams live, by their UIDs.
    heard: HashMap<String, Heard>,
    /// Functions that wait, ordered by the version that they wait for.
    waiting: BTreeSet<(u64, Arc<str>)>,
    waiters: HashMap<Arc<str>, Waiter>,
}

#[derive(Debug)]
struct OfMember {
    name: String,
    /// Since when it is in, or not heard any more.
    since: Instant,
}

#[derive(Debug)]
struct Heard {
    stream: u64,
    routed: Routed,
}

#[derive(Debug)]
struct Waiter {
    version: u64,
    namespace: Arc<str>,
    name: Arc<str>,
}

/// Functions that need not wait any longer, or must be told something else, by namespace and name.
pub(crate) type Released = Vec<(Arc<str>, Arc<str>)>;

impl Routes {
    /// Changes when what is said of a Trigger may have to.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Which members have routes as far as `needed`.
    pub fn reach(&self, needed: Routed) -> Reach {
        self.lock().reach(needed, Instant::now())
    }

    /// Which members have routes for the Function with this UID as it was at `version`. Where not
    /// all do, it waits: whoever lets it go on returns it as released.
    pub fn await_function(&self, uid: &str, version: u64, key: (&Arc<str>, &Arc<str>)) -> Reach {
        let mut state = self.lock();
        state.stop_waiting(uid);
        let reach = state.reach(needed(version), Instant::now());
        if reach != Reach::Everywhere {
            let uid: Arc<str> = uid.into();
            let (namespace, name) = (Arc::clone(key.0), Arc::clone(key.1));
            state.waiting.insert((version, Arc::clone(&uid)));
            state.waiters.insert(uid, Waiter { version, namespace, name });
        }
        reach
    }

    /// Takes in what `member` said on the stream with this number.
    pub fn hear(&self, member: &str, stream: u64, routed: Routed) -> Released {
        let mut state = self.lock();
        state.heard.insert(member.to_owned(), Heard { stream, routed });
        let released = state.release_the_reached();
        drop(state);
        crate::context::bump(&self.progress);
        released
    }

    /// The stream with this number ended.
    pub fn end_stream(&self, member: &str, stream: u64) {
        let mut state = self.lock();
        if state.heard.get(member).is_some_and(|heard| heard.stream == stream) {
            state.heard.remove(member);
            if let Some(of_member) = state.members.as_mut().and_then(|all| all.get_mut(member)) {
                of_member.since = Instant::now();
            }
        }
    }

    /// Takes in who the members are. All that wait are released: they wait for others now.
    pub fn set_members(&self, members: &[Member]) -> Released {
        let now = Instant::now();
        let mut state = self.lock();
        let mut before = state.members.take().unwrap_or_default();
        let next = members.iter().map(|member| {
            let since = before.remove(&member.uid).map_or(now, |before| before.since);
            (member.uid.clone(), OfMember { name: member.name.clone(), since })
        });
        state.members = Some(next.collect());
        state.waiting.clear();
        let released = std::mem::take(&mut state.waiters);
        drop(state);
        crate::context::bump(&self.progress);
        released.into_values().map(|waiter| (waiter.namespace, waiter.name)).collect()
    }

    /// Whether it is known who the members are, even if there are none.
    pub fn knows_members(&self) -> bool {
        self.lock().members.is_some()
    }

    pub fn forget(&self, uid: &str) {
        self.lock().stop_waiting(uid);
    }

    /// Forgets all Functions but those that `is_there`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut state = self.lock();
        state.waiting.retain(|(_, uid)| is_there(uid));
        state.waiters.retain(|uid, _| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reach(&self, needed: Routed, now: Instant) -> Reach {
        let Some(members) = &self.members else { return Reach::Unknown };
        let voices: Vec<_> = members
            .iter()
            .map(|(uid, member)| Voice {
                name: &member.name,
                routed: self.heard.get(uid).map(|heard| heard.routed),
                awaited: now < member.since + UNHEARD_GRACE,
            })
            .collect();
        Reach::of(&voices, needed)
    }

    /// Routes go from version to version, so that whoever comes after one that must wait must too.
    fn release_the_reached(&mut self) -> Released {
        let now = Instant::now();
        let mut released = Released::new();
        while let Some((version, uid)) = self.waiting.first().cloned() {
            if self.reach(needed(version), now) != Reach::Everywhere {
                break;
            }
            if let Some(waiter) = self.stop_waiting(&uid) {
                released.push((waiter.namespace, waiter.name));
            }
        }
        released
    }

    fn stop_waiting(&mut self, uid: &str) -> Option<Waiter> {
        let (uid, waiter) = self.waiters.remove_entry(uid)?;
        self.waiting.remove(&(waiter.version, uid));
        Some(waiter)
    }
}

const fn needed(version: u64) -> Routed {
    Routed { functions: version, triggers: 0 }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn member(uid: &str) -> Member {
        Member { uid: uid.into(), name: format!("activator-{uid}"), peer: String::new() }
    }

    fn waits(routes: &Routes, uid: &str, version: u64) -> bool {
        let key = (&Arc::from("shop"), &Arc::from(uid));
        routes.await_function(uid, version, key) != Reach::Everywhere
    }

    fn names(released: Released) -> Vec<String> {
        released.into_iter().map(|(_, name)| name.to_string()).collect()
    }

    fn hear(routes: &Routes, member: &str, stream: u64, functions: u64) -> Vec<String> {
        names(routes.hear(member, stream, needed(functions)))
    }

    #[tokio::test(start_paused = true)]
    async fn only_those_are_released_that_all_members_know() {
        let routes = Routes::default();
        assert_eq!(routes.reach(needed(1)), Reach::Unknown);
        routes.set_members(&[member("a"), member("b")]);
        assert!(waits(&routes, "f", 10) && waits(&routes, "g", 20) && waits(&routes, "h", 10));
        assert_eq!(hear(&routes, "a", 1, 50), [""; 0]);
        assert_eq!(hear(&routes, "b", 2, 9), [""; 0]);
        assert_eq!(hear(&routes, "b", 2, 15), ["f", "h"]);
        assert_eq!(hear(&routes, "b", 2, 16), [""; 0], "told once");
        routes.forget("g");
        assert_eq!(hear(&routes, "b", 2, 30), [""; 0]);
        assert!(!waits(&routes, "f", 30));
        assert!(routes.lock().waiting.is_empty() && routes.lock().waiters.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_another_version_waits_once() {
        let routes = Routes::default();
        routes.set_members(&[member("a")]);
        assert!(waits(&routes, "f", 10) && waits(&routes, "f", 20));
        assert_eq!(hear(&routes, "a", 1, 15), [""; 0]);
        assert_eq!(hear(&routes, "a", 1, 20), ["f"]);
        assert!(waits(&routes, "f", 30));
        routes.retain(|_| false);
        assert_eq!(hear(&routes, "a", 1, 30), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_whose_stream_broke_is_waited_for_and_then_not() {
        let routes = Routes::default();
        routes.set_members(&[member("a"), member("b")]);
        hear(&routes, "a", 1, 50);
        hear(&routes, "b", 2, 50);
        advance(UNHEARD_GRACE).await;
        routes.end_stream("b", 1);
        assert!(!waits(&routes, "f", 50), "an old stream's end");
        routes.end_stream("b", 2);
        assert!(waits(&routes, "f", 50), "what it said may be true no more");
        advance(UNHEARD_GRACE).await;
        assert!(!waits(&routes, "f", 50));
        assert!(waits(&routes, "f", 51), "those who are heard count");
        routes.end_stream("a", 1);
        advance(UNHEARD_GRACE).await;
        assert!(waits(&routes, "f", 50), "nobody is heard");
    }

    #[tokio::test(start_paused = true)]
    async fn another_membership_releases_all() {
        let routes = Routes::default();
        assert!(waits(&routes, "f", 10));
        assert_eq!(names(routes.set_members(&[])), ["f"]);
        assert_eq!(routes.reach(needed(10)), Reach::NoActivator);
        assert!(waits(&routes, "f", 10));
        hear(&routes, "a", 1, 10);
        assert_eq!(names(routes.set_members(&[member("a")])), ["f"], "it had spoken before");
        assert!(!waits(&routes, "f", 10));
        let progress = routes.progress();
        routes.set_members(&[member("a"), member("b")]);
        assert!(progress.has_changed().unwrap());
        assert!(waits(&routes, "f", 10));
    }
}
