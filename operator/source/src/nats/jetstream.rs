//! Brings the messages of a stream by a durable consumer: asks for as many as there is room for,
//! lets the server hold the question while there are none, and answers for each message.

mod consumer;

use std::time::Duration;

use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::consumer::{Info, PullConsumer};
use async_nats::jetstream::{AckKind, Context, Message as Handed};
use async_nats::{Client, Message, Subject, Subscriber};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::Token;
use super::event::{Origin, event_of};
use super::settings::Stream;
use crate::failure::Failure;
use crate::link::{Link, Next, Order, count};
use crate::source::Brought;

/// How long the server holds a question.
const EXPIRES: Duration = Duration::from_mins(1);
/// How often it says meanwhile that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long nothing may come while a question is open.
const SILENCE: Duration = Duration::from_secs(35);
/// How often the consumer is asked how it is doing, while something happens.
const LOOK: Duration = Duration::from_secs(10);
/// Messages that one question asks for at most.
const MOST: usize = 1000;
/// Messages that are handed over at once.
const TAKEN: usize = 256;

/// Lives as long as the connection.
pub(super) async fn run(
    client: &Client,
    stream: &Stream,
    was_there: &mut bool,
    link: &mut Link<Token>,
) -> Result<(), Failure> {
    let context = async_nats::jetstream::new(client.clone());
    let consumer = consumer::fetch(&context, stream, was_there).await?;
    let inbox = client.new_inbox();
    let answers = client.subscribe(inbox.clone()).await;
    let answers = answers.map_err(|error| Failure::away("subscribing to NATS", error))?;
    link.set_connected(true);
    let mut reader = Reader {
        client,
        source: format!("/nats/{}", stream.name),
        pending: consumer.cached_info().num_pending,
        consumer,
        context,
        inbox: inbox.into(),
        asked: 0,
        alone: false,
        held: 0,
        heard: Instant::now(),
        is_busy: true,
    };
    reader.read(answers, link).await
}

/// A consumer that is read.
struct Reader<'a> {
    client: &'a Client,
    source: String,
    consumer: PullConsumer,
    context: Context,
    /// Where the server sends to.
    inbox: Subject,
    /// Messages that are asked for and not here yet.
    asked: usize,
    /// Whether the next message is too large for the bytes that are left, so that it comes alone.
    alone: bool,
    /// Messages that were handed out and not acknowledged.
    held: u64,
    /// Those that the server has beside.
    pending: u64,
    heard: Instant,
    /// Whether anything happened since the consumer was looked at.
    is_busy: bool,
}

