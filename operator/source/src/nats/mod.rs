//! Messages of NATS: of a stream of `JetStream`, at least once, or of a subject that nothing keeps.
//!
//! A stream hands its messages out by a durable consumer, which keeps what is acknowledged. What is
//! published to a subject while nobody listens, or while a member of the queue group has no room,
//! is lost, as always in NATS; what was taken is delivered from memory, and lost with the process.

mod connection;
mod event;
mod jetstream;
mod letters;
mod settings;
mod subject;
#[cfg(test)]
mod tests;

use async_nats::Subject;
use rouse_core::delivery::Acks;
use rouse_core::event::{CloudEvent, Invalid, Message, to_sqs};

use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::link::Link;
use crate::source::{Source, Terms};

pub use letters::{Letters, LettersTo};
pub use settings::{Login, Messages, Server, Settings, Start, Stream};

/// Brings the messages of NATS.
pub struct Nats {
    settings: Settings,
    secrets: Secrets,
    /// Whether the stream's consumer was there: one that vanishes takes what is known with it.
    was_there: bool,
}

/// What acknowledging a message takes: the subject to reply to; none where nobody waits for it.
#[derive(Debug)]
pub struct Token(Option<Subject>);

impl Nats {
    /// A source that reads its Secrets from `secrets`.
    pub const fn new(settings: Settings, secrets: Secrets) -> Self {
        Self { settings, secrets, was_there: false }
    }
}

impl Source for Nats {
    type Token = Token;

    fn terms(&self) -> Terms {
        let patience = match &self.settings.messages {
            Messages::Stream(stream) => Some(stream.ack_wait),
            Messages::Subject { .. } => None,
        };
        Terms { acks: Acks::Each, patience }
    }

    async fn run(&mut self, link: &mut Link<Token>) -> Result<(), Failure> {
        let mut connection = connection::open(&self.settings.server, &self.secrets).await?;
        let work = async {
            match &self.settings.messages {
                Messages::Stream(stream) => {
                    jetstream::run(&connection.client, stream, &mut self.was_there, link).await
                }
                Messages::Subject { subject, group } => {
                    subject::run(&connection.client, subject, group, link).await
                }
            }
        };
        tokio::select! {
            biased;
            failure = connection.breaks.recv() => Err(connection::failure_of(failure)),
            outcome = work => outcome,
        }
    }

    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid> {
        to_sqs(events)
    }
}
