//! Messages of NATS: of a stream of `JetStream`, at least once, or of a subject that nothing keeps.
//!
//! A stream hands its messages out by a durable consumer, which keeps what is acknowledged. What is
//! published to a subject while nobody listens, or while a member of the queue group has no room,
//! is lost, as always in NATS; what was taken is delivered from memory, and lost with the process.

mod connection;
mod event;
mod jetstream;
mod kept;
mod letters;
mod settings;
mod subject;
#[cfg(test)]
pub(crate) mod tests;

use async_nats::Subject;
use rouse_core::delivery::Acks;
use rouse_core::event::{CloudEvent, Invalid, Message, to_sqs};

use crate::failure::Failure;
use crate::link::Link;
use crate::source::{Source, Terms};

pub use connection::Connections;
pub(crate) use kept::Kept;
pub use letters::{Letters, LettersTo};
pub use settings::{Login, Messages, Server, Settings, Start, Stream};

/// Brings the messages of NATS.
pub struct Nats {
    settings: Settings,
    connections: Connections,
    /// Whether the stream's consumer was there: one that vanishes takes what is known with it.
    was_there: bool,
}

/// What acknowledging a message takes: the subject to reply to; none where nobody waits for it.
#[derive(Debug)]
pub struct Token(Option<Subject>);

impl Nats {
    /// A source on one of `connections`.
    pub const fn new(settings: Settings, connections: Connections) -> Self {
        Self { settings, connections, was_there: false }
    }
}

/// Whether a source of these messages needs `subject`: others share its connection, and what is
/// denied to them is none of its business.
fn needs(messages: &Messages, subject: &str) -> bool {
    match messages {
        // Names of streams have no dots, and stand between those of subjects of the API.
        Messages::Stream(stream) => {
            subject.starts_with("_INBOX.") || subject.split('.').any(|name| name == stream.name)
        }
        Messages::Subject { subject: own, .. } => subject == own,
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
        let mut connection = self.connections.open(&self.settings.server).await?;
        let (client, messages) = (connection.client.clone(), &self.settings.messages);
        let work = async {
            match messages {
                Messages::Stream(stream) => {
                    jetstream::run(&client, stream, &mut self.was_there, link).await
                }
                Messages::Subject { subject, group } => {
                    subject::run(&client, subject, group, link).await
                }
            }
        };
        tokio::select! {
            biased;
            failure = connection.breaks(|subject| needs(messages, subject)) => Err(failure),
            outcome = work => outcome,
        }
    }

    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid> {
        to_sqs(events)
    }
}
