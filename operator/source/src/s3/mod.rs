//! Objects of a bucket that come or go: found by listing the bucket, and told by the server where it
//! can (`notifications.rs`), which only makes it sooner.
//!
//! Which objects were told of stands in a ledger in the bucket (`store.rs`), the one thing that a
//! source keeps: nobody else could say after a restart what came and what went meanwhile. It is
//! written after the Function is done, ten seconds late at most; what a crash keeps it from noting
//! is told again, with the same id. Memory is bounded by a list of 1000 keys, the segments that
//! it is compared with, 8000 objects that are not written yet, and the index of the ledger.

mod book;
mod client;
mod desk;
mod dial;
mod ear;
mod look;
mod notifications;
mod pass;
mod servers;
mod settings;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rouse_core::delivery::Acks;
use rouse_core::event::{CloudEvent, Invalid, Message};
use rouse_core::s3::{Index, to_s3};
use tokio::time::Instant;

use self::book::Book;
use self::desk::Desk;
use self::store::Store;
use crate::failure::Failure;
use crate::link::Link;
use crate::source::{Source, Terms};

pub use ear::Hearer;
pub use notifications::Notifications;
pub use servers::Servers;
pub use settings::{Server, Settings};

/// Brings what becomes of the objects of a bucket.
pub struct S3 {
    settings: Settings,
    servers: Servers,
    notifications: Option<Notifications>,
    state: State,
}

/// What is known from one connection to the next.
struct State {
    book: Book,
    index: Option<Arc<Index>>,
    /// After which key the list goes on.
    cursor: Option<String>,
    /// When the next list begins; none while one goes on.
    rests_until: Option<Instant>,
    began: Instant,
}

impl S3 {
    /// A source of one of `servers`, which tells by `notifications` where it can.
    pub fn new(settings: Settings, servers: Servers, notifications: Option<Notifications>) -> Self {
        let state = State {
            book: Book::default(),
            index: None,
            cursor: None,
            rests_until: None,
            began: Instant::now(),
        };
        Self { settings, servers, notifications, state }
    }
}

impl Source for S3 {
    /// The id of a change of an object.
    type Token = Arc<str>;

    fn terms(&self) -> Terms {
        Terms { acks: Acks::Each, patience: None }
    }

    async fn run(&mut self, link: &mut Link<Self::Token>) -> Result<(), Failure> {
        let server = self.servers.open(&self.settings.server)?;
        let store = Store::new(server.clone(), &self.settings);
        let scope = &self.settings.scope;
        // Whether the bucket is there, and what time it is where it is.
        let now = server.list(&scope.bucket, &scope.prefix, None, 1).await?.made;
        let index = match self.state.index.take() {
            Some(index) => index,
            None => Arc::new(store.load(self.settings.start, now).await?),
        };
        let mut desk = Desk::new(self, store, index, now);
        desk.tell_state(link);
        let outcome = desk.work(link).await;
        desk.leave();
        if let (Ok(()), Some(notifications)) = (&outcome, &mut self.notifications) {
            notifications.end().await;
        }
        outcome
    }

    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid> {
        to_s3(events)
    }
}
