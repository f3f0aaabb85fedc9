//! Objects of a bucket that come or go: found by listing the bucket, and told by the server at a door
//! where it can, which only makes it sooner.
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
mod look;
mod pass;
mod settings;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rouse_core::delivery::Acks;
use rouse_core::event::{CloudEvent, Invalid, Message};
use rouse_core::s3::{Index, to_s3};
use rouse_core::webhook::Scheme;
use rouse_crds::v1alpha1::Entrance;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::book::Book;
use self::client::Objects;
use self::desk::Desk;
use self::store::Store;
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::link::Link;
use crate::source::{Source, Terms};
use crate::webhook::{Door, Intake, Kind, Offered, WebhookSettings};

pub use settings::{Server, Settings};

/// How long a server that tells of an object waits for an answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// What a notification may have.
const BODY_LIMIT: usize = 1 << 20;

/// Brings what becomes of the objects of a bucket.
pub struct S3 {
    settings: Settings,
    secrets: Secrets,
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

/// What comes in at the door.
struct Notifications {
    intake: Arc<Intake>,
    offered: mpsc::UnboundedReceiver<Offered>,
}

/// A source, and the door at which its server tells, where the Trigger has one.
pub fn open(settings: Settings, at: Option<&Entrance>, secrets: Secrets) -> (S3, Option<Door>) {
    let (mut notifications, mut door) = (None, None);
    if let Some(Entrance { at: _, token }) = at {
        let at_door = Arc::new(WebhookSettings {
            scheme: Scheme::Bearer,
            secret: token.clone(),
            kind: Kind::Bucket,
            patience: PATIENCE,
            body_limit: BODY_LIMIT,
            source: format!("/s3/{}", settings.scope.bucket),
        });
        let (intake, offered, at_door) = crate::webhook::enter(at_door, secrets.clone());
        notifications = Some(Notifications { intake, offered });
        door = Some(at_door);
    }
    let state = State {
        book: Book::default(),
        index: None,
        cursor: None,
        rests_until: None,
        began: Instant::now(),
    };
    (S3 { settings, secrets, notifications, state }, door)
}

impl Source for S3 {
    /// The id of a change of an object.
    type Token = Arc<str>;

    fn terms(&self) -> Terms {
        Terms { acks: Acks::Each, patience: None }
    }

    async fn run(&mut self, link: &mut Link<Self::Token>) -> Result<(), Failure> {
        let server = Arc::new(Objects::open(&self.settings.server, &self.secrets).await?);
        let store = Store::new(server.clone(), &self.settings);
        let scope = &self.settings.scope;
        // Whether the bucket is there, and what time it is where it is.
        let now = server.list(&scope.bucket, &scope.prefix, None, 1).await?.made;
        let index = match self.state.index.take() {
            Some(index) => index,
            None => Arc::new(store.load(self.settings.start, now).await?),
        };
        link.set_connected(true);
        let mut desk = Desk::new(self, store, index, now);
        let outcome = desk.work(link).await;
        desk.leave();
        outcome
    }

    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid> {
        to_s3(events)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(Notifications { intake, .. }) = &self.notifications {
            intake.close();
        }
    }
}
