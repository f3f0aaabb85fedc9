//! The kinds of sources that are of a server elsewhere: streams, databases and buckets.

use std::sync::Arc;

use futures::future::BoxFuture;
use rouse_core::event::{CloudEvent, Invalid, Message};
use rouse_core::source::SourceKind;
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::{
    Entrance, EventFormat, NatsDeadLetters, NatsTrigger, S3Notifications, S3Trigger,
};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Means, Owner, Seat, Started};
use crate::address::Policy;
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::nats::{self, Connections, Letters, LettersTo, Nats};
use crate::office::Office;
use crate::postgres::{self, Postgres};
use crate::runner::{Bury, to_message};
use crate::s3::{self, Hearer, Notifications, S3, Servers};
use crate::source::Source;
use crate::webhook::Webhook;

/// What such sources are made of. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Brokers {
    secrets: Secrets,
    policy: Arc<Policy>,
    nats: Connections,
    office: Office,
    s3: Servers,
}

impl Brokers {
    pub(super) fn new(secrets: &Secrets, policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let nats = Connections::new(secrets.clone(), policy.clone());
        Self {
            secrets: secrets.clone(),
            policy,
            office: Office::new(nats.clone()),
            nats,
            s3: Servers::new(secrets.clone()),
        }
    }

    /// Stores the dead letters of a Trigger in a stream.
    #[expect(clippy::unnecessary_wraps, reason = "where this is not built in, nobody does")]
    pub fn bury(&self, letters: &NatsDeadLetters, trigger: &TriggerKey) -> Option<Arc<dyn Bury>> {
        let to = LettersTo::of(letters, trigger);
        Some(Arc::new(Letters::spawn(to, self.nats.clone())))
    }

    /// Answers people for the dead letters of a Trigger from now on; none: not any more.
    pub fn answer_for(&self, trigger: &str, owner: Option<Owner>) {
        self.office.set(trigger, owner);
    }

    pub(super) async fn serve_letters(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        self.office.serve(listener, stop).await;
    }

    pub(super) fn start(&self, means: &Means, seat: Seat<'_>) -> Started {
        match &seat.trigger.kind {
            SourceKind::Nats(nats) => {
                let source = self.reader(&seat, nats)?;
                Ok(seat.run(source))
            }
            SourceKind::Postgres(trigger) => {
                let settings = postgres::Settings {
                    trigger: trigger.clone(),
                    source: seat.own_path(),
                    checkpoint: seat.trigger.checkpoint.clone(),
                };
                Ok(seat.run(Postgres::new(settings, self.secrets.clone(), self.policy.clone())))
            }
            SourceKind::S3(s3) => self.start_s3(means, seat, s3),
            other => Err(Failure::NotSupported(other.name())),
        }
    }

    /// What reads the messages that the Trigger of `seat` names.
    fn reader(&self, seat: &Seat<'_>, trigger: &NatsTrigger) -> Result<Nats, Failure> {
        let settings = nats::Settings::of(trigger, &seat.own_name());
        let settings = settings.ok_or_else(|| Failure::Invalid("it names no stream".into()))?;
        let settings = settings.map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(Nats::new(settings, self.nats.clone()))
    }

    fn start_s3(&self, means: &Means, seat: Seat<'_>, s3: &S3Trigger) -> Started {
        let settings = s3::Settings::of(s3, &seat.trigger.uid, self.policy.clone());
        let settings = settings.map_err(|error| Failure::Invalid(error.to_string()))?;
        let (notifications, door) = match &s3.notifications {
            None => (None, None),
            Some(S3Notifications { http: Some(Entrance { at, token }), nats: _ }) => {
                let (bucket, secrets) = (&settings.scope.bucket, self.secrets.clone());
                let (told, door) = Notifications::at_door(bucket, token.clone(), secrets);
                (Some(told), Some((door, at)))
            }
            Some(S3Notifications { http: None, nats: Some(nats) }) => {
                (Some(self.hear(&seat, &settings, nats)?), None)
            }
            Some(S3Notifications { http: None, nats: None }) => {
                return Err(Failure::Invalid("its notifications come by no way".into()));
            }
        };
        Ok(seat.open(means, S3::new(settings, self.s3.clone(), notifications), door))
    }

    /// Hears the notifications that a server of S3 publishes.
    fn hear(
        &self,
        seat: &Seat<'_>,
        settings: &s3::Settings,
        trigger: &NatsTrigger,
    ) -> Result<Notifications, Failure> {
        let hearer = Hearer {
            key: seat.trigger.key.clone(),
            uid: seat.trigger.uid.clone(),
            source: format!("/s3/{}", settings.scope.bucket),
        };
        Ok(Notifications::through(self.reader(seat, trigger)?, hearer))
    }
}

impl Seat<'_> {
    /// A name that no other Trigger has, for what a source keeps at its server. It stays the same
    /// while the Trigger is changed.
    fn own_name(&self) -> String {
        format!("rouse-{}", self.trigger.uid)
    }

    fn run<S: Source>(self, source: S) -> BoxFuture<'static, ()> {
        self.run_with(source, ())
    }
}

/// What the Function of a Trigger with such a source is sent for `event`.
pub(crate) fn message_of(
    kind: &SourceKind,
    format: EventFormat,
    event: &CloudEvent,
) -> Result<Message, Invalid> {
    let events = [event];
    match kind {
        SourceKind::Nats(_) => to_message::<Nats>(format, &events),
        SourceKind::Postgres(_) => to_message::<Postgres>(format, &events),
        SourceKind::S3(_) => to_message::<S3>(format, &events),
        SourceKind::Webhook(_) | SourceKind::CloudEvents(_) => {
            to_message::<Webhook>(format, &events)
        }
    }
}
