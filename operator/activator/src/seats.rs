//! The connections of a port: never more than it may have, and none that stands still for long.
//!
//! Each connection has a [`Seat`], which its own task keeps up to date with a few plain stores per
//! request. Whoever has to go is found by looking at all seats: once a second those whose time is
//! over, and when the port is full those whose time is over soonest. A connection that serves a
//! request is never one of them. Nothing here reads, writes or closes a connection: a seat tells
//! its connection to leave.

mod io;
mod leave;
mod rest;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Response, StatusCode};
use prometheus_client::encoding::EncodeLabelValue;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

pub(crate) use io::Seated;
pub(crate) use leave::{Leave, Order};
use rest::Rest;

use crate::body::ResponseBody;
use crate::request_metrics::RequestMetrics;

/// How often those are looked for whose time is over.
const SWEEP: Duration = Duration::from_secs(1);

/// Seconds that a connection may take for the head of a request, from its first byte, and a new one
/// to say anything at all.
const HEAD: u32 = 30;

/// Seconds that a connection may stand idle after a request. Longer than the idle connections of
/// common clients live (90 s), so that it is they who close.
const IDLE: u32 = 120;

/// Seconds for which a client may take nothing of what is sent to it.
const STALL: u32 = 60;

/// A full port lets go of one in so many connections at once, since finding them takes a look at
/// all.
const SHARE: usize = 128;

/// Requests of a connection, less those that had an answer, that its client may give up before it is
/// told to go. One that listens gives up no more after that than may be open at once.
const MOST_GIVEN_UP: u32 = 200;

/// Requests that a connection of HTTP/2 may have at once.
pub(crate) const MOST_STREAMS: u32 = 256;

/// No time: a connection that serves a request may take as long as the request.
const NEVER: u32 = u32::MAX;

/// Why a connection has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
#[repr(u8)]
pub(crate) enum Farewell {
    /// It stood idle, or took too long for the head of a request.
    idle = 1,
    /// The port is full, and its time was over soonest.
    evicted,
    /// Its client takes nothing of what is sent to it.
    stalled,
    /// Its client gives up one request after the other.
    abusive,
    /// The port is full of connections that serve requests; it was not let in.
    refused,
}

impl Farewell {
    const fn of(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::idle),
            2 => Some(Self::evicted),
            3 => Some(Self::stalled),
            4 => Some(Self::abusive),
            _ => None,
        }
    }
}

/// The seats of one port.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    clock: Clock,
    taken: Mutex<Slab<Arc<Seat>>>,
    metrics: Arc<RequestMetrics>,
}

/// Seconds since the port was opened, put forward with each look at the seats: nobody asks the
/// system for the time.
#[derive(Debug, Default)]
struct Clock(AtomicU32);

impl Clock {
    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn after(&self, seconds: u32) -> u32 {
        self.now().saturating_add(seconds)
    }
}

impl Seats {
    /// Seats for `most` connections.
    pub(crate) fn new(most: usize, metrics: Arc<RequestMetrics>) -> Self {
        // The first second is 1: 0 stands for never.
        let clock = Clock(AtomicU32::new(1));
        Self(Arc::new(Inner { most, clock, taken: Mutex::default(), metrics }))
    }

    /// A seat for a new connection. None where every seat is taken by one that serves a request.
    pub(crate) fn take(&self) -> Option<Occupied> {
        let mut taken = self.lock();
        if taken.len() >= self.0.most && !self.evict(&mut taken) {
            self.0.metrics.note_farewell(Farewell::refused);
            return None;
        }
        let seat = Arc::new(Seat::new(&self.0));
        let key = taken.insert(Arc::clone(&seat));
        Some(Occupied { seat, key, seats: self.clone() })
    }

