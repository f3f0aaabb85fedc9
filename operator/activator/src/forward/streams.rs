//! Streams to the owners of Functions that are followed, over connections of HTTP/2 of their own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::StreamExt;
use h2::SendStream;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use rouse_core::membership::Member;
use rouse_core::spread::{FollowerLine, SPREAD_PATH, Subscribe};
use rouse_peer::ConnectError;
use tokio::sync::mpsc;

use super::Refused;
use super::link::{Link, PeerDialer};
use super::token::TokenFile;
use crate::body::PeerBody;
use crate::headers;
use crate::ndjson::{decode, encode};
use crate::spread::Stream;

/// Lines that wait to be sent, at most: more of them are not made while the owner is heard of.
const MOST_LINES: usize = 16;

/// Opens streams.
#[derive(Debug)]
pub(crate) struct Streams {
    dialer: PeerDialer,
    token: TokenFile,
    /// By UID of the activator.
    links: Mutex<HashMap<String, Arc<Link>>>,
}

impl Streams {
    pub fn new(token_file: PathBuf, dialer: PeerDialer) -> Self {
        Self { dialer, token: TokenFile::new(token_file), links: Mutex::default() }
    }

    /// Opens one to `member`.
    pub async fn open(self: Arc<Self>, member: Member, subscribe: Subscribe) -> Option<Stream> {
        let opened = Arc::clone(&self).try_open(&member, subscribe).await;
        if let Err(error) = &opened {
            tracing::debug!(activator = member.name, %error, "following an owner");
        }
        opened.ok()
    }

    async fn try_open(
        self: Arc<Self>,
        member: &Member,
        subscribe: Subscribe,
    ) -> Result<Stream, Refused> {
        let token = self.token.read().map_err(Refused::Token)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{SPREAD_PATH}", member.peer))
            .header(headers::PEER_TOKEN, token)
            .body(())
            .map_err(|_| ConnectError::Address(member.peer.clone()))?;
        let mut sender = self.link(member).sender(member, &self.dialer, || ()).await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        stream.send_data(encode([FollowerLine::Subscribe(subscribe)]), false)?;
        let (lines, told) = mpsc::channel(MOST_LINES);
        tokio::spawn(pass_on(told, stream));
        // It answers once it has heard the first counts, which come next.
        let words = futures::stream::once(async move {
            let response = response.await.ok()?;
            if response.status() != StatusCode::OK {
                // It may be the token that it does not know.
                self.token.forget();
                return None;
            }
            Some(decode(PeerBody::new(response.into_body()).into_data_stream()))
        });
        let words = words.filter_map(std::future::ready).flatten().boxed();
        Ok(Stream { lines, words })
    }

    fn link(&self, member: &Member) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|uid, link| link.is_open() || *uid == member.uid);
        Arc::clone(links.entry(member.uid.clone()).or_default())
    }
}

/// Passes lines on until there are no more. What the other side does not read is bounded by the time
/// for which it is waited for.
async fn pass_on(mut lines: mpsc::Receiver<FollowerLine>, mut stream: SendStream<Bytes>) {
    while let Some(line) = lines.recv().await {
        if stream.send_data(encode([line]), false).is_err() {
            return;
        }
    }
    // A stream that is gone needs no end.
    drop(stream.send_data(Bytes::new(), true));
}
