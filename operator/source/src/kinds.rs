//! The one place that knows every kind of source: what a Trigger asks for becomes a source that
//! runs. Another kind is another arm of the match in [`start`].

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use rouse_core::event::{CloudEvent, Invalid, Message};
use rouse_core::source::{SourceKind, ValidatedSource};
#[cfg(feature = "webhook")]
use rouse_crds::v1alpha1::Address;
#[cfg(feature = "nats")]
use rouse_crds::v1alpha1::EventFormat;
#[cfg(any(feature = "nats", feature = "s3"))]
use rouse_crds::v1alpha1::NatsTrigger;
#[cfg(feature = "s3")]
use rouse_crds::v1alpha1::{Entrance, S3Notifications, S3Trigger};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::address::Policy;
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::runner::{Wires, Work, run};
use crate::source::Source;

/// What sources are made of. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Means {
    secrets: Secrets,
    #[cfg(feature = "nats")]
    office: crate::office::Office,
    #[cfg(feature = "nats")]
    nats: crate::nats::Connections,
    #[cfg(any(feature = "postgres", feature = "s3"))]
    policy: Arc<Policy>,
    #[cfg(feature = "s3")]
    s3: crate::s3::Servers,
    #[cfg(feature = "webhook")]
    doors: crate::webhook::Doors,
}

impl Means {
    /// Sources that read their Secrets from `secrets`, and connect where `policy` lets them.
    pub fn new(secrets: Secrets, policy: Policy) -> Self {
        let policy = Arc::new(policy);
        #[cfg(feature = "nats")]
        let nats = crate::nats::Connections::new(secrets.clone(), policy.clone());
        Self {
            #[cfg(feature = "nats")]
            office: crate::office::Office::new(nats.clone()),
            #[cfg(feature = "nats")]
            nats,
            #[cfg(any(feature = "postgres", feature = "s3"))]
            policy,
            #[cfg(feature = "s3")]
            s3: crate::s3::Servers::new(secrets.clone()),
            secrets,
            #[cfg(feature = "webhook")]
            doors: crate::webhook::Doors::default(),
        }
    }

    /// Where people ask for dead letters.
    #[cfg(feature = "nats")]
    pub(crate) const fn office(&self) -> &crate::office::Office {
        &self.office
    }

    /// Serves those who ask for dead letters, until `stop` turns true and those inside are answered.
    #[cfg(feature = "nats")]
    pub async fn serve_letters(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        self.office.serve(listener, stop).await;
    }

