//! Where people ask for the dead letters that streams keep: it lists and shows them, sends them to
//! their Function again, and removes them.
//!
//! It listens on the pod's own loopback address, where nobody comes but by the API server, which asks
//! whether they may (`pods/portforward`). So it asks nobody who they are, and shows each Trigger's
//! letters only: a stream may keep others' too.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use rouse_core::delivery::{Heir, Outcome};
use rouse_core::event::{CONTENT_TYPE_JSON, CloudEvent, Message, Unreadable, read_events};
use rouse_core::letter::{Letters, MOST_LETTERS, revive};
use rouse_listen::{Reply, say};
use rouse_peer::chain;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::kinds::{Owner, message_of};
use crate::nats::{Connections, Kept, LettersTo};

/// Content type of an event as one JSON document.
const EVENT: &str = "application/cloudevents+json";

/// Where people ask for dead letters. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Office {
    /// By the names of their Triggers.
    owners: Arc<RwLock<HashMap<String, Arc<Owner>>>>,
    connections: Connections,
}

/// Why something was not done. Told to whoever asked.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is nothing to {0} at {1}")]
    Path(Method, String),
    #[error("no stream keeps dead letters of a Trigger {0} of this namespace")]
    Trigger(String),
    #[error(
        "Trigger {0} has no dead letter {1}: it was redriven or purged, or the stream let go of it"
    )]
    Letter(String, u64),
    #[error("the letter is no event that could be sent")]
    Unreadable(#[from] Unreadable),
    #[error("there is no valid Function {0} to send it to: see its status")]
    NoFunction(String),
    #[error("the Function {function} did not take it: {why}; the letter stays")]
    NotTaken { function: String, why: String },
    #[error(transparent)]
    Stream(#[from] Failure),
    #[error(
        "the Function took it, but the letter could not be removed, and would be sent again with \
         the same id: {}", chain(.0)
    )]
    Remains(Failure),
    #[error("writing the answer")]
    Answer(#[from] serde_json::Error),
}

impl Refusal {
    /// What concerns one letter alone is the asker's (4xx); after anything else others would fare no
    /// better (5xx).
    const fn status(&self) -> StatusCode {
        match self {
            Self::Path(..) | Self::Trigger(_) | Self::Letter(..) => StatusCode::NOT_FOUND,
            Self::Unreadable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotTaken { .. } => StatusCode::FAILED_DEPENDENCY,
            Self::NoFunction(_) | Self::Stream(_) | Self::Remains(_) => StatusCode::BAD_GATEWAY,
            Self::Answer(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").finish_non_exhaustive()
    }
}

impl Office {
    /// An office that reaches streams by `connections`.
    pub fn new(connections: Connections) -> Self {
        Self { owners: Arc::default(), connections }
    }

    /// Answers for the letters of `trigger` from now on; none: not any more.
    pub fn set(&self, trigger: &str, owner: Option<Owner>) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        match owner {
            Some(owner) => drop(owners.insert(trigger.to_owned(), Arc::new(owner))),
            None => drop(owners.remove(trigger)),
        }
    }

    /// Serves until `stop` turns true, and those inside are answered.
    pub async fn serve(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let office = self.clone();
        let answer = move |request| {
            let office = office.clone();
            async move { office.answer(request).await }
        };
        rouse_listen::serve(listener, answer, stop).await;
    }

    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Reply {
        let (head, _) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let answer = self.act(&head.method, head.uri.path(), query).await;
        answer.unwrap_or_else(|refusal| say(refusal.status(), &chain(&refusal)))
    }

    async fn act(&self, method: &Method, path: &str, query: &str) -> Result<Reply, Refusal> {
        let nothing = || Refusal::Path(method.clone(), path.to_owned());
        let rest = path.strip_prefix("/v1/triggers/").ok_or_else(nothing)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| nothing());
        match (method, parts.as_slice()) {
            (&Method::GET, [trigger, "letters"]) => {
                let (from, limit) = (value_of(query, "from"), value_of(query, "limit"));
                let limit = limit.and_then(|limit| usize::try_from(limit).ok());
                let limit = limit.unwrap_or(MOST_LETTERS).min(MOST_LETTERS);
                let found = self.list(trigger, from.unwrap_or(1), limit).await?;
                Ok(reply(CONTENT_TYPE_JSON, serde_json::to_vec(&found)?.into()))
            }
            (&Method::GET, [trigger, "letters", letter]) => {
                let letter = number(letter)?;
                let (_, _, document) = self.find(trigger, letter).await?;
                Ok(reply(EVENT, document))
            }
            (&Method::POST, [trigger, "letters", letter, "redrive"]) => {
                self.redrive(trigger, number(letter)?).await?;
                Ok(say(StatusCode::OK, "done"))
            }
            (&Method::DELETE, [trigger, "letters", letter]) => {
                self.purge(trigger, number(letter)?).await?;
                Ok(say(StatusCode::OK, "done"))
            }
            _ => Err(nothing()),
        }
    }

