//! Webhooks and CloudEvents that others send over HTTP: a [`Door`] is knocked at, a [`Webhook`]
//! brings what came in to the runner, and the sender is answered when the Function is done with it.
//!
//! Nothing is kept across restarts: who hears no 2xx sends again, with the same id.

mod doors;
mod intake;

use std::sync::Arc;
use std::time::Duration;

use rouse_core::delivery::Acks;
#[cfg(feature = "brokers")]
use rouse_core::event::Data;
use rouse_core::event::{CloudEvent, Invalid, Message, to_event_bus};
use rouse_core::function::{Invalid as Unfit, parse_duration};
#[cfg(feature = "brokers")]
use rouse_core::s3::Told;
use rouse_core::webhook::Scheme;
use rouse_crds::v1alpha1::{CloudEventsTrigger, SecretKey, WebhookSender, WebhookTrigger};
use tokio::sync::mpsc;

use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::link::{Link, Next, Order};
use crate::source::{Brought, Source, Terms};

pub use doors::{Door, Doors, Hung, serve};
#[cfg(feature = "brokers")]
pub(crate) use intake::Answer;
pub(crate) use intake::{Fate, Intake, Offered};

/// What a body may have. GitHub sends 25 MiB at most, which it hardly ever does.
const BODY_LIMIT: usize = 4 << 20;
/// How long who sends CloudEvents waits for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What comes in, and from whom.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// How a sender proves who it is.
    pub scheme: Scheme,
    /// What the sender proves to know.
    pub secret: SecretKey,
    /// What the body is.
    pub kind: Kind,
    /// How long a sender waits for an answer.
    pub patience: Duration,
    /// What a body may have.
    pub body_limit: usize,
    /// The source of events that name none: `/namespaces/N/triggers/T`.
    pub source: String,
}

impl WebhookSettings {
    /// Those of a Trigger `own` (`/namespaces/N/triggers/T`) for webhooks.
    pub fn of_webhook(trigger: &WebhookTrigger, own: &str) -> Result<Self, Unfit> {
        let (scheme, kind) = match trigger.sender {
            WebhookSender::GitHub => (Scheme::GitHub, Kind::github()),
            WebhookSender::GitLab => (Scheme::GitLab, Kind::gitlab()),
        };
        Ok(Self {
            scheme,
            secret: trigger.secret.clone(),
            kind,
            patience: parse_duration("spec.webhook.patience", &trigger.patience)?,
            body_limit: BODY_LIMIT,
            source: own.to_owned(),
        })
    }

    /// Those of a Trigger `own` for CloudEvents.
    pub fn of_cloud_events(trigger: &CloudEventsTrigger, own: &str) -> Self {
        Self {
            scheme: Scheme::Bearer,
            secret: trigger.at.token.clone(),
            kind: Kind::CloudEvents,
            patience: PATIENCE,
            body_limit: BODY_LIMIT,
            source: own.to_owned(),
        }
    }
}

/// What a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CloudEvents.
    CloudEvents,
    /// Notifications of a bucket.
    #[cfg(feature = "brokers")]
    Bucket,
    /// The data of one event, as it is.
    Webhook {
        /// Headers, in lower case, of which the first that is there is the id of the delivery.
        id: Vec<String>,
        /// The header, in lower case, that says what happened.
        event: Option<String>,
        /// What stands before that in the type of the event: `com.github.`.
        prefix: String,
    },
}

impl Kind {
    /// Whether nothing is lost if the source ends before it took an event in hand: lists find it too.
    const fn is_listed(&self) -> bool {
        match self {
            Self::CloudEvents | Self::Webhook { .. } => false,
            #[cfg(feature = "brokers")]
            Self::Bucket => true,
        }
    }

    /// A webhook of GitHub.
    pub fn github() -> Self {
        Self::Webhook {
            id: vec!["x-github-delivery".into()],
            event: Some("x-github-event".into()),
            prefix: "com.github.".into(),
        }
    }

