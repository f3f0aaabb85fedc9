//! The HTTP side: finds the door, reads the body, proves the sender, waits for what becomes of the
//! events, and answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use jiff::Timestamp;
use rouse_core::event::{CloudEvent, Data, Message, read_events, to_binary};
use rouse_core::webhook::{Refusal, verify};
use rouse_listen::{Reply, say};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::intake::{Answer, Fate, Intake};
use super::{Kind, WebhookSettings};
use crate::credentials::Secrets;

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(30);
/// How long a request waits for its door while the source that hangs it starts: many senders try
/// once only, and wait ten seconds, of which the activator took some and the Function needs some.
const HELD: Duration = Duration::from_secs(2);

/// By host and path.
type Table = HashMap<(String, String), Arc<Door>>;

/// Doors by host and path, exactly. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Doors {
    table: watch::Sender<Table>,
}

impl Default for Doors {
    fn default() -> Self {
        Self { table: watch::Sender::new(Table::new()) }
    }
}

impl Doors {
    /// Hangs `door` at a host, in lower case and without port, and a path, instead of what was there.
    /// It hangs there until what is given back is dropped; requests that are inside are answered.
    pub fn hang(&self, host: &str, path: &str, door: Door) -> Hung {
        let (at, door) = ((host.to_owned(), path.to_owned()), Arc::new(door));
        self.table.send_modify(|table| drop(table.insert(at.clone(), door.clone())));
        Hung { doors: self.clone(), at, door }
    }

    /// The door at a host and path, once it hangs there; none if it does not for a while.
    async fn find(&self, host: &str, path: &str) -> Option<Arc<Door>> {
        let at = (host.to_ascii_lowercase(), path.to_owned());
        let mut tables = self.table.subscribe();
        let hung = timeout(HELD, tables.wait_for(|table| table.contains_key(&at))).await;
        hung.ok()?.ok()?.get(&at).cloned()
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = request.uri().host().or(host).unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        // The activator sends nobody here without a Trigger.
        match self.find(host, request.uri().path()).await {
            Some(door) => door.answer(request).await,
            None => busy(),
        }
    }
}

/// A door that hangs; dropped, it is taken away.
#[derive(Debug)]
pub struct Hung {
    doors: Doors,
    at: (String, String),
    door: Arc<Door>,
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.doors.table.send_if_modified(|table| {
            // Another may hang there by now.
            let hangs = table.get(&self.at).is_some_and(|door| Arc::ptr_eq(door, &self.door));
            if hangs {
                table.remove(&self.at);
            }
            hangs
        });
    }
}

/// Serves `doors` until `stop` turns true, and those inside are answered.
pub async fn serve(listener: TcpListener, doors: Doors, stop: watch::Receiver<bool>) {
    let answer = move |request: Request<Incoming>| {
        let doors = doors.clone();
        async move { doors.answer(request).await }
    };
    rouse_listen::serve(listener, answer, stop).await;
}

/// Where a source is reached.
#[derive(Debug)]
pub struct Door {
    settings: Arc<WebhookSettings>,
    secrets: Secrets,
    intake: Arc<Intake>,
}

impl Door {
    pub(super) const fn new(
        settings: Arc<WebhookSettings>,
        secrets: Secrets,
        intake: Arc<Intake>,
    ) -> Self {
        Self { settings, secrets, intake }
    }

    async fn answer<B>(&self, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let until = Instant::now() + self.settings.patience;
        if *request.method() == Method::OPTIONS && self.settings.kind == Kind::CloudEvents {
            return allow(request.headers());
        }
        if *request.method() != Method::POST {
            let mut reply = say(StatusCode::METHOD_NOT_ALLOWED, "events come by POST");
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return reply;
        }
        match self.take(request, until).await {
            Ok(()) => say(StatusCode::OK, "done"),
            Err(reply) => reply,
        }
    }