    fn owner(&self, trigger: &str) -> Result<(Arc<Owner>, LettersTo), Refusal> {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        let owner = owners.get(trigger).cloned();
        let kept = owner.and_then(|owner| match &owner.source.settings.dead_letter {
            Some(Heir::Nats(letters)) => {
                let to = LettersTo::of(letters, &owner.source.key);
                Some((owner, to))
            }
            Some(Heir::Function(_)) | None => None,
        });
        kept.ok_or_else(|| Refusal::Trigger(trigger.to_owned()))
    }

    async fn list(&self, trigger: &str, from: u64, limit: usize) -> Result<Letters, Refusal> {
        let (_, to) = self.owner(trigger)?;
        Ok(Kept::open(&to, &self.connections).await?.list(from, limit).await?)
    }

    async fn find(
        &self,
        trigger: &str,
        letter: u64,
    ) -> Result<(Arc<Owner>, LettersTo, Bytes), Refusal> {
        let (owner, to) = self.owner(trigger)?;
        let document = Kept::open(&to, &self.connections).await?.get(letter).await?;
        let document = document.ok_or_else(|| Refusal::Letter(trigger.to_owned(), letter))?;
        Ok((owner, to, document))
    }

    /// Sends a letter to its Function again, and removes it only once that has taken it.
    async fn redrive(&self, trigger: &str, letter: u64) -> Result<(), Refusal> {
        let (owner, to, document) = self.find(trigger, letter).await?;
        let event = read(&document)?;
        send(&owner, &event).await?;
        let id = &event.id;
        tracing::info!(trigger, letter, id, "a dead letter was sent again, and taken");
        let kept = Kept::open(&to, &self.connections).await;
        let mut kept = kept.map_err(Refusal::Remains)?;
        kept.remove(letter).await.map_err(Refusal::Remains)
    }

    async fn purge(&self, trigger: &str, letter: u64) -> Result<(), Refusal> {
        let (_, to, _) = self.find(trigger, letter).await?;
        Kept::open(&to, &self.connections).await?.remove(letter).await?;
        tracing::info!(trigger, letter, "a dead letter was removed");
        Ok(())
    }
}

/// The event that a letter was.
fn read(document: &[u8]) -> Result<CloudEvent, Refusal> {
    let headers = vec![("content-type".to_owned(), EVENT.to_owned())];
    let message = Message { headers, body: document.to_vec() };
    let events = read_events(&message, Timestamp::UNIX_EPOCH)?;
    events.into_iter().next().map(revive).ok_or_else(|| Unreadable::None.into())
}

/// Sends `event` to the Function, in the form that the Trigger says.
async fn send(owner: &Owner, event: &CloudEvent) -> Result<(), Refusal> {
    let Owner { source, target, caller } = owner;
    let function = &source.function;
    let target = *target.borrow();
    let target = target.ok_or_else(|| Refusal::NoFunction(function.name.to_string()))?;
    let message = message_of(&source.kind, source.settings.format, event);
    let message = message.map_err(Unreadable::from)?;
    let limit = source.settings.timeout.unwrap_or(target.limit);
    let why = match caller.call(function, message, limit).await {
        Outcome::Done => return Ok(()),
        Outcome::Failed | Outcome::Partly(_) => "it failed, or did not answer in time".into(),
        Outcome::Rejected => "it rejects it".into(),
        Outcome::Busy(after) => format!("it is busy for {} s", after.as_secs()),
    };
    Err(Refusal::NotTaken { function: function.name.to_string(), why })
}

fn reply(content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn value_of(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(other, _)| *other == name)?.1.parse().ok()
}
