//! Connecting to an activator: nothing is said to it before its key was proved.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::TokenReview;
use kube::{Api, Client};
use rouse_core::membership::Member;
use rouse_core::peer::{Claim, Fingerprint, IDENTITY_PATH, Unproved};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::key::TlsError;
use crate::known::{Known, Verdict};
use crate::metrics::{Outcome, ProofMetrics};
use crate::review::{ReviewError, review};
use crate::tls::{ClientStream, ClientTls, Protocol, SERVER_NAME};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an activator may take to show its token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest token, in bytes. Those of ServiceAccounts have about one thousand.
const MOST_BYTES: usize = 8 * 1024;

/// Proofs that are asked for at once. There is one for each activator that starts.
const MOST_PROOFS: usize = 8;

/// Why there is no connection to an activator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The membership names no address.
    #[error("its address {0:?} is none")]
    Address(String),
    /// Nobody accepts connections there.
    #[error("connecting: {0}")]
    Dial(#[source] io::Error),
    /// Whoever is there speaks no TLS as activators do.
    #[error("opening TLS: {0}")]
    Tls(#[source] io::Error),
    /// Whoever is there says nothing.
    #[error("connecting: no answer in time")]
    Late,
    /// It broke off while it was asked for its token.
    #[error("asking for its token: {0}")]
    Http(#[from] hyper::Error),
    /// It did not show a token as activators do.
    #[error("asking for its token: {0}")]
    Answer(&'static str),
    /// It shows no token, as activators do that can't reach the API server.
    #[error("asking for its token: it answered {0}")]
    NoToken(StatusCode),
    /// The API server did not say whether the token is right.
    #[error("proving its key: {0}")]
    Untold(#[from] ReviewError),
    /// It is not the activator that it should be.
    #[error("proving its key: {0}")]
    Wrong(#[from] Unproved),
    /// It was found not to be moments ago.
    #[error("its key was refused moments ago")]
    WrongBefore,
}

/// Connects to activators. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    namespace: String,
    reviews: Api<TokenReview>,
    tls: ClientTls,
    metrics: ProofMetrics,
    known: Mutex<Known>,
    proving: Semaphore,
}

impl Connector {
    /// Connects to the activators in Rouse's own `namespace`, and asks `client` for proofs.
    pub fn new(client: Client, namespace: &str, metrics: ProofMetrics) -> Result<Self, TlsError> {
        Ok(Self {
            shared: Arc::new(Shared {
                namespace: namespace.to_owned(),
                reviews: Api::all(client),
                tls: ClientTls::new()?,
                metrics,
                known: Mutex::default(),
                proving: Semaphore::new(MOST_PROOFS),
            }),
        })
    }

    /// A connection to `member`, and to nobody else, made by `dial`.
    pub async fn connect<S, D, F>(
        &self,
        member: &Member,
        protocol: Protocol,
        dial: D,
    ) -> Result<ClientStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        D: Fn(SocketAddr) -> F + Sync,
        F: Future<Output = io::Result<S>> + Send,
    {
        let address = member.peer.parse();
        let address = address.map_err(|_| ConnectError::Address(member.peer.clone()))?;
        let (stream, key) = self.open(dial(address), protocol).await?;
        if self.is_proved(member, key)? {
            return Ok(stream);
        }
        let Ok(_turn) = self.shared.proving.acquire().await else {
            return Err(ConnectError::Late);
        };
        // Another connection to the same activator may have been faster.
        if self.is_proved(member, key)? {
            return Ok(stream);
        }
        let proof = async {
            // The token may come by any way: it is worth nothing with another key.
            let (asked, _) = self.open(dial(address), Protocol::Http1).await?;
            let token = timeout(TOKEN_TIMEOUT, fetch_token(asked)).await;
            self.check(member, key, &token.map_err(|_elapsed| ConnectError::Late)??).await
        };
        let proved = proof.await;
        self.note(member, key, &proved);
        proved.map(|()| stream)
    }

    async fn open<S>(
        &self,
        dialing: impl Future<Output = io::Result<S>>,
        protocol: Protocol,
    ) -> Result<(ClientStream<S>, Fingerprint), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let opening = async {
            let io = dialing.await.map_err(ConnectError::Dial)?;
            self.shared.tls.handshake(io, protocol).await.map_err(ConnectError::Tls)
        };
        timeout(CONNECT_TIMEOUT, opening).await.map_err(|_elapsed| ConnectError::Late)?
    }

    fn is_proved(&self, member: &Member, key: Fingerprint) -> Result<bool, ConnectError> {
        match self.known().verdict(&member.uid, key, Instant::now()) {
            Verdict::Proved => Ok(true),
            Verdict::Wrong => Err(ConnectError::WrongBefore),
            Verdict::Unknown => Ok(false),
        }
    }

    async fn check(
        &self,
        member: &Member,
        key: Fingerprint,
        token: &str,
    ) -> Result<(), ConnectError> {
        let status = review(&self.shared.reviews, token, &key.audience()).await?;
        let claim = Claim { key, namespace: &self.shared.namespace, pod_uid: &member.uid };
        Ok(claim.check(status.as_ref())?)
    }

    fn note(&self, member: &Member, key: Fingerprint, proved: &Result<(), ConnectError>) {
        let outcome = match proved {
            Ok(()) => {
                tracing::info!(member = member.name, %key, "an activator proved its key");
                self.known().note_proved(&member.uid, key, Instant::now());
                Outcome::proved
            }
            Err(ConnectError::Wrong(reason)) => {
                if self.known().note_wrong(&member.uid, key, Instant::now()) {
                    let Member { name, peer, .. } = member;
                    tracing::warn!(member = name, peer, %key, %reason, "somebody else is there");
                }
                Outcome::wrong
            }
            Err(_) => Outcome::untold,
        };
        self.shared.metrics.note(outcome);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Asks for the token that proves the key of whoever is there.
async fn fetch_token<S>(io: ClientStream<S>) -> Result<String, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let exchange = async move {
        let request = Request::get(IDENTITY_PATH).header(HOST, SERVER_NAME);
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|_| ConnectError::Answer("the request is none"))?;
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(ConnectError::NoToken(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => ConnectError::Http(*error),
            Err(error) if error.is::<LengthLimitError>() => ConnectError::Answer("it is too long"),
            Err(_) => ConnectError::Answer("it can't be read"),
        })?;
        let text = String::from_utf8(body.to_bytes().into());
        text.map_err(|_| ConnectError::Answer("it is no text"))
    };
    // The connection is driven here, and ends with this.
    match select(pin!(exchange), connection).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, exchange)) => exchange.await,
    }
}

#[cfg(test)]
mod tests;
