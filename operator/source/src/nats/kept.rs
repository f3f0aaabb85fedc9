//! Reads and removes the dead letters of one Trigger that a stream keeps. Others may keep theirs in
//! the same stream, under the same subject: those are not seen.

use async_nats::HeaderValue;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    DeleteMessageErrorKind, RawMessageError, RawMessageErrorKind, Stream,
};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use jiff::Timestamp;
use rouse_core::letter::{Letter, Letters};

use super::connection::{Connection, Connections};
use super::letters::{LettersTo, TRIGGER};
use crate::failure::Failure;

/// Messages of the stream that one question looks at, most of which may be other Triggers'.
const LOOKED_AT: usize = 10_000;

/// The dead letters of a Trigger.
pub(crate) struct Kept<'a> {
    to: &'a LettersTo,
    connection: Connection,
    stream: Stream<()>,
}

impl<'a> Kept<'a> {
    /// The letters that are stored as `to` says.
    pub async fn open(to: &'a LettersTo, connections: &Connections) -> Result<Self, Failure> {
        let connection = connections.open(&to.server).await?;
        let context = jetstream::new(connection.client.clone());
        let stream = context.get_stream_no_info(&to.stream).await;
        let stream = stream.map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(Self { to, connection, stream })
    }

    /// What the first letters, `limit` at most, from the number `from` on are.
    pub async fn list(&mut self, from: u64, limit: usize) -> Result<Letters, Failure> {
        let (to, stream) = (self.to, &self.stream);
        let look = async {
            let mut found = Letters { letters: Vec::new(), next: Some(from.max(1)) };
            for _ in 0..LOOKED_AT {
                let Some(next) = found.next.filter(|_| found.letters.len() < limit) else { break };
                let message = stream.get_first_raw_message_by_subject(&to.subject, next).await;
                let Some(message) = there(message, to)? else {
                    found.next = None;
                    break;
                };
                found.next = Some(message.sequence.saturating_add(1));
                if is_of(&message, to) {
                    found.letters.push(letter_of(&message, to));
                }
            }
            Ok(found)
        };
        unless_broken(&mut self.connection, to, look).await
    }

    /// The document of the letter of this number; none where there is no such letter.
    pub async fn get(&mut self, number: u64) -> Result<Option<Bytes>, Failure> {
        let (to, stream) = (self.to, &self.stream);
        let look = async {
            let message = there(stream.get_raw_message(number).await, to)?;
            Ok(message.filter(|message| is_of(message, to)).map(|message| message.payload))
        };
        unless_broken(&mut self.connection, to, look).await
    }

    /// Removes the letter of this number, which was looked at before.
    pub async fn remove(&mut self, number: u64) -> Result<(), Failure> {
        const DOING: &str = "removing a dead letter";
        let (to, stream) = (self.to, &self.stream);
        let remove = async {
            match stream.delete_message(number).await {
                Ok(_) => Ok(()),
                Err(error) => match error.kind() {
                    DeleteMessageErrorKind::JetStream(said)
                        if said.error_code() == ErrorCode::SEQUENCE_NOT_FOUND =>
                    {
                        Ok(())
                    }
                    // A stream may be made so that nothing is ever removed.
                    DeleteMessageErrorKind::JetStream(said) if said.code() < 500 => {
                        Err(Failure::Invalid(format!("{DOING} from {}: {said}", to.stream)))
                    }
                    _ => Err(Failure::away(DOING, error)),
                },
            }
        };
        unless_broken(&mut self.connection, to, remove).await
    }
}

/// What `work` brings, unless the connection breaks or what is needed is denied, which the server
/// tells beside.
async fn unless_broken<T>(
    connection: &mut Connection,
    to: &LettersTo,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let needs = |subject: &str| subject.split('.').any(|name| name == to.stream);
    tokio::select! {
        biased;
        failure = connection.breaks(needs) => Err(failure),
        outcome = work => outcome,
    }
}

fn there(
    message: Result<StreamMessage, RawMessageError>,
    to: &LettersTo,
) -> Result<Option<StreamMessage>, Failure> {
    const DOING: &str = "reading dead letters";
    let error = match message {
        Ok(message) => return Ok(Some(message)),
        Err(error) => error,
    };
    match error.kind() {
        RawMessageErrorKind::NoMessageFound => Ok(None),
        RawMessageErrorKind::JetStream(said)
            if said.error_code() == ErrorCode::STREAM_NOT_FOUND =>
        {
            Err(Failure::Missing { what: "stream of NATS", name: to.stream.clone() })
        }
        _ => Err(Failure::away(DOING, error)),
    }
}

fn is_of(message: &StreamMessage, to: &LettersTo) -> bool {
    let trigger = message.headers.get(TRIGGER).map(HeaderValue::as_str);
    message.subject.as_str() == to.subject && trigger == Some(to.trigger.as_str())
}

fn letter_of(message: &StreamMessage, to: &LettersTo) -> Letter {
    let stored = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
    let name = to.trigger.rsplit('/').next().unwrap_or_default();
    let stored = stored.unwrap_or(Timestamp::UNIX_EPOCH);
    Letter::of(message.sequence, name, stored, &message.payload)
}
