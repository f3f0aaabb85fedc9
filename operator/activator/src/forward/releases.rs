//! Asking other activators to release Functions, over connections of HTTP/2 of their own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use h2::RecvStream;
use http::{Method, Request, Response, StatusCode};
use rouse_core::handover::{RELEASE_PATH, Release, ReleaseLine};
use rouse_core::membership::Member;
use rouse_peer::ConnectError;
use tokio::time::timeout;

use super::Refused;
use super::link::{Link, PeerDialer};
use super::token::TokenFile;
use crate::headers;
use crate::release::{Released, Rest};

/// How long another activator may take to say the first word. One that lives takes milliseconds;
/// the pods of one that does not are replaced.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest line of an answer: some ten thousand pods.
const MOST_BYTES: usize = 1 << 20;

/// Asks other activators.
#[derive(Debug)]
pub(crate) struct Releases {
    dialer: PeerDialer,
    token: TokenFile,
    /// By UID of the activator.
    links: Mutex<HashMap<String, Arc<Link>>>,
}

impl Releases {
    pub fn new(token_file: PathBuf, dialer: PeerDialer) -> Self {
        Self { dialer, token: TokenFile::new(token_file), links: Mutex::default() }
    }

    /// Asks `member`.
    pub fn ask(self: Arc<Self>, member: Member, release: Release) -> BoxFuture<'static, Released> {
        async move {
            match timeout(PATIENCE, self.try_ask(&member, &release)).await {
                Ok(Ok(released)) => released,
                Ok(Err(error)) => {
                    tracing::info!(activator = member.name, %error, "asking for a Function");
                    Released::Silent
                }
                Err(_elapsed) => Released::Silent,
            }
        }
        .boxed()
    }

    async fn try_ask(&self, member: &Member, release: &Release) -> Result<Released, Refused> {
        let token = self.token.read().map_err(Refused::Token)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{RELEASE_PATH}", member.peer))
            .header(headers::PEER_TOKEN, token)
            .body(())
            .map_err(|_| ConnectError::Address(member.peer.clone()))?;
        let question = serde_json::to_vec(release).unwrap_or_default();
        let mut sender = self.link(member).sender(member, &self.dialer, || ()).await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        stream.send_data(Bytes::from(question), true)?;
        self.read(response.await?).await
    }

    async fn read(&self, response: Response<RecvStream>) -> Result<Released, Refused> {
        if response.status() != StatusCode::OK {
            // It lives, and can't tell who asks.
            self.token.forget();
            return Ok(Released::Refused);
        }
        let mut lines = Lines { body: response.into_body(), read: BytesMut::new() };
        Ok(match lines.next().await {
            Some(ReleaseLine::Estate(estate)) => {
                let rest = stream::unfold(lines, |mut lines| async move {
                    let line = lines.next().await?;
                    Some((line, lines))
                });
                Released::Gave { estate, rest: Some(Rest(rest.boxed())) }
            }
            Some(ReleaseLine::Refused { .. }) => Released::Refused,
            _ => Released::Silent,
        })
    }

    fn link(&self, member: &Member) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|uid, link| link.is_open() || *uid == member.uid);
        Arc::clone(links.entry(member.uid.clone()).or_default())
    }
}

/// The lines of an answer.
struct Lines {
    body: RecvStream,
    read: BytesMut,
}

impl Lines {
    /// The next line; none at the end and where what comes is no line.
    async fn next(&mut self) -> Option<ReleaseLine> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end);
                self.read.advance(1);
                return serde_json::from_slice(&line).ok();
            }
            let bytes = self.body.data().await?.ok()?;
            self.body.flow_control().release_capacity(bytes.len()).ok()?;
            self.read.extend_from_slice(&bytes);
            if self.read.len() > MOST_BYTES {
                return None;
            }
        }
    }
}
