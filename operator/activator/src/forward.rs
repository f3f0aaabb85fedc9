//! Passing a request to the activator that owns its Function. Requests go over one connection of
//! HTTP/2 to each activator, those that ask for a change of protocol over one of HTTP/1.1 each.
//!
//! The owner says by `100 Continue` that it is about to send the request on, and waits for the word
//! that it may: a byte before the body, or the end where there is none. Until that word is given the
//! owner does not send, nobody has read the request's body, and the request may be passed to another
//! owner whatever happens to this one; after it, never.

mod asker;
mod link;
mod releases;
mod streams;
mod token;

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::header::HeaderValue;
use http::{Request, Response, StatusCode, request};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rouse_core::membership::Member;
use rouse_peer::{ConnectError, Protocol};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::body::{AbortOnDrop, PeerBody, RequestBody, Word, give_word, pump};
use crate::function::{FunctionHandle, Owner};
use crate::headers;
use crate::proxy::InQueue;
use crate::request_metrics::{Forwarded, RequestMetrics, Target};

pub(crate) use self::link::PeerDialer;
pub(crate) use self::releases::Releases;
pub(crate) use self::streams::Streams;

use self::link::Links;
use self::token::TokenFile;

/// How much longer than the caller the owner may take to say that a time is over: it knows better
/// what was waited for.
const GRACE: Duration = Duration::from_secs(1);

/// What the owner must know of a request, and how long it may take.
pub(crate) struct Passage<'a> {
    /// The owner.
    pub member: &'a Member,
    /// The Function.
    pub handle: &'a FunctionHandle,
    /// When the request came.
    pub arrived: Instant,
    /// Until when it may wait for a slot.
    pub deadline: Instant,
    /// How long the answer may take once the request was sent on.
    pub answer_limit: Duration,
    /// The protocol that the client wants to change to.
    pub upgrade: Option<&'a HeaderValue>,
}

/// What became of passing a request on.
pub(crate) enum Outcome {
    /// The owner answered.
    Answered(Box<Answer>),
    /// The owner certainly did not send it on.
    Unsent {
        /// The request as it was given.
        request: Box<Request<RequestBody>>,
        /// Why.
        error: String,
    },
    /// The owner did not say in time that the time was over.
    Late,
    /// The owner broke off after it may have sent the request on.
    Broken {
        /// Why.
        error: String,
    },
}

/// The head of an owner's answer.
pub(crate) enum Answer {
    /// On a stream of the shared connection.
    Stream {
        /// The answer.
        response: Response<PeerBody>,
        /// The passing on of the rest of the request's body.
        upload: Option<AbortOnDrop>,
    },
    /// On a connection of its own.
    Connection(Response<Incoming>),
}

/// Passes requests on.
#[derive(Debug)]
pub(crate) struct Forwarder {
    dialer: PeerDialer,
    token: TokenFile,
    links: Links,
    metrics: Arc<RequestMetrics>,
}

/// Why an owner did not take a request.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("reading the token for peers: {0}")]
    Token(std::io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("opening a connection: {0}")]
    Handshake(hyper::Error),
    #[error("opening a stream: {0}")]
    Stream(#[from] h2::Error),
    #[error("it does not own the Function or can't serve it now")]
    NotOwner,
    #[error("it does not know this activator")]
    NotAPeer,
    #[error("it said nothing in time")]
    Late,
    #[error("it owns the Function no longer")]
    Moved,
}

impl Passage<'_> {
    /// Ends when another activator owns the Function.
    async fn moved(&self) {
        let mut owner = self.handle.watch_owner();
        let stays =
            |owner: &Owner| matches!(owner, Owner::Peer(peer) if peer.uid == self.member.uid);
        // The sender lives in the handle.
        drop(owner.wait_for(|owner| !stays(owner)).await);
    }
}

impl Forwarder {
    pub fn new(token_file: PathBuf, dialer: PeerDialer, metrics: Arc<RequestMetrics>) -> Self {
        let token = TokenFile::new(token_file);
        Self { dialer, token, links: Links::default(), metrics }
    }

    /// Passes `request` on and waits for the head of the answer.
    /// `waiting` is kept until it was sent on.
    pub async fn forward(
        &self,
        passage: &Passage<'_>,
        request: Request<RequestBody>,
        waiting: InQueue,
    ) -> Outcome {
        let outcome = match passage.upgrade {
            None => self.forward_stream(passage, request, waiting).await,
            Some(protocol) => self.forward_upgrade(passage, request, protocol).await,
        };
        self.metrics.note_forward(match &outcome {
            Outcome::Answered(_) => Forwarded::answered,
            Outcome::Unsent { .. } => Forwarded::unsent,
            Outcome::Late | Outcome::Broken { .. } => Forwarded::broken,
        });
        outcome
    }

