//! Keeps the source of one Trigger: runs it as its Trigger says, one after the other, never two at
//! once, and starts it again if it should end by itself.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use rouse_core::delivery::{Heir, Target};
use rouse_core::source::ValidatedSource;
use rouse_peer::{Call, chain};
use tokio::sync::watch;
use tokio::time::sleep;

use super::status::Teller;
use super::triggers::Wanted;
use crate::bury::ToFunction;
use crate::failure::Failure;
use crate::kinds::{self, Means, Seat};
use crate::metrics::Metrics;
use crate::runner::{Bury, Outlook, Trouble, Wires};

/// How long to wait before a source that ended by itself is started again.
const PAUSE: Duration = Duration::from_secs(5);

/// What all keepers share.
pub(super) struct Shared {
    pub client: Client,
    pub caller: Arc<dyn Call>,
    pub means: Means,
    pub metrics: Metrics,
}

/// What a keeper is to run.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub wanted: Arc<Wanted>,
    /// What the Function allows.
    pub target: watch::Receiver<Option<Target>>,
    /// What the Function allows that gets dead letters.
    pub heir: Option<watch::Receiver<Option<Target>>>,
}

/// Keeps the source of one Trigger.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    assignments: watch::Receiver<Arc<Assignment>>,
}

impl Keeper {
    /// A keeper of what `assignments` says last, until nobody can say more.
    pub const fn new(shared: Arc<Shared>, assignments: watch::Receiver<Arc<Assignment>>) -> Self {
        Self { shared, assignments }
    }

    pub async fn run(mut self) {
        while self.assignments.has_changed().is_ok() {
            let assignment = self.assignments.borrow_and_update().clone();
            self.keep(&assignment).await;
        }
    }

    /// Runs one assignment until there is another, or none.
    async fn keep(&mut self, assignment: &Assignment) {
        let (stopper, stop) = watch::channel(false);
        let outlook = watch::Sender::new(Outlook::default());
        let Wanted { source, has_door, .. } = &*assignment.wanted;
        let metrics = self.shared.metrics.of(&source.key.name);
        let teller = Teller::new(&self.shared.client, &assignment.wanted, metrics.clone());
        let tell = teller.run(outlook.subscribe());
        let wires = Wires {
            caller: self.shared.caller.clone(),
            target: assignment.target.clone(),
            bury: self.shared.bury(source, assignment.heir.as_ref()),
            outlook: outlook.clone(),
            metrics,
            clock: Arc::new(Timestamp::now),
        };
        let seat = Seat { trigger: source, has_door: *has_door, wires, stop };
        let mut running = match kinds::start(&self.shared.means, seat) {
            Ok(running) => running,
            Err(failure) => {
                return self.rest(failure, &source.key.to_string(), (outlook, tell)).await;
            }
        };
        let ended_itself = tokio::select! {
            () = &mut running => true,
            _ = self.assignments.changed() => false,
            () = tell => false,
        };
        if ended_itself {
            tracing::error!(trigger = %source.key, "a source ended by itself and is started again");
            sleep(PAUSE).await;
        } else {
            stopper.send_replace(true);
            running.await;
        }
    }

    /// Tells that nothing can run until there is another assignment.
    async fn rest(
        &mut self,
        failure: Failure,
        trigger: &str,
        (outlook, tell): (watch::Sender<Outlook>, impl Future<Output = ()>),
    ) {
        let (reason, message) = (failure.reason(), chain(&failure));
        tracing::warn!(trigger, reason, error = message, "a source can't be run");
        let trouble = Some(Trouble { reason, message: message.into() });
        outlook.send_modify(|outlook| outlook.trouble = trouble);
        tokio::select! {
            _ = self.assignments.changed() => {}
            () = tell => {}
        }
    }
}

impl Shared {
    /// Where the dead letters of `source` are stored.
    fn bury(
        &self,
        source: &ValidatedSource,
        heir: Option<&watch::Receiver<Option<Target>>>,
    ) -> Option<Arc<dyn Bury>> {
        match source.settings.dead_letter.as_ref()? {
            Heir::Function(function) => Some(Arc::new(ToFunction {
                caller: self.caller.clone(),
                function: function.clone(),
                target: heir?.clone(),
            })),
            // What has no place is not acknowledged, and comes again.
            Heir::Nats(letters) => self.means.brokers().bury(letters, &source.key),
        }
    }
}
