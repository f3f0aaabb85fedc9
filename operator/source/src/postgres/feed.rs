//! Reads the changes of a slot while the Function has room for them, and tells the server what is
//! done. What there is no room for stays in the server.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, CopyData};
use rouse_core::postgres::{
    Change, Frame, Ledger, Lsn, Malformed, Place, Reader, Report, Selection, Told,
};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::look::{Seen, look};
use super::refusal::{Refusal, code};
use super::setup::{Stretch, lost};
use super::wire::{Heard, PATIENCE, Wire};
use super::{Access, Known, checkpoint};
use crate::failure::Failure;
use crate::link::{Link, Next, Order, size};
use crate::source::Brought;

/// How often the server hears how far the reader is, and says that it is there.
const REPORT: Duration = Duration::from_secs(10);
/// How soon it hears that something is done.
const SOON: Duration = Duration::from_millis(100);
/// How long the server may say nothing while it is listened to.
const SILENCE: Duration = Duration::from_secs(35);
/// How often the slot is looked at from beside, while the Function is behind all that time.
const LOOK: Duration = Duration::from_secs(10);
/// Reports that the server may want within [`REPORT`]. A server that shuts down wants one after the
/// other until all that it told is done, and would never end where a Function fails.
const MOST_WANTED: u32 = 100;
const DOING: &str = "reading changes";

/// Lives as long as the connection.
pub(super) async fn run(
    mut wire: Wire,
    access: &Arc<Access>,
    known: &mut Known,
    Stretch { start, end }: Stretch,
    link: &mut Link<Place>,
) -> Result<(), Failure> {
    begin(&mut wire, access, start).await?;
    link.set_connected(true);
    let mut ledger = Ledger::new(start);
    if let Some(done) = known.done {
        ledger.finish(done);
    }
    let now = Instant::now();
    let mut feed = Feed {
        wire,
        access,
        known,
        reader: Reader::new(Selection::of_trigger(&access.settings.trigger)),
        ledger,
        queue: VecDeque::new(),
        is_alone: false,
        received: start,
        end,
        reported: start,
        reported_at: now,
        report_at: now,
        wanted: 0,
        heard: now,
        looks: JoinSet::new(),
        look_at: now + LOOK,
        is_endangered: false,
    };
    feed.read(link).await?;
    feed.report(link).await?;
    feed.wire.close().await;
    Ok(())
}

async fn begin(wire: &mut Wire, access: &Access, start: Lsn) -> Result<(), Failure> {
    let trigger = &access.settings.trigger;
    let publications = escape_literal(&escape_identifier(&trigger.publication));
    let sql = format!(
        "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '1', publication_names {})",
        escape_identifier(&trigger.slot),
        publications.trim_start(),
    );
    wire.send(|buffer| frontend::query(&sql, buffer)).await?;
    let begun = async {
        loop {
            match wire.next().await? {
                Heard::Both => return Ok(()),
                Heard::Message(Message::ErrorResponse(body)) => {
                    return Err(failure_of(Refusal::of(&body), &trigger.slot));
                }
                Heard::Message(_) => {}
            }
        }
    };
    let begun = timeout(PATIENCE, begun).await;
    begun.unwrap_or_else(|_| Err(Failure::away(DOING, "the server does not begin")))
}

fn failure_of(refusal: Refusal, slot: &str) -> Failure {
    match refusal.code.as_str() {
        code::OBJECT_IN_USE => Failure::InUse(format!(
            "{refusal}: no two Triggers, and nobody else, may read the same slot; one that lost its \
             reader is free after wal_sender_timeout at most"
        )),
        code::NO_FILE => lost(slot, &refusal.to_string()),
        // The server looks it up as it was when the change was made.
        code::UNDEFINED_OBJECT => Failure::Lost(format!(
            "{refusal} at the time of these changes, which can't be told therefore: look after them \
             yourself, then go on from now with SELECT pg_replication_slot_advance('{slot}', \
             pg_current_wal_lsn())"
        )),
        _ => refusal.failure(DOING),
    }
}

