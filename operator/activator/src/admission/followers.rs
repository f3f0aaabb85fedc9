//! Other activators that send requests straight to the pods, at the gate of the owner: what they
//! say comes under the lock that admits requests, so that a pod's load is that of all.

use std::num::NonZeroU32;
use std::sync::Arc;

use rouse_core::scaling::Traffic;
use rouse_core::spread::{Counts, Ledger, Moment, StreamId, Word};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Gate;
use super::state::{Answers, SlotOthers, State};

/// The followers of a gate.
#[derive(Debug)]
pub(super) struct Followers {
    ledger: Ledger,
    origin: Instant,
    /// Sent to whenever they are to be told something. They are told no more when it goes.
    news: watch::Sender<()>,
}

/// One follower on one stream, as the gate knows it. It is counted with for a while after this is
/// dropped, as nobody knows what it sends.
#[derive(Debug)]
pub(crate) struct Following {
    gate: Arc<Gate>,
    member: Arc<str>,
    stream: StreamId,
    told: u64,
    news: watch::Receiver<()>,
}

impl Gate {
    /// Takes in a follower; none where the Function is not owned here any more.
    pub(crate) fn follow(self: &Arc<Self>, member: &Arc<str>, first: &Counts) -> Option<Following> {
        let mut state = self.lock();
        if state.shut.is_some() {
            return None;
        }
        let followers = state.followers.get_or_insert_with(|| {
            let (ledger, origin) = (Ledger::default(), Instant::now());
            Box::new(Followers { ledger, origin, news: watch::Sender::new(()) })
        });
        let (now, news) = (followers.now(), followers.news.subscribe());
        // Who joins is told of the pods as they are.
        state.publish();
        let followers = state.followers.as_mut()?;
        let stream = followers.ledger.join(member, first, now);
        self.take_in(state, first.peak);
        let (gate, member) = (Arc::clone(self), Arc::clone(member));
        Some(Following { gate, member, stream, told: 0, news })
    }

    /// Forgets followers that say nothing. Answers when to look again.
    pub fn expire_followers(self: &Arc<Self>) -> Option<Instant> {
        let mut state = self.lock();
        let followers = state.followers.as_mut()?;
        let before = followers.ledger.followers();
        let next = followers.ledger.expire(followers.now());
        let (origin, left) = (followers.origin, followers.ledger.followers());
        if left < before {
            tracing::info!(silent = before - left, "activators that send straight say nothing");
            followers.news.send_replace(());
            self.take_in(state, 0);
        }
        next.map(|moment| origin + moment)
    }

    /// Tells followers which pods are open, and what each is counted for, if that is to be kept to.
    pub fn tell_followers(&self, target: Option<NonZeroU32>) {
        let mut state = self.lock();
        state.spread_target = target;
        state.publish();
    }

    /// Ends a change of what followers have: the task is told where that may matter to it.
    fn take_in(&self, mut state: std::sync::MutexGuard<'_, State>, peak: u32) {
        let awaited = |state: &State| {
            let closed = state.slots.iter().filter(|slot| !slot.open);
            closed.filter(|slot| slot.others.may_send || slot.others.in_flight > 0).count()
        };
        let (before, busy) = (awaited(&state), state.elsewhere > 0);
        state.follow_others();
        let total = state.total();
        // What came and went since they said something last.
        let unseen = total.saturating_add(peak.saturating_sub(state.elsewhere));
        state.note_peak_of(unseen);
        if busy || peak > 0 {
            state.note_idle(Instant::now());
        }
        let tell = unseen > state.alarm || awaited(&state) < before;
        self.finish(state, Answers::default());
        if tell {
            self.changed.notify_one();
        }
    }
}

impl Following {
    /// Takes in what the follower says. Answers whether it is one still.
    pub fn hear(&self, counts: &Counts) -> bool {
        let mut state = self.gate.lock();
        let Some(followers) = &mut state.followers else { return false };
        let now = followers.now();
        let heard = followers.ledger.hear(&self.member, self.stream, counts, now);
        if heard {
            self.gate.take_in(state, counts.peak);
        }
        heard
    }

    /// Takes in that the follower has nothing there and sends nothing any more.
    pub fn leave(&self) {
        let mut state = self.gate.lock();
        if let Some(followers) = &mut state.followers {
            followers.ledger.leave(&self.member, self.stream);
            self.gate.take_in(state, 0);
        }
    }

    /// What to tell it; none once it follows no longer.
    pub fn word(&mut self) -> Option<Word> {
        self.news.mark_unchanged();
        let state = self.gate.lock();
        let followers = state.followers.as_ref()?;
        let word = followers.ledger.word(&self.member, self.stream, self.told)?;
        drop(state);
        if let Some(table) = &word.table {
            self.told = table.version;
        }
        Some(word)
    }

    /// Returns when there may be something to tell it.
    pub async fn news(&mut self) {
        // Without a sender the next word is the last.
        drop(self.news.changed().await);
    }
}

impl Followers {
    fn now(&self) -> Moment {
        self.origin.elapsed()
    }
}

impl State {
    /// Puts in force what followers are told. With a hard limit there is nothing for them.
    pub(super) fn publish(&mut self) {
        let Some(followers) = &mut self.followers else { return };
        let limited = self.bounds.concurrency.limit.is_some();
        let open = self.slots.iter().filter(|slot| slot.open && slot.health.is_sound() && !limited);
        let open = open.map(|slot| &slot.pod.uid);
        if followers.ledger.publish(open, self.spread_target, self.in_flight) {
            followers.news.send_replace(());
        }
        self.follow_others();
    }

    /// Takes over from the ledger what others have in the pods.
    pub(super) fn follow_others(&mut self) {
        let Some(followers) = &self.followers else { return };
        let ledger = &followers.ledger;
        self.elsewhere = ledger.in_flight();
        for slot in &mut self.slots {
            let uid = &*slot.pod.uid;
            let (in_flight, may_send) = (ledger.in_pod(uid), ledger.may_get(uid));
            slot.follow_others(SlotOthers { in_flight, may_send });
        }
    }

    /// What went through, here and elsewhere.
    pub(super) fn traffic(&self) -> Traffic {
        let own = self.own_traffic();
        let Some(followers) = &self.followers else { return own };
        let others = followers.ledger.traffic(followers.now());
        Traffic {
            arrived: own.arrived + others.arrived,
            served: own.served + others.served,
            served_time: own.served_time.saturating_add(others.served_time),
            age: own.age.saturating_add(others.age),
        }
    }

    /// Parts with all followers: they follow another owner from here on.
    pub(super) fn part(&mut self) {
        self.followers = None;
        self.elsewhere = 0;
        for slot in &mut self.slots {
            slot.follow_others(SlotOthers::default());
        }
    }

    /// Whether the Function was given to another activator that counts what is left here.
    pub(super) const fn is_given_away(&self) -> bool {
        self.shut.is_some() && self.claims.is_some()
    }
}
