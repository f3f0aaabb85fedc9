//! What connects a source to its runner: room one way, events the other, and orders back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rouse_core::delivery;
use rouse_core::event::{CloudEvent, Data};
use tokio::sync::{mpsc, watch};

use crate::runner::Trouble;
use crate::source::Brought;

/// Orders on their way to a source. More wait at who gives them, who then takes no events.
const ORDERS: usize = 256;

/// An event in the machine.
pub(crate) type Held<T> = Arc<delivery::Event<Body<T>>>;

/// What the machine carries.
#[derive(Debug)]
pub(crate) struct Body<T> {
    pub event: CloudEvent,
    pub token: T,
    pub bytes: usize,
    /// Given up, and stored nowhere.
    pub is_dropped: AtomicBool,
}

/// What the source is to do for events that it brought. All at once, in their order.
#[derive(Debug)]
pub enum Order<T> {
    /// Acknowledge these; where only a position can be told, that of the last.
    Acknowledge(Batch<T>),
    /// Ask the server for more patience with these.
    Extend(Batch<T>),
    /// Let the server hand these out again at once: nobody here will see to them any more.
    Release(Batch<T>),
}

impl<T> Order<T> {
    /// Events that it is about.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Acknowledge(Batch(events))
            | Self::Extend(Batch(events))
            | Self::Release(Batch(events)) => events.len(),
        }
    }
}

/// What a source is to look at.
#[derive(Debug)]
pub enum Next<T> {
    /// This is to be carried out.
    Order(Order<T>),
    /// There is more room than before, or less.
    Room,
    /// Nothing more comes: see to it that the server has got all orders, and return.
    End,
}

/// Events that an order is about.
#[derive(Debug)]
pub struct Batch<T>(pub(crate) Vec<Held<T>>);

impl<T> Batch<T> {
    /// What the source gave with each.
    pub fn tokens(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().map(|held| &held.body.token)
    }

    /// What the source gave with each, and whether it was given up and is stored nowhere: for whoever
    /// can tell the sender.
    pub fn fates(&self) -> impl DoubleEndedIterator<Item = (&T, bool)> {
        self.0.iter().map(|held| (&held.body.token, held.body.is_dropped.load(Ordering::Relaxed)))
    }
}

/// How much may be brought now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Events.
    pub events: usize,
    /// Bytes of data; the event that goes beyond may still be brought.
    pub bytes: usize,
}

impl Room {
    /// Whether nothing may be brought.
    pub const fn is_none(self) -> bool {
        self.events == 0 || self.bytes == 0
    }
}

/// How a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether it is connected, to all that it needs.
    pub connected: bool,
    /// What keeps a part of it from its work, while the rest goes on.
    pub trouble: Option<Trouble>,
    /// Events, or bytes where events can't be counted, that the server has and that are not
    /// acknowledged.
    pub lag: Option<u64>,
    /// How far it is, in the server's words: a sequence, a position in the log.
    pub checkpoint: Option<String>,
}

/// What may have been brought since the beginning: it only grows, so that none is lost on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub events: u64,
    pub bytes: u64,
}

/// A link, and its far end.
pub(crate) fn linked<T>() -> (Link<T>, Far<T>) {
    let (allowance, room) = watch::channel(Allowance::default());
    let (sender, events) = mpsc::unbounded_channel();
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (progress, watched) = watch::channel(Progress::default());
    let brought = Allowance::default();
    let link = Link { allowance: room, brought, events: sender, orders: ordered, progress };
    (link, Far { allowance, events, orders, progress: watched })
}

/// The end of whoever asks a source for events.
#[derive(Debug)]
pub(crate) struct Far<T> {
    pub allowance: watch::Sender<Allowance>,
    pub events: mpsc::UnboundedReceiver<Vec<Brought<T>>>,
    /// Dropped, it ends the source.
    pub orders: mpsc::Sender<Order<T>>,
    pub progress: watch::Receiver<Progress>,
}

/// A source's end.
pub struct Link<T> {
    pub(crate) allowance: watch::Receiver<Allowance>,
    pub(crate) brought: Allowance,
    /// Bounded by the allowance.
    pub(crate) events: mpsc::UnboundedSender<Vec<Brought<T>>>,
    pub(crate) orders: mpsc::Receiver<Order<T>>,
    pub(crate) progress: watch::Sender<Progress>,
}

impl<T> Link<T> {
    /// How much may be brought now. Whoever brings more than that is not stopped, and takes memory.
    pub fn room(&self) -> Room {
        let allowed = *self.allowance.borrow();
        let left = |allowed: u64, brought: u64| {
            usize::try_from(allowed.saturating_sub(brought)).unwrap_or(usize::MAX)
        };
        Room {
            events: left(allowed.events, self.brought.events),
            bytes: left(allowed.bytes, self.brought.bytes),
        }
    }

    /// Waits until there is something to do. Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Next<T> {
        tokio::select! {
            biased;
            order = self.orders.recv() => order.map_or(Next::End, Next::Order),
            changed = self.allowance.changed() => match changed {
                Ok(()) => Next::Room,
                Err(_) => Next::End,
            },
        }
    }

    /// Whether nothing more comes, so that connecting again would be for nothing.
    pub(crate) fn is_over(&self) -> bool {
        self.orders.is_closed() && self.orders.is_empty()
    }

    /// An order that is there already.
    pub fn try_order(&mut self) -> Option<Order<T>> {
        self.orders.try_recv().ok()
    }

    /// Brings events, in the order of the source.
    pub fn bring(&mut self, events: Vec<Brought<T>>) {
        let bytes: usize = events.iter().map(|event| size(&event.event)).sum();
        self.brought.events = self.brought.events.saturating_add(count(events.len()));
        self.brought.bytes = self.brought.bytes.saturating_add(count(bytes));
        // It fails only when the runner is gone, and then nothing matters any more.
        let _ = self.events.send(events);
    }

    /// Says that the server is there, and whether it is not any more.
    pub fn set_connected(&self, connected: bool) {
        self.set_state(connected, None);
    }

    /// Says what keeps a part of the source from its work, while the rest goes on.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.set_state(false, Some(trouble));
    }

    fn set_state(&self, connected: bool, trouble: Option<Trouble>) {
        self.set(|progress| {
            let is_new = (progress.connected, &progress.trouble) != (connected, &trouble);
            (progress.connected, progress.trouble) = (connected, trouble);
            is_new
        });
    }

    /// Tells how much the server has.
    pub fn set_lag(&self, lag: u64) {
        self.set(|progress| progress.lag.replace(lag) != Some(lag));
    }

    /// Tells how far the source is.
    pub fn set_checkpoint(&self, checkpoint: String) {
        self.set(|progress| {
            let is_new = progress.checkpoint.as_ref() != Some(&checkpoint);
            progress.checkpoint = Some(checkpoint);
            is_new
        });
    }

    fn set(&self, change: impl FnOnce(&mut Progress) -> bool) {
        self.progress.send_if_modified(change);
    }
}

/// What an event is counted for: its data, and something for the rest.
pub(crate) fn size(event: &CloudEvent) -> usize {
    const REST: usize = 512;
    let data = match &event.data {
        Data::Bytes { bytes, .. } => bytes.len(),
        Data::Json(value) => weigh(value),
    };
    data.saturating_add(REST)
}

/// About as many bytes as the document takes in memory.
fn weigh(value: &serde_json::Value) -> usize {
    const NODE: usize = 32;
    NODE + match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(weigh).sum(),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + weigh(value)).sum()
        }
        _ => 0,
    }
}

pub(crate) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
