//! What a source is.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rouse_core::delivery::Acks;
use rouse_core::event::{CloudEvent, Invalid, Message};

use crate::failure::Failure;
use crate::link::Link;

/// Brings the events of one server, for one Trigger.
pub trait Source: Send + 'static {
    /// What it needs to know of an event to acknowledge it: a sequence, a position, a subject to
    /// reply to.
    type Token: Send + Sync + 'static;

    /// On which terms the server hands its events out.
    fn terms(&self) -> Terms;

    /// Connects, and lives as long as the connection: brings events while there is [`Link::room`],
    /// and carries out the [`Order`](crate::Order)s. Credentials are read here, each time, so that
    /// a changed Secret is taken at the next connection. When it fails it is called again after a
    /// pause; it is well only at [`Next::End`](crate::Next::End). It may be dropped at any `.await`.
    ///
    /// A server that is asked anew brings again what was not acknowledged; what is still under way
    /// is recognised by its id and not delivered twice. A position that orders name may lie before
    /// one that was named earlier: the furthest counts.
    fn run(
        &mut self,
        link: &mut Link<Self::Token>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The shape that AWS gives to events of the like source.
    fn to_lambda(events: &[&CloudEvent]) -> Result<Message, Invalid>;
}

/// On which terms a server hands events out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it can be told to be done.
    pub acks: Acks,
    /// How long it waits for an acknowledgement before it hands an event out again; none where it
    /// waits as long as the connection lasts.
    pub patience: Option<Duration>,
}

/// An event as a source brings it.
#[derive(Debug)]
pub struct Brought<T> {
    /// Events of the same key are delivered one after the other; none where order means nothing.
    pub key: Option<Arc<str>>,
    /// The event. Its id is the same whenever it is brought.
    pub event: CloudEvent,
    /// What acknowledging it takes.
    pub token: T,
}