    async fn take<B>(&self, request: Request<B>, until: Instant) -> Result<(), Reply>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = self.settings.body_limit;
        let said = request.headers().get(CONTENT_LENGTH);
        let said: Option<usize> = said.and_then(|said| said.to_str().ok()?.parse().ok());
        if said.is_some_and(|said| said > limit) {
            return Err(too_large());
        }
        let place = self.intake.place(said.unwrap_or(limit)).ok_or_else(busy)?;
        let message = read(request, limit).await?;
        if let Some(refusal) = self.refusal(&message) {
            return Err(refusal);
        }
        let events = self.events(message).map_err(|text| say(StatusCode::BAD_REQUEST, &text))?;
        let place = Arc::new(place);
        let mut waiting = Vec::new();
        for event in events {
            match self.intake.offer(event, place.clone()) {
                Answer::Done => {}
                Answer::UnderWay(fate) => waiting.push(fate),
                // What was taken before it goes on, and is joined when it is sent again.
                Answer::Busy => return Err(busy()),
            }
        }
        drop(place);
        if self.settings.kind.is_listed() {
            // Whoever tells of objects may have few hands (MinIO one for each processor).
            return Ok(());
        }
        for fate in waiting {
            told(fate, until).await?;
        }
        Ok(())
    }

    /// What a sender is told that does not know the secret, which is read each time, as it may change.
    fn refusal(&self, message: &Message) -> Option<Reply> {
        let Ok(secret) = self.secrets.fetch_text(&self.settings.secret) else {
            return Some(misconfigured());
        };
        match verify(&self.settings.scheme, secret.as_bytes(), message, Timestamp::now()) {
            Ok(()) => None,
            Err(Refusal::Secret) => Some(misconfigured()),
            Err(refusal) => Some(say(StatusCode::UNAUTHORIZED, &refusal.to_string())),
        }
    }

    /// The events of a body, or what its sender is told of it.
    fn events(&self, message: Message) -> Result<Vec<CloudEvent>, String> {
        let now = Timestamp::now();
        match &self.settings.kind {
            Kind::CloudEvents => read_events(&message, now).map_err(|error| error.to_string()),
            #[cfg(feature = "brokers")]
            Kind::Bucket => super::events_of(&message.body, &self.settings.source),
            Kind::Webhook { id, event, prefix } => {
                let header = |name: &str| {
                    message.header(name).filter(|value| !value.is_empty()).map(str::to_owned)
                };
                let id = id.iter().find_map(|name| header(name));
                let kind = event.as_deref().and_then(header).unwrap_or_else(|| "event".into());
                let kind = kind.to_ascii_lowercase().replace(' ', "_");
                let content_type =
                    header("content-type").unwrap_or_else(|| "application/json".into());
                let event = CloudEvent {
                    // A delivery without an id can't be known again.
                    id: id.unwrap_or_else(|| format!("{:032x}", fastrand::u128(..))),
                    source: self.settings.source.clone(),
                    kind: format!("{prefix}{kind}"),
                    time: now,
                    subject: None,
                    extensions: [].into(),
                    data: Data::Bytes { content_type, bytes: message.body },
                };
                to_binary(&event).map_err(|error| error.to_string())?;
                Ok(vec![event])
            }
        }
    }
}

async fn read<B>(request: Request<B>, limit: usize) -> Result<Message, Reply>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let mut headers = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        // Names are in lower case. What is no text is no header that anybody here asks for.
        if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
            headers.push((name.as_str().to_owned(), value.to_owned()));
        }
    }
    let body = std::pin::pin!(Limited::new(body, limit).collect());
    match timeout(BODY, body).await {
        Ok(Ok(body)) => Ok(Message { headers, body: body.to_bytes().to_vec() }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(say(StatusCode::BAD_REQUEST, "the body ends early")),
        Err(_) => Err(say(StatusCode::REQUEST_TIMEOUT, "the body did not come")),
    }
}

/// Waits until it is known what becomes of an event.
async fn told(mut fate: watch::Receiver<Option<Fate>>, until: Instant) -> Result<(), Reply> {
    let Ok(known) = timeout_at(until, fate.wait_for(Option::is_some)).await else {
        let text = "it is under way, and will be known when it is sent again";
        return Err(say(StatusCode::GATEWAY_TIMEOUT, text));
    };
    match known.map(|fate| *fate) {
        Ok(Some(Fate::Done)) => Ok(()),
        Ok(Some(Fate::GivenUp)) => {
            Err(say(StatusCode::BAD_GATEWAY, "the Function did not take it, and it was given up"))
        }
        Ok(Some(Fate::Released) | None) | Err(_) => Err(busy()),
    }
}

/// Lets a sender of CloudEvents send, who asks first as their specification of webhooks wants.
fn allow(headers: &HeaderMap) -> Reply {
    let mut reply = say(StatusCode::OK, "");
    let answers = reply.headers_mut();
    answers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    if let Some(origin) = headers.get("webhook-request-origin") {
        answers.insert("webhook-allowed-origin", origin.clone());
        answers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    }
    reply
}

fn too_large() -> Reply {
    say(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
}

fn misconfigured() -> Reply {
    retried(say(StatusCode::SERVICE_UNAVAILABLE, "the secret of this Trigger can't be used"))
}

fn busy() -> Reply {
    retried(say(StatusCode::SERVICE_UNAVAILABLE, "nothing can be taken now"))
}

fn retried(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}