impl Reader<'_> {
    async fn read(
        &mut self,
        mut answers: Subscriber,
        link: &mut Link<Token>,
    ) -> Result<(), Failure> {
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.ask(link).await?;
            link.set_lag(self.pending + self.held);
            let silent_at = self.heard + SILENCE;
            tokio::select! {
                biased;
                next = link.next() => match next {
                    Next::Order(order) => self.carry_out(order).await?,
                    Next::Room => {}
                    Next::End => {
                        let flushed = self.client.flush().await;
                        return flushed.map_err(|error| Failure::away("telling NATS", error));
                    }
                },
                answer = answers.next() => {
                    let Some(answer) = answer else {
                        return Err(Failure::away("reading from NATS", "the subscription ended"));
                    };
                    self.take(answer, &mut answers, link)?;
                }
                _ = looks.tick(), if self.is_busy => self.look(link).await?,
                () = sleep_until(silent_at), if self.asked > 0 => {
                    return Err(Failure::away("reading from NATS", "the server fell silent"));
                }
            }
        }
    }

    /// Asks for as many messages as there is room for beside those that are asked for. Not for every
    /// single one, or each message would cost a question.
    async fn ask(&mut self, link: &Link<Token>) -> Result<(), Failure> {
        let room = link.room();
        let free = room.events.saturating_sub(self.asked);
        if room.is_none() || free == 0 || free < room.events / 4 || self.alone && self.asked > 0 {
            return Ok(());
        }
        // A question that is open already may fill the room for bytes: the runner keeps it so large
        // that this is harmless.
        let (batch, max_bytes) =
            if self.alone { (1, 0) } else { (free.min(MOST), room.bytes.min(i32::MAX as usize)) };
        if self.asked == 0 {
            self.heard = Instant::now();
        }
        let (expires, idle_heartbeat) = (Some(EXPIRES), HEARTBEAT);
        let question =
            BatchConfig { batch, max_bytes, expires, idle_heartbeat, ..BatchConfig::default() };
        let sent = self.consumer.request_batch(question, self.inbox.clone()).await;
        sent.map_err(|error| Failure::away("asking for messages", error))?;
        (self.asked, self.alone) = (self.asked + batch, false);
        Ok(())
    }

    /// Takes in `first` and what came with it.
    fn take(
        &mut self,
        first: Message,
        answers: &mut Subscriber,
        link: &mut Link<Token>,
    ) -> Result<(), Failure> {
        self.heard = Instant::now();
        let mut brought = Vec::new();
        let mut next = Some(first);
        let mut outcome = Ok(());
        while let Some(answer) = next {
            match answer.status.map(|status| status.as_u16()) {
                None | Some(200) => brought.extend(self.bring(answer)),
                Some(status) => outcome = self.note(status, &answer),
            }
            if outcome.is_err() || brought.len() >= TAKEN {
                break;
            }
            next = answers.next().now_or_never().flatten();
        }
        if !brought.is_empty() {
            link.bring(brought);
        }
        outcome
    }

    fn bring(&mut self, message: Message) -> Option<Brought<Token>> {
        let handed = Handed { message, context: self.context.clone() };
        let (id, time, pending) = match handed.info() {
            Ok(info) => {
                let nanos = info.published.unix_timestamp_nanos();
                let time = Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::UNIX_EPOCH);
                (format!("{}:{}", info.stream, info.stream_sequence), time, info.pending)
            }
            Err(error) => {
                tracing::warn!(error, "a message on the way from a stream that is not of it");
                return None;
            }
        };
        self.asked = self.asked.saturating_sub(1);
        (self.held, self.pending, self.is_busy) = (self.held + 1, pending, true);
        let source = self.source.clone();
        let event = event_of(&handed.message, Origin { id, source, time });
        Some(Brought { key: None, event, token: Token(handed.message.reply) })
    }

    /// Takes in what the server says of a question.
    fn note(&mut self, status: u16, answer: &Message) -> Result<(), Failure> {
        const IDLE: u16 = 100;
        if status == IDLE {
            self.pending = if self.asked > 0 { 0 } else { self.pending };
            return Ok(());
        }
        let said = answer.description.as_deref().unwrap_or("it gave no reason");
        let lower = said.to_ascii_lowercase();
        if lower.contains("consumer deleted") {
            return Err(Failure::away("reading from NATS", "the consumer was deleted"));
        }
        let headers = answer.headers.as_ref();
        let left = headers.and_then(|headers| headers.get("Nats-Pending-Messages"));
        let left: Option<usize> = left.and_then(|left| left.as_str().parse().ok());
        let Some(left) = left else {
            return Err(Failure::away("asking for messages", format!("{status}: {said}")));
        };
        self.asked = self.asked.saturating_sub(left);
        self.alone |= lower.contains("exceeds maxbytes");
        Ok(())
    }

    async fn carry_out(&mut self, order: Order<Token>) -> Result<(), Failure> {
        let (batch, kind) = match order {
            Order::Acknowledge(batch) => (batch, AckKind::Ack),
            Order::Extend(batch) => (batch, AckKind::Progress),
            // Nothing is ever terminated: only the Function, or a dead letter, ends a message.
            Order::Release(batch) => (batch, AckKind::Nak(None)),
        };
        let is_last = !matches!(kind, AckKind::Progress);
        let payload: bytes::Bytes = kind.into();
        for Token(reply) in batch.tokens() {
            let Some(reply) = reply else { continue };
            let sent = self.client.publish(reply.clone(), payload.clone()).await;
            sent.map_err(|error| Failure::away("answering for messages", error))?;
            self.held = self.held.saturating_sub(u64::from(is_last));
        }
        self.is_busy = true;
        Ok(())
    }

    /// Looks how the consumer is doing.
    async fn look(&mut self, link: &Link<Token>) -> Result<(), Failure> {
        let info = self.consumer.get_info().await;
        let info = info.map_err(|error| Failure::away("looking at the consumer", error))?;
        let Info { num_pending, num_ack_pending, ack_floor, .. } = info;
        (self.pending, self.held) = (num_pending, count(num_ack_pending));
        // Without room nothing comes that would tell of more.
        self.is_busy = self.held > 0 || link.room().is_none();
        link.set_checkpoint(ack_floor.stream_sequence.to_string());
        Ok(())
    }
}
