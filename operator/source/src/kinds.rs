//! The one place that knows every kind of source: what a Trigger asks for becomes a source that
//! runs. Another kind is another arm of the match in [`start`], or of the one in `brokers`.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use rouse_core::delivery::Target;
use rouse_core::source::{SourceKind, ValidatedSource};
use rouse_crds::v1alpha1::Address;
use rouse_peer::Call;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::brokers::Brokers;
use crate::address::Policy;
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::runner::{Wires, Work, run};
use crate::source::Source;
use crate::webhook::{Door, Doors, WebhookSettings};

#[cfg(feature = "brokers")]
mod brokers;
#[cfg(not(feature = "brokers"))]
#[path = "kinds/no_brokers.rs"]
mod brokers;

#[cfg(feature = "brokers")]
pub(crate) use self::brokers::message_of;

/// What sources are made of. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Means {
    secrets: Secrets,
    doors: Doors,
    brokers: Brokers,
}

impl Means {
    /// Sources that read their Secrets from `secrets`, and connect where `policy` lets them.
    pub fn new(secrets: Secrets, policy: Policy) -> Self {
        let brokers = Brokers::new(&secrets, policy);
        Self { secrets, doors: Doors::default(), brokers }
    }

    /// What the sources of servers elsewhere are made of.
    pub(crate) const fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// Serves those who ask for dead letters, until `stop` turns true and those inside are answered.
    pub async fn serve_letters(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        self.brokers.serve_letters(listener, stop).await;
    }

    /// Where those are reached that others call.
    pub(crate) const fn doors(&self) -> &Doors {
        &self.doors
    }

    /// Serves those who send events, until `stop` turns true and those inside are answered.
    pub async fn serve(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        crate::webhook::serve(listener, self.doors.clone(), stop).await;
    }
}

/// A Trigger, and what sending to its Function takes.
#[cfg_attr(not(feature = "brokers"), expect(dead_code, reason = "there is nothing to send"))]
pub(crate) struct Owner {
    pub source: Arc<ValidatedSource>,
    pub target: watch::Receiver<Option<Target>>,
    pub caller: Arc<dyn Call>,
}

/// A source that runs when it is awaited, until the runner's `stop` turns true.
pub(crate) type Started = Result<BoxFuture<'static, ()>, Failure>;

/// Makes the source that the Trigger of `seat` asks for, and the runner between it and its Function.
/// What fails here fails until the Trigger is changed.
pub(crate) fn start(means: &Means, seat: Seat<'_>) -> Started {
    match &seat.trigger.kind {
        SourceKind::Webhook(webhook) => {
            let settings = WebhookSettings::of_webhook(webhook, &seat.own_path());
            let settings = settings.map_err(|error| Failure::Invalid(error.to_string()))?;
            let (source, door) = crate::webhook::open(settings, means.secrets.clone());
            Ok(seat.open(means, source, Some((door, &webhook.at))))
        }
        SourceKind::CloudEvents(events) => {
            let settings = WebhookSettings::of_cloud_events(events, &seat.own_path());
            let (source, door) = crate::webhook::open(settings, means.secrets.clone());
            Ok(seat.open(means, source, Some((door, &events.at.at))))
        }
        _ => means.brokers.start(means, seat),
    }
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
    /// The source of events that name none.
    fn own_path(&self) -> String {
        let key = &self.trigger.key;
        format!("/namespaces/{}/triggers/{}", key.namespace, key.name)
    }

    /// Runs a source, at whose door events come, where it has one.
    fn open<S: Source>(
        self,
        means: &Means,
        source: S,
        door: Option<(Door, &Address)>,
    ) -> BoxFuture<'static, ()> {
        let door = door.filter(|_| self.has_door);
        let hung = door.map(|(door, at)| means.doors().hang(&at.host, &at.path, door));
        self.run_with(source, hung)
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
