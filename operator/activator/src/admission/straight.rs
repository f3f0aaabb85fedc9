//! Sending straight to the pods of a Function that another activator owns: a gate without a queue.
//! It has what the owner's last word permits, for as long as that word is worth something. What has
//! no place here is the owner's business.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use rouse_core::scaling::Traffic;
use tokio::time::Instant;

use super::state::{Answers, Slot, State};
use super::{Gate, Permit, Place};
use crate::pod::Pod;

/// The right to send straight.
#[derive(Debug)]
pub(super) struct Straight {
    until: Instant,
    share: Option<NonZeroU32>,
    /// Somebody found no place since the owner was last told.
    overflowed: bool,
}

/// One task's hold on the gate, while it follows the owner. Nothing is sent straight once it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Pursuit {
    gate: Arc<Gate>,
    number: u64,
}

/// What was sent straight.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Requests in flight, by UID of the pod.
    pub pods: BTreeMap<Arc<str>, u32>,
    /// Most of them since it was last asked.
    pub peak: u32,
    /// All that was ever sent.
    pub traffic: Traffic,
}

impl Gate {
    /// Asks for a slot of a pod of a Function that another activator owns. There is no queue.
    pub fn admit_straight(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.lock();
        let straight = state.straight.as_ref()?;
        if Instant::now() >= straight.until {
            return None;
        }
        let Some(slot) = state.pick_among(straight.share, |_| true) else {
            let first = state.straight.as_mut().is_some_and(Straight::overflow);
            drop(state);
            if first {
                self.changed.notify_one();
            }
            return None;
        };
        let ticket = state.draw_ticket();
        let taken = state.occupy(slot);
        state.note_peak();
        drop(state);
        Some(Permit::new(self, Place { ticket, since: None }, taken))
    }

    /// Begins to follow an owner. Whoever did before has no say any more.
    pub(crate) fn pursue(self: &Arc<Self>) -> Pursuit {
        let mut state = self.lock();
        state.end_pursuit();
        state.alarm = u32::MAX;
        Pursuit { gate: Arc::clone(self), number: state.pursuits }
    }

    /// Requests in flight that were sent from here.
    pub(crate) fn own_in_flight(&self) -> u32 {
        self.lock().in_flight
    }
}

impl Pursuit {
    /// Keeps to a table: requests go to these pods and to no others. Those in `there` exist.
    pub fn keep_to(&self, pods: &[Arc<Pod>], there: impl Fn(&str) -> bool) {
        self.change(|state| {
            for slot in &mut state.slots {
                let same =
                    |pod: &&Arc<Pod>| pod.uid == slot.pod.uid && pod.address == slot.pod.address;
                let same = pods.iter().find(same);
                let moved = same.is_none() && pods.iter().any(|pod| pod.uid == slot.pod.uid);
                if moved || !there(&slot.pod.uid) {
                    slot.retired = true;
                    slot.pod.connections.close();
                }
                match same {
                    Some(_) => slot.reopen(),
                    None => slot.open = false,
                }
            }
            state.drop_retired();
            for pod in pods {
                if !state.slots.iter().any(|slot| slot.pod.uid == pod.uid && !slot.retired) {
                    state.slots.push(Slot::new(pod, None));
                }
            }
            state.review();
        });
    }

    /// Lets requests be sent until that moment, and no more than `share` of them in one pod.
    pub fn permit(&self, until: Instant, share: Option<NonZeroU32>) {
        self.change(|state| {
            let overflowed = state.straight.as_ref().is_some_and(|straight| straight.overflowed);
            state.straight = Some(Straight { until, share, overflowed });
        });
    }

    /// Sends nothing more. Answers how many requests are in flight.
    pub fn stop(&self) -> u32 {
        self.change(State::stop_straight);
        self.gate.own_in_flight()
    }

    /// What was sent.
    pub fn take_sent(&self) -> Sent {
        let mut sent = Sent::default();
        self.change(|state| {
            sent.peak = state.peak;
            sent.traffic = state.own_traffic();
            state.begin_peak();
            if let Some(straight) = &mut state.straight {
                straight.overflowed = false;
            }
            for slot in state.slots.iter().filter(|slot| slot.in_flight > 0) {
                *sent.pods.entry(Arc::clone(&slot.pod.uid)).or_default() += slot.in_flight;
            }
        });
        sent
    }

    /// Returns when the owner is to be told something soon.
    pub async fn changed(&self) {
        self.gate.changed().await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.gate.lock();
        if state.pursuits == self.number {
            change(&mut state);
            self.gate.finish(state, Answers::default());
        }
    }
}

impl Drop for Pursuit {
    fn drop(&mut self) {
        self.change(State::stop_straight);
    }
}

impl Straight {
    /// Notes that somebody found no place; answers whether that is new.
    const fn overflow(&mut self) -> bool {
        !std::mem::replace(&mut self.overflowed, true)
    }
}

impl State {
    /// Ends what was sent straight, and the say of whoever followed the owner.
    pub(super) fn end_pursuit(&mut self) {
        self.pursuits += 1;
        self.expecting = false;
        self.alarm = 0;
        self.stop_straight();
    }

    fn stop_straight(&mut self) {
        self.straight = None;
        for slot in &mut self.slots {
            slot.open = false;
        }
        self.review();
    }
}
