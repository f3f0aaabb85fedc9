//! What the owner of a Function knows of its followers.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{Counts, LEASE, Moment, Table, Word, share};
use crate::scaling::Traffic;

/// Tells the streams of one follower from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(u64);

/// The followers of one Function, and the table that they are told.
#[derive(Debug, Default)]
pub struct Ledger {
    version: u64,
    open: BTreeSet<Arc<str>>,
    target: Option<NonZeroU32>,
    /// Requests that the owner itself has in pods.
    own: u32,
    followers: BTreeMap<Arc<str>, Follower>,
    /// What all have sent since they follow, without what pods still have.
    sent: Traffic,
    streams: u64,
}

#[derive(Debug)]
struct Follower {
    stream: StreamId,
    /// The pods that it may send to, as far as is known: those of every table that it may have been
    /// told since the one that it acknowledged last.
    may: BTreeSet<Arc<str>>,
    counts: BTreeMap<Arc<str>, u32>,
    traffic: Traffic,
    heard: u64,
    heard_at: Moment,
}

impl Ledger {
    /// Takes in a new follower, or a new stream of one: it had stopped before it asked anew.
    pub fn join(&mut self, member: &Arc<str>, first: &Counts, now: Moment) -> StreamId {
        self.streams += 1;
        let stream = StreamId(self.streams);
        let follower = Follower {
            stream,
            may: self.open.clone(),
            counts: counted(first),
            traffic: first.traffic,
            heard: first.number,
            heard_at: now,
        };
        self.followers.insert(Arc::clone(member), follower);
        stream
    }

    /// Takes in what a follower says. Answers whether it is one, by this stream.
    pub fn hear(&mut self, member: &str, stream: StreamId, counts: &Counts, now: Moment) -> bool {
        let Self { version, open, followers, sent, .. } = self;
        let Some(follower) = of(followers, member, stream) else { return false };
        let before = std::mem::replace(&mut follower.traffic, counts.traffic);
        follower.counts = counted(counts);
        follower.heard = counts.number;
        follower.heard_at = now;
        if counts.table == *version {
            follower.may.clone_from(open);
        }
        add(sent, before, counts.traffic);
        true
    }

    /// Forgets a follower that has said goodbye.
    pub fn leave(&mut self, member: &str, stream: StreamId) {
        if of(&mut self.followers, member, stream).is_some() {
            self.followers.remove(member);
        }
    }

    /// Forgets those who have said nothing for too long. Answers when to look again.
    pub fn expire(&mut self, now: Moment) -> Option<Moment> {
        self.followers.retain(|_, follower| follower.heard_at + LEASE > now);
        self.followers.values().map(|follower| follower.heard_at + LEASE).min()
    }

    /// Puts another table in force, if it is another: pods that are `open`, and the soft target of
    /// each, if it has one now. `own` requests are in pods that the owner has sent itself. Answers
    /// whether the followers must be told.
    pub fn publish<'a>(
        &mut self,
        open: impl Iterator<Item = &'a Arc<str>>,
        target: Option<NonZeroU32>,
        own: u32,
    ) -> bool {
        self.own = own;
        let open: BTreeSet<Arc<str>> = open.cloned().collect();
        let retargeted = std::mem::replace(&mut self.target, target) != target;
        if open == self.open && self.version > 0 {
            return retargeted;
        }
        self.version += 1;
        for follower in self.followers.values_mut() {
            follower.may.extend(open.iter().cloned());
        }
        self.open = open;
        true
    }

    /// What to say to a follower that was told the table of the version `told` last; none where the
    /// stream is no longer one.
    pub fn word(&self, member: &str, stream: StreamId, told: u64) -> Option<Word> {
        let follower = self.followers.get(member).filter(|known| known.stream == stream)?;
        let holders = u32::try_from(self.followers.len()).unwrap_or(u32::MAX).saturating_add(1);
        let all = self.own.saturating_add(self.in_flight());
        let part = |target| share(target, follower.in_flight(), all, holders);
        let table = (told != self.version)
            .then(|| Table { version: self.version, pods: self.open.iter().cloned().collect() });
        Some(Word { heard: follower.heard, share: self.target.map(part), table })
    }

    /// Requests that followers have in the pod.
    pub fn in_pod(&self, pod: &str) -> u32 {
        let counts = self.followers.values().filter_map(|follower| follower.counts.get(pod));
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Whether a follower may be sending to the pod.
    pub fn may_get(&self, pod: &str) -> bool {
        self.followers.values().any(|follower| follower.may.contains(pod))
    }

    /// Requests that followers have in pods.
    pub fn in_flight(&self) -> u32 {
        self.followers.values().fold(0, |sum, follower| sum.saturating_add(follower.in_flight()))
    }

    /// What followers have sent: counts that grow, whoever comes and goes, and the ages of what pods
    /// have now.
    pub fn traffic(&self, now: Moment) -> Traffic {
        let age = |follower: &Follower| {
            let since = now.saturating_sub(follower.heard_at);
            follower.traffic.age.saturating_add(since.saturating_mul(follower.in_flight()))
        };
        let ages = self.followers.values().map(age);
        Traffic { age: ages.fold(Duration::ZERO, Duration::saturating_add), ..self.sent }
    }

    /// Followers.
    pub fn followers(&self) -> usize {
        self.followers.len()
    }
}

/// The follower, if that is its stream.
fn of<'f>(
    followers: &'f mut BTreeMap<Arc<str>, Follower>,
    member: &str,
    stream: StreamId,
) -> Option<&'f mut Follower> {
    followers.get_mut(member).filter(|follower| follower.stream == stream)
}

impl Follower {
    fn in_flight(&self) -> u32 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Adds what was sent between two lines.
const fn add(sent: &mut Traffic, before: Traffic, after: Traffic) {
    sent.arrived += after.arrived.saturating_sub(before.arrived);
    sent.served += after.served.saturating_sub(before.served);
    let took = after.served_time.saturating_sub(before.served_time);
    sent.served_time = sent.served_time.saturating_add(took);
}

fn counted(counts: &Counts) -> BTreeMap<Arc<str>, u32> {
    let some = counts.pods.iter().filter(|(_, count)| **count > 0);
    some.map(|(pod, count)| (Arc::clone(pod), *count)).collect()
}