    async fn forward_stream(
        &self,
        passage: &Passage<'_>,
        request: Request<RequestBody>,
        waiting: InQueue,
    ) -> Outcome {
        let (parts, body) = request.into_parts();
        let again = |parts, body, error: Refused| Outcome::Unsent {
            request: Box::new(Request::from_parts(parts, body)),
            error: error.to_string(),
        };
        let asked = tokio::select! {
            biased;
            asked = self.ask(passage, &parts) => asked,
            () = passage.moved() => Err(Refused::Moved),
        };
        let (response, mut stream) = match asked {
            Ok((FirstWord::SentOn, response, stream)) => (response, stream),
            Ok((FirstWord::Answer(answer), ..)) => {
                return match refused(&answer, &self.token) {
                    Some(error) => again(parts, body, error),
                    None => {
                        Answer::Stream { response: answer.map(PeerBody::new), upload: None }.into()
                    }
                };
            }
            Ok((FirstWord::None, ..)) => return Outcome::Late,
            Err(error) => return again(parts, body, error),
        };
        let empty = body.is_end_stream();
        if let Err(error) = give_word(&mut stream, empty) {
            return again(parts, body, error.into());
        }
        drop(waiting);
        let spare = empty.then(|| parts.clone());
        let upload = (!empty).then(|| {
            let upload = pump(body, stream).map(|pumped| {
                if let Err(error) = pumped {
                    tracing::debug!(%error, "passing a request's body to its owner");
                }
            });
            AbortOnDrop::spawn(upload.boxed())
        });
        // The owner may have to wait for another slot if the pod accepts no connection after all.
        let limit = Instant::now().max(passage.deadline) + passage.answer_limit + GRACE;
        let error = match timeout_at(limit, response).await {
            Ok(Ok(response)) => match refused(&response, &self.token) {
                None => {
                    let response = response.map(PeerBody::new);
                    return Answer::Stream { response, upload }.into();
                }
                Some(error) => match spare {
                    // It did not send after all, and there is no body that it could have had.
                    Some(parts) => return again(parts, RequestBody::Empty, error),
                    None => error.to_string(),
                },
            },
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => Refused::Late.to_string(),
        };
        Outcome::Broken { error }
    }

    /// Asks the owner to take the request, and waits for its first word.
    async fn ask(
        &self,
        passage: &Passage<'_>,
        parts: &request::Parts,
    ) -> Result<(FirstWord, h2::client::ResponseFuture, h2::SendStream<Bytes>), Refused> {
        let opened = timeout_at(passage.deadline, self.open_stream(passage, parts)).await;
        let (mut response, stream) = opened.map_err(|_elapsed| Refused::Late)??;
        let said = timeout_at(passage.deadline + GRACE, first_word(&mut response)).await;
        let said = said.unwrap_or(Ok(FirstWord::None))?;
        Ok((said, response, stream))
    }

    async fn open_stream(
        &self,
        passage: &Passage<'_>,
        parts: &request::Parts,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), Refused> {
        let mut head = Request::from_parts(parts.clone(), ());
        headers::speak_http2(&mut head);
        headers::hide_length(head.headers_mut());
        self.tell(passage, &mut head)?;
        let mut sender = self.sender(passage.member).await.inspect_err(|_| {
            self.metrics.note_connect_failure(Target::peer);
        })?;
        Ok(sender.send_request(head, false)?)
    }

