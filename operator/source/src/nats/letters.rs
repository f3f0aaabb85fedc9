//! Stores dead letters in a stream: a letter is stored when the stream has said so.

use async_nats::jetstream::message::PublishMessage;
use futures::FutureExt;
use futures::future::BoxFuture;
use rouse_core::event::{CloudEvent, Message, to_structured};
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::NatsDeadLetters;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Connection, Connections};
use super::settings::Server;
use crate::failure::Failure;
use crate::runner::Bury;

/// Letters on their way to the task. Who finds no place waits.
const LETTERS: usize = 64;
/// The header that names the Trigger whose letter it is.
pub(super) const TRIGGER: &str = "Rouse-Trigger";

/// Where dead letters are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LettersTo {
    /// Where the servers are, and how to get in.
    pub server: Server,
    /// The stream, which must be there.
    pub stream: String,
    /// A subject of it.
    pub subject: String,
    /// Whose letters these are, as `namespace/name`; told in a header `Rouse-Trigger`. Another
    /// Trigger's letter of the same event is another letter.
    pub trigger: String,
}

/// Stores dead letters in a stream, each as one JSON document. Its task ends with it.
pub struct Letters {
    sender: mpsc::Sender<Letter>,
}

struct Letter {
    /// The same each time that it is stored, so that the stream keeps it once.
    id: String,
    message: Message,
    stored: oneshot::Sender<bool>,
}

impl LettersTo {
    /// Where `trigger` stores those of its own.
    pub fn of(letters: &NatsDeadLetters, trigger: &TriggerKey) -> Self {
        let NatsDeadLetters { server, stream, subject } = letters;
        Self {
            server: Server::of(server),
            stream: stream.clone(),
            subject: subject.clone(),
            trigger: trigger.to_string(),
        }
    }
}

impl Letters {
    /// Starts the task; it connects with the first letter.
    pub fn spawn(to: LettersTo, connections: Connections) -> Self {
        let (sender, receiver) = mpsc::channel(LETTERS);
        tokio::spawn(run(to, connections, receiver));
        Self { sender }
    }
}

impl Bury for Letters {
    fn bury(&self, letter: CloudEvent) -> BoxFuture<'static, bool> {
        let sender = self.sender.clone();
        async move {
            let id = format!("{} {}", letter.source, letter.id);
            let Ok(message) = to_structured(&letter) else {
                tracing::warn!(id, "a dead letter is no valid event");
                return false;
            };
            let (stored, answer) = oneshot::channel();
            let sent = sender.send(Letter { id, message, stored }).await;
            sent.is_ok() && answer.await.unwrap_or(false)
        }
        .boxed()
    }
}

async fn run(to: LettersTo, connections: Connections, mut letters: mpsc::Receiver<Letter>) {
    let mut connection: Option<Connection> = None;
    while let Some(Letter { id, message, stored }) = letters.recv().await {
        let outcome = store(&to, &connections, &mut connection, id, message).await;
        if let Err(failure) = &outcome {
            let (stream, reason, error) =
                (&to.stream, failure.reason(), rouse_peer::chain(failure));
            tracing::warn!(stream, reason, error, "a dead letter could not be stored");
            connection = None;
        }
        // Who asked may be gone: the letter comes again then, and is kept once.
        let _ = stored.send(outcome.is_ok());
    }
}

async fn store(
    to: &LettersTo,
    connections: &Connections,
    connection: &mut Option<Connection>,
    id: String,
    message: Message,
) -> Result<(), Failure> {
    const DOING: &str = "storing a dead letter";
    let open = match connection.take() {
        Some(open) if open.is_open() => open,
        _ => connections.open(&to.server).await?,
    };
    let context = async_nats::jetstream::new(connection.insert(open).client.clone());
    let id = format!("{} {id}", to.trigger);
    let mut letter = PublishMessage::build().message_id(id).expected_stream(&to.stream);
    letter = letter.header(TRIGGER, to.trigger.as_str());
    for (name, value) in &message.headers {
        letter = letter.header(name.as_str(), value.as_str());
    }
    let sent = context.send_publish(to.subject.clone(), letter.payload(message.body.into())).await;
    let sent = sent.map_err(|error| Failure::away(DOING, error))?;
    sent.await.map(drop).map_err(|error| Failure::away(DOING, error))
}
