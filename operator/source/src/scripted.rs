//! A server in memory, for tests: a list of events, and what of it is acknowledged. It hands out
//! again what is not, at each connection, and breaks connections off when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rouse_core::delivery::Acks;
use rouse_core::event::{CloudEvent, Data, Invalid, Message, to_batch};
use tokio::sync::Notify;

use crate::failure::Failure;
use crate::link::{Link, Next, Order};
use crate::source::{Brought, Source, Terms};

#[derive(Debug, Default)]
pub(crate) struct State {
    pub events: u64,
    pub acknowledged: BTreeSet<u64>,
    pub done: BTreeSet<u64>,
    /// Acknowledged before the Function was done with it.
    pub early: BTreeSet<u64>,
    pub connections: u64,
    pub most_out: usize,
}

/// The server; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    pub broken: Arc<Notify>,
}

impl Server {
    pub fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn event(number: u64) -> CloudEvent {
    CloudEvent {
        id: number.to_string(),
        source: "/test".into(),
        kind: "test".into(),
        time: Timestamp::UNIX_EPOCH,
        subject: None,
        extensions: BTreeMap::new(),
        data: Data::Bytes { content_type: "text/plain".into(), bytes: vec![b'x'; 100] },
    }
}

impl Source for Server {
    type Token = u64;

    fn terms(&self) -> Terms {
        Terms { acks: Acks::Each, patience: None }
    }

    async fn run(&mut self, link: &mut Link<u64>) -> Result<(), Failure> {
        self.with(|state| state.connections += 1);
        link.set_connected(true);
        let mut out: BTreeSet<u64> = BTreeSet::new();
        loop {
            let room = link.room();
            let numbers: Vec<u64> = self.with(|state| {
                let open = (0..state.events)
                    .filter(|number| !state.acknowledged.contains(number) && !out.contains(number));
                open.take(if room.is_none() { 0 } else { room.events }).collect()
            });
            out.extend(&numbers);
            self.with(|state| state.most_out = state.most_out.max(out.len()));
            if !numbers.is_empty() {
                let brought = numbers.into_iter();
                link.bring(
                    brought
                        .map(|token| Brought { key: None, event: event(token), token })
                        .collect(),
                );
            }
            let next = tokio::select! {
                next = link.next() => next,
                () = self.broken.notified() => return Err(Failure::away("reading", "broken off")),
            };
            match next {
                Next::End => return Ok(()),
                Next::Room | Next::Order(Order::Extend(_) | Order::Release(_)) => {}
                Next::Order(Order::Acknowledge(batch)) => self.with(|state| {
                    for number in batch.tokens() {
                        out.remove(number);
                        if !state.done.contains(number) {
                            state.early.insert(*number);
                        }
                        state.acknowledged.insert(*number);
                    }
                }),
            }
        }
    }

    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid> {
        to_batch(events)
    }
}
