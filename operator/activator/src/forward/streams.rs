//! Streams to the owners of Functions that are followed.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::StreamExt;
use h2::SendStream;
use rouse_core::membership::Member;
use rouse_core::spread::{FollowerLine, SPREAD_PATH, Subscribe};
use tokio::sync::mpsc;

use super::Refused;
use super::asker::Asker;
use super::link::PeerDialer;
use crate::ndjson::encode;
use crate::spread::Stream;

/// Lines that wait to be sent, at most: more of them are not made while the owner is heard of.
const MOST_LINES: usize = 16;

/// Opens streams.
#[derive(Debug)]
pub(crate) struct Streams(Asker);

impl Streams {
    pub fn new(token_file: PathBuf, dialer: PeerDialer) -> Self {
        Self(Asker::new(token_file, dialer))
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
        let (response, mut stream) = self.0.post(member, SPREAD_PATH).await?;
        stream.send_data(encode([FollowerLine::Subscribe(subscribe)]), false)?;
        let (lines, told) = mpsc::channel(MOST_LINES);
        tokio::spawn(pass_on(told, stream));
        // It answers once it has heard the first counts, which come next.
        let words = futures::stream::once(async move { self.0.lines(response).await.ok()? });
        let words = words.filter_map(std::future::ready).flatten().boxed();
        Ok(Stream { lines, words })
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