    /// A webhook of GitLab. `X-Gitlab-Event-UUID` is no id: all that one event leads to has the same.
    pub fn gitlab() -> Self {
        Self::Webhook {
            id: vec!["webhook-id".into(), "idempotency-key".into()],
            event: Some("x-gitlab-event".into()),
            prefix: "com.gitlab.".into(),
        }
    }
}

/// The source behind a door.
#[derive(Debug)]
pub struct Webhook {
    settings: Arc<WebhookSettings>,
    secrets: Secrets,
    intake: Arc<Intake>,
    offered: mpsc::UnboundedReceiver<Offered>,
}

/// A source, and the door at which it is reached.
pub fn open(settings: WebhookSettings, secrets: Secrets) -> (Webhook, Door) {
    let settings = Arc::new(settings);
    let (intake, offered, door) = enter(settings.clone(), secrets.clone());
    (Webhook { settings, secrets, intake, offered }, door)
}

/// A door, and what comes in at it.
pub(crate) fn enter(
    settings: Arc<WebhookSettings>,
    secrets: Secrets,
) -> (Arc<Intake>, mpsc::UnboundedReceiver<Offered>, Door) {
    // Bounded by the bytes that the intake lets in.
    let (sender, offered) = mpsc::unbounded_channel();
    let intake = Arc::new(Intake::new(sender));
    let door = Door::new(settings, secrets, intake.clone());
    (intake, offered, door)
}

/// What a server told of objects, each as an event of the kind [`Kind::Bucket`], which only the source
/// reads.
#[cfg(feature = "brokers")]
pub(crate) fn events_of(body: &[u8], source: &str) -> Result<Vec<CloudEvent>, String> {
    let told = rouse_core::s3::read_notifications(body).map_err(|error| error.to_string())?;
    let event = |told: Told| {
        Ok(CloudEvent {
            id: told.id(),
            source: source.to_owned(),
            kind: "dev.rouse.s3.notification".into(),
            time: told.at,
            subject: None,
            extensions: [].into(),
            data: Data::Bytes {
                content_type: "application/json".into(),
                bytes: serde_json::to_vec(&told).map_err(|error| error.to_string())?,
            },
        })
    };
    told.into_iter().map(event).collect()
}

/// What a server told of an object, as it stands in such an event.
#[cfg(feature = "brokers")]
pub(crate) fn told_of(event: &CloudEvent) -> Option<Told> {
    match &event.data {
        Data::Bytes { bytes, .. } => serde_json::from_slice(bytes).ok(),
        Data::Json(_) => None,
    }
}

impl Source for Webhook {
    type Token = Arc<str>;

    fn terms(&self) -> Terms {
        Terms { acks: Acks::Each, patience: None }
    }

    async fn run(&mut self, link: &mut Link<Self::Token>) -> Result<(), Failure> {
        self.secrets.fetch(&self.settings.secret)?;
        link.set_connected(true);
        loop {
            let has_room = !link.room().is_none();
            tokio::select! {
                biased;
                next = link.next() => match next {
                    Next::End => return Ok(()),
                    Next::Order(order) => self.carry_out(&order),
                    Next::Room => {}
                },
                Some(Offered { token, event, .. }) = self.offered.recv(), if has_room => {
                    link.bring(vec![Brought { key: None, event, token }]);
                }
            }
        }
    }

    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid> {
        to_event_bus(events)
    }
}

impl Webhook {
    fn carry_out(&self, order: &Order<Arc<str>>) {
        match order {
            Order::Acknowledge(batch) => {
                for (token, is_dropped) in batch.fates() {
                    let fate = if is_dropped { Fate::GivenUp } else { Fate::Done };
                    self.intake.settle(token, fate);
                }
            }
            Order::Release(batch) => {
                for token in batch.tokens() {
                    self.intake.settle(token, Fate::Released);
                }
            }
            // Whoever waits has no other patience.
            Order::Extend(_) => {}
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.intake.close();
    }
}

#[cfg(test)]
mod tests;
