//! Brings what is published to a subject, as a member of a queue group.

use async_nats::Client;
use futures::StreamExt;
use jiff::Timestamp;

use super::Token;
use super::event::{Origin, event_of};
use crate::failure::Failure;
use crate::link::{Link, Next};
use crate::source::Brought;

/// Lives as long as the connection. Without room nothing is read: the client then lets go what it
/// can't hold, as NATS has it.
pub(super) async fn run(
    client: &Client,
    subject: &str,
    group: &str,
    link: &mut Link<Token>,
) -> Result<(), Failure> {
    let doing = "subscribing to a subject of NATS";
    let subscribed = client.queue_subscribe(subject.to_owned(), group.to_owned()).await;
    let mut messages = subscribed.map_err(|error| Failure::away(doing, error))?;
    client.flush().await.map_err(|error| Failure::away(doing, error))?;
    link.set_connected(true);
    // Nothing is handed out twice, so that an id of chance is as good as any.
    let life = client.new_inbox();
    let life = life.strip_prefix("_INBOX.").unwrap_or(&life).to_owned();
    let mut taken = 0_u64;
    loop {
        let has_room = !link.room().is_none();
        tokio::select! {
            biased;
            next = link.next() => if matches!(next, Next::End) {
                return Ok(());
            },
            message = messages.next(), if has_room => {
                let Some(message) = message else {
                    return Err(Failure::away("reading from NATS", "the subscription ended"));
                };
                taken += 1;
                let id = format!("{life}:{taken}");
                let source = format!("/nats/{subject}");
                let event = event_of(&message, Origin { id, source, time: Timestamp::now() });
                link.bring(vec![Brought { key: None, event, token: Token(None) }]);
            }
        }
    }
}
