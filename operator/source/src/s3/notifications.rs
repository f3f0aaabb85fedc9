//! What a server tells of objects by itself, and to whom: to a door at which it sends, or to an ear
//! that hears what it publishes in NATS. Both let it in at one intake. Who publishes does not wait, so
//! the ear answers when it is known what became of it. Who sends does, and has few hands for all whom
//! it tells (MinIO one for each processor): the door answers when it has the notification. Whatever ends
//! the source then, the list that the next one begins with finds it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rouse_core::webhook::Scheme;
use rouse_crds::v1alpha1::SecretKey;
use tokio::sync::{mpsc, watch};

use super::ear::{Ear, Hearer};
use crate::credentials::Secrets;
use crate::runner::Outlook;
use crate::source::Source;
use crate::webhook::{Door, Fate, Intake, Kind, Offered, WebhookSettings, enter};

/// How long a server that sends may wait for an answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// What a notification may have.
const BODY_LIMIT: usize = 1 << 20;

/// What a server tells.
pub struct Notifications {
    intake: Arc<Intake>,
    offered: mpsc::UnboundedReceiver<Offered>,
    way: Way,
}

/// The way by which it comes.
enum Way {
    /// At a door, which others keep open.
    Door,
    /// By an ear.
    Ear(Ear),
}

/// What comes next.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Heard {
    /// The server told something.
    Offered(Offered),
    /// The ear is better or worse off.
    Outlook,
}

impl Notifications {
    /// Those of `bucket` that come to a door, from who knows `token`.
    pub fn at_door(bucket: &str, token: SecretKey, secrets: Secrets) -> (Self, Door) {
        let settings = WebhookSettings {
            scheme: Scheme::Bearer,
            secret: token,
            kind: Kind::Bucket,
            patience: PATIENCE,
            body_limit: BODY_LIMIT,
            source: format!("/s3/{bucket}"),
        };
        let (intake, offered, door) = enter(Arc::new(settings), secrets);
        (Self { intake, offered, way: Way::Door }, door)
    }

    /// Those that the messages of `source` are, for `hearer`.
    pub fn through<S: Source>(source: S, hearer: Hearer) -> Self {
        // Bounded by what the ear holds.
        let (sender, offered) = mpsc::unbounded_channel();
        let intake = Arc::new(Intake::new(sender));
        let ear = Ear::spawn(source, hearer, intake.clone());
        Self { intake, offered, way: Way::Ear(ear) }
    }

    /// Waits for what comes next; for what is told only with `has_place`. Nothing is lost when it is
    /// dropped.
    pub(super) async fn next(&mut self, has_place: bool) -> Heard {
        tokio::select! {
            Some(offered) = self.offered.recv(), if has_place => Heard::Offered(offered),
            () = changed(self.way.outlook_mut()) => Heard::Outlook,
        }
    }

    /// Tells who waits for it what became of an event.
    pub(super) fn settle(&self, token: &Arc<str>, fate: Fate) {
        self.intake.settle(token, fate);
    }

    /// How the ear is off; none where there is a door.
    pub(super) fn outlook(&self) -> Option<Outlook> {
        match &self.way {
            Way::Door => None,
            Way::Ear(ear) => Some(ear.outlook.borrow().clone()),
        }
    }

    /// Takes nothing more in, and sees the last answers off.
    pub(super) async fn end(&mut self) {
        self.intake.close();
        if let Way::Ear(ear) = &mut self.way {
            ear.end().await;
        }
    }
}

impl Way {
    const fn outlook_mut(&mut self) -> Option<&mut watch::Receiver<Outlook>> {
        match self {
            Self::Door => None,
            Self::Ear(ear) => Some(&mut ear.outlook),
        }
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.intake.close();
    }
}

async fn changed(outlook: Option<&mut watch::Receiver<Outlook>>) {
    if let Some(outlook) = outlook
        && outlook.changed().await.is_ok()
    {
        return;
    }
    // There is none, or it ended with what it is of.
    pending::<()>().await;
}