    async fn forward_upgrade(
        &self,
        passage: &Passage<'_>,
        request: Request<RequestBody>,
        protocol: &HeaderValue,
    ) -> Outcome {
        let (parts, body) = request.into_parts();
        if !body.is_end_stream() {
            // It could not be passed on again. No protocol in use asks with a body.
            return Outcome::Broken { error: "a change of protocol with a body".into() };
        }
        let (word, go, given) = Word::new();
        let mut head = Request::from_parts(parts.clone(), RequestBody::Go(go));
        headers::speak_http1(&mut head);
        headers::restore_upgrade(head.headers_mut(), protocol.clone());
        headers::wait_to_go(head.headers_mut());
        give_when_told(&mut head, word.clone(), given);
        let again = |error: Refused| Outcome::Unsent {
            request: Box::new(Request::from_parts(parts, body)),
            error: error.to_string(),
        };
        let opening = async {
            self.tell(passage, &mut head)?;
            self.open_connection(passage.member).await
        };
        let opened = tokio::select! {
            biased;
            opened = timeout_at(passage.deadline, opening) => {
                opened.unwrap_or(Err(Refused::Late))
            }
            () = passage.moved() => Err(Refused::Moved),
        };
        let mut sender = match opened {
            Ok(sender) => sender,
            Err(error) => return again(error),
        };
        let limit = passage.deadline + passage.answer_limit + GRACE;
        let mut answer = pin!(timeout_at(limit, sender.try_send_request(head)));
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer,
            () = passage.moved() => {
                if word.withdraw() {
                    return again(Refused::Moved);
                }
                answer.await
            }
        };
        match answer {
            Ok(Ok(response)) => match refused(&response, &self.token) {
                Some(error) => again(error),
                None => Answer::Connection(response).into(),
            },
            // Without the word the owner has not sent it on, and will not.
            Ok(Err(failed)) if word.withdraw() => again(Refused::Handshake(failed.into_error())),
            Ok(Err(failed)) => Outcome::Broken { error: failed.into_error().to_string() },
            Err(_elapsed) => Outcome::Late,
        }
    }

    async fn open_connection(
        &self,
        member: &Member,
    ) -> Result<http1::SendRequest<RequestBody>, Refused> {
        let stream = self.dialer.dial(member, Protocol::Http1).await.inspect_err(|_| {
            self.metrics.note_connect_failure(Target::peer);
        })?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Refused::Handshake)?;
        let counted = self.metrics.begin_upstream(Target::peer);
        tokio::spawn(async move {
            let _counted = counted;
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to an activator");
            }
        });
        Ok(sender)
    }

    /// Tells the owner what it must know.
    fn tell<B>(&self, passage: &Passage<'_>, request: &mut Request<B>) -> Result<(), Refused> {
        let token = self.token.read().map_err(Refused::Token)?;
        let ago = u64::try_from(passage.arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
        let key = &passage.handle.key;
        let fields = request.headers_mut();
        fields.insert(headers::PEER_TOKEN, token);
        fields.insert(headers::FUNCTION, headers::header_value(&key.cluster_host()));
        fields.insert(headers::FUNCTION_UID, headers::header_value(&passage.handle.uid));
        fields.insert(headers::ARRIVED_AGO, HeaderValue::from(ago));
        Ok(())
    }

    /// A sender to `member`, on a connection that is made if there is none.
    async fn sender(&self, member: &Member) -> Result<h2::client::SendRequest<Bytes>, Refused> {
        let count = || self.metrics.begin_upstream(Target::peer);
        self.links.to(member).sender(member, &self.dialer, count).await
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answered(Box::new(answer))
    }
}

/// What an owner says first.
enum FirstWord {
    /// It sends the request on.
    SentOn,
    /// It answers without sending it on.
    Answer(Response<h2::RecvStream>),
    /// It says nothing in time.
    None,
}

async fn first_word(response: &mut h2::client::ResponseFuture) -> Result<FirstWord, h2::Error> {
    poll_fn(|cx| match response.poll_informational(cx) {
        Poll::Ready(Some(Ok(interim))) if interim.status() == StatusCode::CONTINUE => {
            Poll::Ready(Ok(FirstWord::SentOn))
        }
        Poll::Ready(Some(Ok(_))) => {
            // Nothing else is said in between today; look again at once.
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
        Poll::Ready(None) => Pin::new(&mut *response).poll(cx).map_ok(FirstWord::Answer),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Gives the word as soon as the owner asks for it.
fn give_when_told(head: &mut Request<RequestBody>, word: Word, given: oneshot::Sender<()>) {
    let given = Mutex::new(Some(given));
    hyper::ext::on_informational(head, move |interim| {
        if interim.status() == StatusCode::CONTINUE
            && word.give()
            && let Some(given) = given.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // Nobody hears it where the connection has broken by now.
            given.send(()).ok();
        }
    });
}

/// Why the owner would not have the request, if it says so.
fn refused<B>(response: &Response<B>, token: &TokenFile) -> Option<Refused> {
    let unsent = response.headers().get(headers::UNSENT)?;
    if unsent == "not-a-peer" {
        token.forget();
        return Some(Refused::NotAPeer);
    }
    Some(Refused::NotOwner)
}
