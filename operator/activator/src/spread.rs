//! Sending requests straight to the pods of Functions that other activators own (see
//! `rouse_core::spread`): following an owner, and being followed. Who owns what is decided in
//! `ownership`, what may be sent where in `admission`; connections are the business of `forward`.

pub mod follow;
mod shortcut;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use http::Response;
use http_body_util::BodyExt;
use rouse_core::membership::Member;
use rouse_core::spread::{Counts, FollowerLine, LEASE, Subscribe, Word};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

pub(crate) use self::shortcut::{Shortcut, Wishes};

use crate::admission::Following;
use crate::body::{RequestBody, ResponseBody};
use crate::ndjson::{self, decode, encode};
use crate::problem::Failure;

/// Wishes that wait, at most; more of them are made again by later requests.
pub(crate) const MOST_WISHES: usize = 1024;

/// The wish to send straight: the UID of the Function.
pub(crate) type Wish = Arc<str>;

/// How long a follower may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a stream to an activator, of which the first line is said.
pub type Connect = dyn Fn(Member, Subscribe) -> BoxFuture<'static, Option<Stream>> + Send + Sync;

/// A stream to the owner of a Function. It ends when this is dropped.
pub struct Stream {
    /// What is said to it.
    pub lines: mpsc::Sender<FollowerLine>,
    /// What it says.
    pub words: BoxStream<'static, Word>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// An activator that wants to follow.
pub(crate) struct Follower {
    pub subscribe: Subscribe,
    pub first: Counts,
    pub lines: BoxStream<'static, FollowerLine>,
}

/// Reads what an activator wants.
pub(crate) async fn receive(body: RequestBody) -> Result<Follower, Failure> {
    let mut lines = decode(body.into_data_stream()).boxed();
    let begun = timeout(PATIENCE, async { (lines.next().await, lines.next().await) });
    match begun.await {
        Ok((Some(FollowerLine::Subscribe(subscribe)), Some(FollowerLine::Counts(first)))) => {
            Ok(Follower { subscribe, first, lines })
        }
        _ => Err(Failure::BadRequest("it does not say which Function it wants to follow")),
    }
}

/// The answer to a follower.
pub(crate) fn respond(
    following: Following,
    lines: BoxStream<'static, FollowerLine>,
) -> Response<ResponseBody> {
    ndjson::respond(tell(following, lines))
}

/// What a follower is told.
pub(crate) fn tell(
    following: Following,
    lines: BoxStream<'static, FollowerLine>,
) -> impl futures::Stream<Item = Bytes> + Send {
    let telling = Telling { following, lines, owes: true };
    stream::unfold(telling, |mut telling| async move {
        let word = telling.next().await?;
        Some((encode([word]), telling))
    })
}

struct Telling {
    following: Following,
    lines: BoxStream<'static, FollowerLine>,
    owes: bool,
}

impl Telling {
    /// The next word; none once it follows no longer.
    async fn next(&mut self) -> Option<Word> {
        while !std::mem::take(&mut self.owes) {
            tokio::select! {
                line = self.lines.next() => match line? {
                    FollowerLine::Counts(counts) => {
                        self.owes = self.following.hear(&counts);
                        if !self.owes {
                            return None;
                        }
                    }
                    FollowerLine::Goodbye => {
                        self.following.leave();
                        return None;
                    }
                    FollowerLine::Subscribe(_) => return None,
                },
                () = self.following.news() => self.owes = true,
                () = sleep(LEASE) => return None,
            }
        }
        self.following.word()
    }
}
