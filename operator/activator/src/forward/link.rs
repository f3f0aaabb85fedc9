//! The connection to one other activator, shared by all requests that are passed to it, and given
//! up as soon as the other side does not answer any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use rouse_core::membership::Member;
use rouse_peer::{ClientStream, ConnectError, Connector, Protocol};

use super::Refused;
use crate::pings::silent;
use crate::upstream::{Dialer, Stream};

/// Bytes of an answer that may be on their way on one stream.
const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes of all answers that may be on their way.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Streams that were given up and whose last frames may still come: a crowd of clients may leave at
/// once.
const MOST_RESET_STREAMS: usize = 10_000;

/// The connection to one other activator.
#[derive(Default)]
pub(super) struct Link {
    sender: Mutex<Option<SendRequest<Bytes>>>,
    /// Whoever connects holds this.
    connecting: tokio::sync::Mutex<()>,
}

impl Link {
    /// A sender that may open a stream, on a connection that is made if there is none. Such a one
    /// keeps what `count` gives for as long as it lives.
    pub async fn sender<C: Send + 'static>(
        &self,
        member: &Member,
        dialer: &PeerDialer,
        count: impl FnOnce() -> C,
    ) -> Result<SendRequest<Bytes>, Refused> {
        if let Some(sender) = self.open_sender().await {
            return Ok(sender);
        }
        let _turn = self.connecting.lock().await;
        if let Some(sender) = self.open_sender().await {
            return Ok(sender);
        }
        let stream = dialer.dial(member, Protocol::Http2).await?;
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_reset_streams(MOST_RESET_STREAMS)
            .handshake(stream)
            .await?;
        let pings = connection.ping_pong();
        let counted = count();
        tokio::spawn(async move {
            let _counted = counted;
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection to an activator");
                    }
                }
                () = silent(pings) => tracing::info!("an activator does not answer any more"),
            }
        });
        *self.slot() = Some(sender.clone());
        Ok(sender.ready().await?)
    }

    /// Whether there was a connection when it was used last.
    pub fn is_open(&self) -> bool {
        self.slot().is_some()
    }

    async fn open_sender(&self) -> Option<SendRequest<Bytes>> {
        let sender = self.slot().clone()?;
        let ready = sender.ready().await;
        if ready.is_err() {
            // Closed, or closing for new requests: the next one connects anew.
            *self.slot() = None;
        }
        ready.ok()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<SendRequest<Bytes>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

/// The connections to other activators, by UID.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<String, Arc<Link>>>);

impl Links {
    /// That to `member`.
    pub fn to(&self, member: &Member) -> Arc<Link> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&member.uid) {
            return Arc::clone(link);
        }
        links.retain(|_, link| link.is_open());
        Arc::clone(links.entry(member.uid.clone()).or_default())
    }
}

/// Connects to other activators.
#[derive(Clone, Debug)]
pub(crate) struct PeerDialer {
    dialer: Dialer,
    connector: Connector,
}

impl PeerDialer {
    pub const fn new(dialer: Dialer, connector: Connector) -> Self {
        Self { dialer, connector }
    }

    /// Connects to `member`, and to nobody else.
    pub async fn dial(
        &self,
        member: &Member,
        protocol: Protocol,
    ) -> Result<ClientStream<Stream>, ConnectError> {
        self.connector.connect(member, protocol, |address| self.dialer.dial(address)).await
    }
}
