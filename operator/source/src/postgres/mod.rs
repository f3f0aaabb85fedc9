//! Changes of a PostgreSQL database, by logical replication: a slot keeps how far the Function is,
//! `pgoutput` tells what was changed since, in the order of commits.
//!
//! The slot is told a position only when the Function is done with all before it. A slot that is
//! gone or lost what it kept is never made anew by itself: somebody must say how to go on.

mod connection;
mod feed;
mod login;
mod look;
mod refusal;
mod setup;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use rouse_core::delivery::Acks;
use rouse_core::event::{CloudEvent, Invalid, Message, to_event_bus};
use rouse_core::postgres::{Lsn, Place};
use rouse_crds::v1alpha1::PostgresTrigger;

use crate::address::Policy;
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::link::Link;
use crate::source::{Source, Terms};

/// What a source `postgres` is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What its Trigger says.
    pub trigger: PostgresTrigger,
    /// The source of its events: `/namespaces/N/triggers/T`.
    pub source: String,
    /// How far it was in another life, as it told then; none where it never was connected.
    pub checkpoint: Option<String>,
}

/// Brings the changes of a database.
pub struct Postgres {
    access: Arc<Access>,
    known: Known,
}

/// What reaching the server takes.
struct Access {
    settings: Settings,
    secrets: Secrets,
    policy: Arc<Policy>,
}

/// What is known from earlier connections.
#[derive(Debug, Default)]
struct Known {
    /// Whether the slot was there: one that vanishes takes what is known with it.
    slot: bool,
    /// The server and its timeline, of which the positions are.
    server: Option<(String, String)>,
    /// The last change with which the Function is done.
    done: Option<Place>,
    /// Up to here the server may forget its log, whether it has heard so or not.
    confirmed: Lsn,
}

impl Postgres {
    /// A source that reads its Secrets from `secrets` and connects to where `policy` lets it.
    pub fn new(settings: Settings, secrets: Secrets, policy: Arc<Policy>) -> Self {
        let told = settings.checkpoint.as_deref();
        let slot = told.is_some_and(|told| is_of(told, &settings.trigger.slot));
        let access = Arc::new(Access { settings, secrets, policy });
        Self { access, known: Known { slot, ..Known::default() } }
    }
}

/// How far a slot is, for the status. Its name tells whether it is this slot's once the Trigger has
/// another.
fn checkpoint(slot: &str, confirmed: Lsn) -> String {
    format!("{slot}/{confirmed}")
}

fn is_of(checkpoint: &str, slot: &str) -> bool {
    checkpoint.split_once('/').is_some_and(|(name, _)| name == slot)
}

impl Source for Postgres {
    type Token = Place;

    fn terms(&self) -> Terms {
        Terms { acks: Acks::UpTo, patience: None }
    }

    async fn run(&mut self, link: &mut Link<Place>) -> Result<(), Failure> {
        let mut wire = connection::open(&self.access, connection::Mode::Replication).await?;
        let stretch = setup::prepare(&mut wire, &self.access.settings, &mut self.known).await?;
        feed::run(wire, &self.access, &mut self.known, stretch, link).await
    }

    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid> {
        to_event_bus(events)
    }
}