    /// Puts the clock forward and looks for those whose time is over, for ever.
    pub(crate) async fn watch(self) {
        let opened = Instant::now();
        loop {
            sleep(SWEEP).await;
            let second = u32::try_from(opened.elapsed().as_secs()).unwrap_or(NEVER - 1);
            self.0.clock.0.store(second.saturating_add(1), Ordering::Relaxed);
            self.sweep();
        }
    }

    fn sweep(&self) {
        let now = self.0.clock.now();
        for (_, seat) in &*self.lock() {
            seat.check(now);
        }
    }

    /// Lets those go whose time is over soonest; answers whether there were any.
    fn evict(&self, taken: &mut Slab<Arc<Seat>>) -> bool {
        let due = |seat: &Seat| seat.due.load(Ordering::Relaxed);
        let mut idle: Vec<(u32, usize)> = taken
            .iter()
            .map(|(key, seat)| (due(seat), key))
            .filter(|(at, _)| *at < NEVER)
            .collect();
        let share = (self.0.most / SHARE).clamp(1, idle.len().max(1));
        if idle.len() > share {
            idle.select_nth_unstable(share - 1);
            idle.truncate(share);
        }
        for (_, key) in &idle {
            if let Some(seat) = taken.try_remove(*key) {
                seat.dismiss(Farewell::evicted);
            }
        }
        !idle.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Seat>>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, as the port sees it.
#[derive(Debug)]
pub(crate) struct Seat {
    port: Arc<Inner>,
    /// Requests that it serves.
    busy: AtomicU32,
    /// The second in which its time is over.
    due: AtomicU32,
    /// The second since which its client takes nothing; 0 while it does.
    blocked: AtomicU32,
    /// Bytes that were read since the connection last served no request.
    read: AtomicU32,
    /// Requests that were given up, less those that were not.
    given_up: AtomicU32,
    /// Whether bytes that come in may be something else than the head of a request.
    http2: AtomicBool,
    rest: Rest,
    /// Why it has to go.
    farewell: AtomicU8,
    /// Whether it may not finish what it began.
    cut: AtomicBool,
    told: Notify,
}

impl Seat {
    fn new(port: &Arc<Inner>) -> Self {
        let due = AtomicU32::new(port.clock.after(HEAD));
        Self {
            port: Arc::clone(port),
            busy: AtomicU32::new(0),
            due,
            blocked: AtomicU32::new(0),
            read: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            http2: AtomicBool::new(false),
            rest: Rest::new(),
            farewell: AtomicU8::new(0),
            cut: AtomicBool::new(false),
            told: Notify::new(),
        }
    }

    /// Counts a request for as long as the answer lives.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.due.store(NEVER, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Requests that the connection serves.
    pub(crate) fn requests(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Bytes that were read since the connection last served no request: of a request that has
    /// just come its head, and what was read with it.
    pub(crate) fn read_since_idle(&self) -> u32 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Says that the connection speaks HTTP/2: it may stand idle without a request as others may
    /// after one.
    pub(crate) fn speaks_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
        if !self.is_busy() {
            self.due.store(self.port.clock.after(IDLE), Ordering::Relaxed);
        }
    }

    /// A request has come; `rests` says whether the connection may rest after it: it will go on, and
    /// nothing that follows the request's head belongs to it.
    pub(crate) fn let_rest(&self, rests: bool) {
        if rests {
            self.rest.allow(self.port.clock.now());
        } else {
            self.rest.forbid();
        }
    }

    /// Whether the connection is between two requests, all was written, and it is time to rest.
    pub(crate) fn is_to_rest(&self) -> bool {
        self.rest.is_due(self.port.clock.now()) && self.is_between()
    }

    fn is_between(&self) -> bool {
        let nothing = |count: &AtomicU32| count.load(Ordering::Relaxed) == 0;
        nothing(&self.busy) && nothing(&self.read) && nothing(&self.blocked)
    }

    /// A request had its answer.
    pub(crate) fn note_answered(&self) {
        let given_up = self.given_up.load(Ordering::Relaxed);
        if given_up > 0 {
            self.given_up.store(given_up - 1, Ordering::Relaxed);
        }
    }

    /// A client gave up a request before it had an answer. One that does little else has to go.
    pub(crate) fn note_given_up(&self) {
        match self.given_up.fetch_add(1, Ordering::Relaxed) {
            MOST_GIVEN_UP => self.dismiss(Farewell::abusive),
            given_up if given_up == MOST_GIVEN_UP + MOST_STREAMS => self.cut(Farewell::abusive),
            _ => {}
        }
    }

    fn farewell(&self) -> Option<Farewell> {
        Farewell::of(self.farewell.load(Ordering::Relaxed))
    }

    /// Whether a connection that has to go may not finish what it began, or has nothing to finish.
    fn goes_at_once(&self) -> bool {
        // HTTP/2 can say that it goes, so that nothing is lost that is on its way.
        let polite = self.is_http2() && self.farewell() != Some(Farewell::evicted);
        self.is_cut() || !(self.is_busy() || polite)
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Tells the connection to take no more requests and to end with the last of them.
    fn dismiss(&self, why: Farewell) {
        if self.farewell().is_none() {
            self.farewell.store(why as u8, Ordering::Relaxed);
            self.told.notify_one();
            self.port.metrics.note_farewell(why);
        }
    }

    /// Tells the connection to end.
    fn cut(&self, why: Farewell) {
        if !self.cut.swap(true, Ordering::Relaxed) {
            self.dismiss(why);
            self.told.notify_one();
        }
    }

    fn check(&self, now: u32) {
        let blocked = self.blocked.load(Ordering::Relaxed);
        if blocked > 0 && now >= blocked.saturating_add(STALL) {
            self.cut(Farewell::stalled);
        } else if self.due.load(Ordering::Relaxed) <= now {
            self.dismiss(Farewell::idle);
        } else if self.rest.has_come(now) && self.is_between() {
            // Its task looks whether it is to rest whenever it runs.
            self.told.notify_one();
        }
    }

    pub(crate) fn note_read(&self, bytes: usize) {
        // One task reads a connection.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.read.store(self.read_since_idle().saturating_add(bytes), Ordering::Relaxed);
        if !self.is_busy() && !self.is_http2() {
            let due = self.port.clock.after(HEAD);
            // What comes in later belongs to the same head and gets no more time.
            if due < self.due.load(Ordering::Relaxed) {
                self.due.store(due, Ordering::Relaxed);
            }
        }
    }

    fn note_written(&self, blocked: bool) {
        let since = self.blocked.load(Ordering::Relaxed);
        if blocked && since == 0 {
            self.blocked.store(self.port.clock.now(), Ordering::Relaxed);
        } else if !blocked && since != 0 {
            self.blocked.store(0, Ordering::Relaxed);
        }
    }
}

/// A request that a connection serves.
#[derive(Debug)]
pub(crate) struct Active(Arc<Seat>);

impl Active {
    /// Lets the connection be busy until the answer has ended, and for good where it speaks another
    /// protocol from then on.
    pub(crate) fn until_end_of(self, answer: Response<ResponseBody>) -> Response<ResponseBody> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.0.busy.fetch_add(1, Ordering::Relaxed);
            return answer;
        }
        answer.map(|body| body.on(self))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let seat = &self.0;
        if seat.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            let now = seat.port.clock.now();
            seat.due.store(now.saturating_add(IDLE), Ordering::Relaxed);
            seat.read.store(0, Ordering::Relaxed);
            seat.rest.note_end(now);
        }
    }
}

/// A seat that is taken for as long as this lives.
#[derive(Debug)]
pub(crate) struct Occupied {
    seat: Arc<Seat>,
    key: usize,
    seats: Seats,
}

impl Occupied {
    pub(crate) const fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        // Another has the place by now if this one was evicted.
        if taken.get(self.key).is_some_and(|seat| Arc::ptr_eq(seat, &self.seat)) {
            taken.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests;