    /// Nobody is served: nothing here keeps dead letters.
    #[cfg(not(feature = "nats"))]
    pub async fn serve_letters(&self, _: TcpListener, mut stop: watch::Receiver<bool>) {
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Connections to servers of NATS.
    #[cfg(feature = "nats")]
    pub(crate) fn nats(&self) -> crate::nats::Connections {
        self.nats.clone()
    }

    /// Where those are reached that others call.
    #[cfg(feature = "webhook")]
    pub(crate) const fn doors(&self) -> &crate::webhook::Doors {
        &self.doors
    }

    /// Serves those who send events, until `stop` turns true and those inside are answered.
    #[cfg(feature = "webhook")]
    pub async fn serve(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        crate::webhook::serve(listener, self.doors.clone(), stop).await;
    }

    /// Nobody is served: there are no sources that others call.
    #[cfg(not(feature = "webhook"))]
    pub async fn serve(&self, _: TcpListener, mut stop: watch::Receiver<bool>) {
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// A source that runs when it is awaited, until the runner's `stop` turns true.
pub(crate) type Started = Result<BoxFuture<'static, ()>, Failure>;

/// Makes the source that the Trigger of `seat` asks for, and the runner between it and its Function.
/// What fails here fails until the Trigger is changed.
pub(crate) fn start(means: &Means, seat: Seat<'_>) -> Started {
    match &seat.trigger.kind {
        #[cfg(feature = "nats")]
        SourceKind::Nats(nats) => {
            let source = reader(means, &seat, nats)?;
            Ok(seat.run(source))
        }
        #[cfg(feature = "postgres")]
        SourceKind::Postgres(postgres) => {
            use crate::postgres::{Postgres, Settings};
            let settings = Settings {
                trigger: postgres.clone(),
                source: seat.own_path(),
                checkpoint: seat.trigger.checkpoint.clone(),
            };
            Ok(seat.run(Postgres::new(settings, means.secrets.clone(), means.policy.clone())))
        }
        #[cfg(feature = "s3")]
        SourceKind::S3(s3) => start_s3(means, seat, s3),
        #[cfg(feature = "webhook")]
        SourceKind::Webhook(webhook) => {
            use crate::webhook::WebhookSettings;
            let settings = WebhookSettings::of_webhook(webhook, &seat.own_path());
            let settings = settings.map_err(|error| Failure::Invalid(error.to_string()))?;
            let (source, door) = crate::webhook::open(settings, means.secrets.clone());
            Ok(seat.open(means, source, Some((door, &webhook.at))))
        }
        #[cfg(feature = "webhook")]
        SourceKind::CloudEvents(events) => {
            use crate::webhook::WebhookSettings;
            let settings = WebhookSettings::of_cloud_events(events, &seat.own_path());
            let (source, door) = crate::webhook::open(settings, means.secrets.clone());
            Ok(seat.open(means, source, Some((door, &events.at.at))))
        }
        #[allow(unreachable_patterns, reason = "all kinds may be there")]
        other => Err(Failure::NotSupported(other.name())),
    }
}

/// What reads the messages that the Trigger of `seat` names.
#[cfg(feature = "nats")]
fn reader(
    means: &Means,
    seat: &Seat<'_>,
    trigger: &NatsTrigger,
) -> Result<crate::nats::Nats, Failure> {
    use crate::nats::{Nats, Settings};
    let settings = Settings::of(trigger, &seat.own_name());
    let settings = settings.ok_or_else(|| Failure::Invalid("it names no stream".into()))?;
    let settings = settings.map_err(|error| Failure::Invalid(error.to_string()))?;
    Ok(Nats::new(settings, means.nats()))
}

/// The same for objects of a bucket.
#[cfg(feature = "s3")]
fn start_s3(means: &Means, seat: Seat<'_>, s3: &S3Trigger) -> Started {
    use crate::s3::{Notifications, S3, Settings};
    let settings = Settings::of(s3, &seat.trigger.uid, means.policy.clone());
    let settings = settings.map_err(|error| Failure::Invalid(error.to_string()))?;
    let (notifications, door) = match &s3.notifications {
        None => (None, None),
        Some(S3Notifications { http: Some(Entrance { at, token }), nats: _ }) => {
            let (bucket, secrets) = (&settings.scope.bucket, means.secrets.clone());
            let (told, door) = Notifications::at_door(bucket, token.clone(), secrets);
            (Some(told), Some((door, at)))
        }
        Some(S3Notifications { http: None, nats: Some(nats) }) => {
            (Some(hear(means, &seat, &settings, nats)?), None)
        }
        Some(S3Notifications { http: None, nats: None }) => {
            return Err(Failure::Invalid("its notifications come by no way".into()));
        }
    };
    Ok(seat.open(means, S3::new(settings, means.s3.clone(), notifications), door))
}

/// Hears the notifications that a server of S3 publishes.
#[cfg(all(feature = "nats", feature = "s3"))]
fn hear(
    means: &Means,
    seat: &Seat<'_>,
    settings: &crate::s3::Settings,
    trigger: &NatsTrigger,
) -> Result<crate::s3::Notifications, Failure> {
    let hearer = crate::s3::Hearer {
        key: seat.trigger.key.clone(),
        uid: seat.trigger.uid.clone(),
        source: format!("/s3/{}", settings.scope.bucket),
    };
    Ok(crate::s3::Notifications::through(reader(means, seat, trigger)?, hearer))
}

/// There is nothing that hears them.
#[cfg(all(not(feature = "nats"), feature = "s3"))]
const fn hear(
    _: &Means,
    _: &Seat<'_>,
    _: &crate::s3::Settings,
    _: &NatsTrigger,
) -> Result<crate::s3::Notifications, Failure> {
    Err(Failure::NotSupported("s3.notifications.nats"))
}

/// What the Function of a Trigger with such a source is sent for `event`. None where this build has no
/// such source.
#[cfg(feature = "nats")]
pub(crate) fn message_of(
    kind: &SourceKind,
    format: EventFormat,
    event: &CloudEvent,
) -> Option<Result<Message, Invalid>> {
    use crate::runner::to_message;
    let events = [event];
    Some(match kind {
        #[cfg(feature = "nats")]
        SourceKind::Nats(_) => to_message::<crate::nats::Nats>(format, &events),
        #[cfg(feature = "postgres")]
        SourceKind::Postgres(_) => to_message::<crate::postgres::Postgres>(format, &events),
        #[cfg(feature = "s3")]
        SourceKind::S3(_) => to_message::<crate::s3::S3>(format, &events),
        #[cfg(feature = "webhook")]
        SourceKind::Webhook(_) | SourceKind::CloudEvents(_) => {
            to_message::<crate::webhook::Webhook>(format, &events)
        }
        #[allow(unreachable_patterns, reason = "all kinds may be there")]
        _ => return None,
    })
}

/// Where a source sits: between a Trigger and all that its runner reaches.
pub(crate) struct Seat<'a> {
    pub trigger: &'a ValidatedSource,
    /// Whether the host and path at which it is called, where it is, are its own.
    pub has_door: bool,
    pub wires: Wires,
    /// Turns true when it shall end.
    pub stop: watch::Receiver<bool>,
}

impl Seat<'_> {
    /// A name that no other Trigger has, for what a source keeps at its server. It stays the same
    /// while the Trigger is changed.
    fn own_name(&self) -> String {
        format!("rouse-{}", self.trigger.uid)
    }

    /// The source of events that name none.
    fn own_path(&self) -> String {
        let key = &self.trigger.key;
        format!("/namespaces/{}/triggers/{}", key.namespace, key.name)
    }

    /// Runs a source, at whose door events come, where it has one.
    #[cfg(feature = "webhook")]
    fn open<S: Source>(
        self,
        means: &Means,
        source: S,
        door: Option<(crate::webhook::Door, &Address)>,
    ) -> BoxFuture<'static, ()> {
        let door = door.filter(|_| self.has_door);
        let hung = door.map(|(door, at)| means.doors().hang(&at.host, &at.path, door));
        self.run_with(source, hung)
    }

    fn run<S: Source>(self, source: S) -> BoxFuture<'static, ()> {
        self.run_with(source, ())
    }

    /// Runs `source`, and drops `kept` when it is over.
    fn run_with<S: Source, K: Send + 'static>(self, source: S, kept: K) -> BoxFuture<'static, ()> {
        let ValidatedSource { key, uid, function, filter, settings, kind: _, checkpoint: _ } =
            self.trigger.clone();
        let work = Work { key, uid, function, filter, settings };
        let Self { wires, stop, .. } = self;
        async move {
            run(source, work, wires, stop).await;
            drop(kept);
        }
        .boxed()
    }
}