/// A slot that is read.
struct Feed<'a> {
    wire: Wire,
    access: &'a Arc<Access>,
    known: &'a mut Known,
    reader: Reader,
    ledger: Ledger,
    /// Changes that were read and not brought: those of one message.
    queue: VecDeque<Change>,
    /// Whether what was brought last stands alone.
    is_alone: bool,
    /// Up to here the log was read.
    received: Lsn,
    /// Up to here there is a log.
    end: Lsn,
    /// What the server was told last, and when.
    reported: Lsn,
    reported_at: Instant,
    /// When it shall hear again.
    report_at: Instant,
    /// Reports that it wanted since anything was done.
    wanted: u32,
    heard: Instant,
    /// Looks from beside, one at most; when the next one is due.
    looks: JoinSet<Result<Option<Seen>, Failure>>,
    look_at: Instant,
    is_endangered: bool,
}

impl Feed<'_> {
    /// Ends when nothing more shall come.
    async fn read(&mut self, link: &mut Link<Place>) -> Result<(), Failure> {
        loop {
            self.bring(link)?;
            let listens = !link.room().is_none() && !self.is_held();
            if !listens {
                self.heard = Instant::now();
            }
            if listens && self.ledger.is_settled() {
                self.look_at = Instant::now() + LOOK;
            }
            tokio::select! {
                biased;
                next = link.next() => match next {
                    Next::Order(Order::Acknowledge(batch)) => {
                        self.finish(batch.tokens().next_back().copied());
                    }
                    // The slot waits as long as the connection lasts.
                    Next::Order(Order::Extend(_) | Order::Release(_)) | Next::Room => {}
                    Next::End => return Ok(()),
                },
                () = sleep_until(self.report_at) => self.report(link).await?,
                Some(seen) = self.looks.join_next(), if !self.looks.is_empty() => self.note(seen)?,
                () = sleep_until(self.look_at), if self.looks.is_empty() => {
                    self.look_at = Instant::now() + LOOK;
                    let access = self.access.clone();
                    self.looks.spawn(async move { look(&access).await });
                }
                filled = self.wire.fill(), if listens => {
                    filled?;
                    self.heard = Instant::now();
                }
                () = sleep_until(self.heard + SILENCE), if listens => {
                    return Err(Failure::away(DOING, "the server fell silent"));
                }
            }
        }
    }

    /// Brings what there is room for, of what is here.
    fn bring(&mut self, link: &mut Link<Place>) -> Result<(), Failure> {
        let mut room = link.room();
        let mut brought = Vec::new();
        let mut outcome = Ok(());
        while !room.is_none() {
            match self.next() {
                Ok(Some(change)) => {
                    let event = self.event(change);
                    room.events -= 1;
                    room.bytes = room.bytes.saturating_sub(size(&event.event));
                    brought.push(event);
                }
                Ok(None) => break,
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
        }
        if !brought.is_empty() {
            link.bring(brought);
        }
        outcome
    }

    fn event(&mut self, change: Change) -> Brought<Place> {
        let place = change.place;
        self.ledger.tell(place);
        let key = change.order_key().into();
        let settings = &self.access.settings;
        let event = change.into_event(settings.source.clone(), &settings.trigger.slot);
        Brought { key: Some(key), event, token: place }
    }

    /// The next change that may be brought now.
    fn next(&mut self) -> Result<Option<Change>, Failure> {
        loop {
            if self.is_held() {
                return Ok(None);
            }
            if let Some(change) = self.queue.pop_front() {
                self.is_alone = change.stands_alone;
                return Ok(Some(change));
            }
            let Some(heard) = self.wire.take()? else { return Ok(None) };
            self.hear(heard)?;
        }
    }

    /// Whether all that was brought must be done first: what stands alone has all others before or
    /// behind it, or the order of a row would be lost where its key changes.
    fn is_held(&self) -> bool {
        let comes_alone = self.queue.front().is_some_and(|change| change.stands_alone);
        (self.is_alone || comes_alone) && !self.ledger.is_settled()
    }

    fn hear(&mut self, heard: Heard) -> Result<(), Failure> {
        let body = match heard {
            Heard::Message(Message::CopyData(body)) => body,
            Heard::Message(Message::ErrorResponse(body)) => {
                return Err(failure_of(Refusal::of(&body), &self.access.settings.trigger.slot));
            }
            Heard::Message(Message::CopyDone) => {
                return Err(Failure::away(DOING, "the server is shutting down"));
            }
            Heard::Message(_) | Heard::Both => return Ok(()),
        };
        match Frame::parse(body.data()).map_err(|error| unreadable(&error))? {
            Frame::Message { at, bytes } => {
                self.received = self.received.max(at);
                match self.reader.read(bytes).map_err(|error| unreadable(&error))? {
                    Told::Nothing => {}
                    // What is done already comes again where a transaction is not done as a whole.
                    Told::Changes(changes) => self.queue.extend(
                        changes.into_iter().filter(|change| Some(change.place) > self.known.done),
                    ),
                    Told::Committed(end) => self.ledger.commit(end),
                }
            }
            Frame::Alive { end, wants_report } => {
                (self.received, self.end) = (self.received.max(end), self.end.max(end));
                self.ledger.reach(&self.reader, end);
                if wants_report {
                    self.wanted += 1;
                    self.report_at = Instant::now();
                }
                if self.wanted > MOST_WANTED {
                    return Err(Failure::away(DOING, "the server is shutting down"));
                }
            }
        }
        self.known.confirmed = self.ledger.confirmed();
        Ok(())
    }

    /// The Function is done with all changes up to `place`.
    fn finish(&mut self, place: Option<Place>) {
        let Some(place) = place else { return };
        self.known.done = self.known.done.max(Some(place));
        self.ledger.finish(place);
        self.known.confirmed = self.ledger.confirmed();
        if self.ledger.confirmed() > self.reported {
            self.wanted = 0;
            self.report_at = self.report_at.min(self.reported_at + SOON);
        }
    }

    /// Tells the server how far the Function is, and everybody else too.
    async fn report(&mut self, link: &Link<Place>) -> Result<(), Failure> {
        let confirmed = self.ledger.confirmed();
        let report = Report { received: self.received, confirmed, at: Timestamp::now() };
        let bytes = report.to_bytes();
        let put = |buffer: &mut bytes::BytesMut| {
            CopyData::new(&bytes[..]).map(|message| message.write(buffer))
        };
        self.wire.send(put).await?;
        let now = Instant::now();
        if now >= self.reported_at + REPORT {
            self.wanted = 0;
        }
        (self.reported, self.reported_at, self.report_at) = (confirmed, now, now + REPORT);
        link.set_checkpoint(checkpoint(&self.access.settings.trigger.slot, confirmed));
        link.set_lag(self.end.max(self.received).0.saturating_sub(confirmed.0));
        Ok(())
    }

    /// Takes in what was seen from beside. A server that can't be reached is none to wait for.
    fn note(
        &mut self,
        seen: Result<Result<Option<Seen>, Failure>, JoinError>,
    ) -> Result<(), Failure> {
        // Nothing there panics, and what is stopped is not awaited.
        let Ok(seen) = seen else { return Ok(()) };
        let Some(Seen { end, is_endangered }) = seen? else { return Ok(()) };
        self.end = self.end.max(end);
        self.report_at = Instant::now();
        if is_endangered && !self.is_endangered {
            let slot = &self.access.settings.trigger.slot;
            tracing::warn!(slot, "a slot will soon lose what it keeps: max_slot_wal_keep_size");
        }
        self.is_endangered = is_endangered;
        Ok(())
    }
}

fn unreadable(error: &Malformed) -> Failure {
    Failure::Invalid(format!("{error}: nothing is skipped, so please report this"))
}
