//! In place of `brokers` where they are not built in: their Triggers say so.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "it has what `brokers` has, and does nothing with it"
)]

use std::sync::Arc;

use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::NatsDeadLetters;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Means, Owner, Seat, Started};
use crate::address::Policy;
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::runner::Bury;

/// What sources of servers elsewhere would be made of.
#[derive(Clone, Debug)]
pub(crate) struct Brokers;

impl Brokers {
    pub(super) fn new(_: &Secrets, _: Policy) -> Self {
        Self
    }

    /// There is no place for dead letters.
    pub fn bury(&self, _: &NatsDeadLetters, _: &TriggerKey) -> Option<Arc<dyn Bury>> {
        None
    }

    /// Nobody asks for them.
    pub fn answer_for(&self, _: &str, _: Option<Owner>) {}

    pub(super) async fn serve_letters(&self, _: TcpListener, mut stop: watch::Receiver<bool>) {
        let _ = stop.wait_for(|stop| *stop).await;
    }

    pub(super) fn start(&self, _: &Means, seat: Seat<'_>) -> Started {
        Err(Failure::NotSupported(seat.trigger.kind.name()))
    }
}
