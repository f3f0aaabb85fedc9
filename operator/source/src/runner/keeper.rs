//! Keeps a source connected: runs it again after a pause when it fails, and tells how it goes.

use std::sync::Arc;
use std::time::Duration;

use rouse_core::delivery::{Backoff, seed_of};
use rouse_core::simulation::chance::Chance;
use rouse_core::trigger::TriggerKey;
use rouse_peer::chain;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::{Outlook, Wires, Work};
use crate::failure::Failure;
use crate::link::{Link, Progress};
use crate::metrics::TriggerMetrics;
use crate::source::Source;

/// First pause after a failure; it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// A connection that lasted so long was a good one: pauses begin anew.
const GOOD: Duration = Duration::from_secs(10);

/// What keeps a source from its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word, for conditions.
    pub reason: &'static str,
    /// What happened.
    pub message: Arc<str>,
}

/// The task of a source; it ends with this.
pub(super) struct Kept {
    tasks: JoinSet<()>,
    teller: AbortHandle,
}

impl Kept {
    /// Starts `source`.
    pub fn spawn<S: Source>(
        source: S,
        link: Link<S::Token>,
        progress: watch::Receiver<Progress>,
        work: &Work,
        wires: &Wires,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let outlook = wires.outlook.clone();
        let chance = Chance::new(seed_of(&work.uid), 1);
        let keeper = Keeper { key: work.key.clone(), outlook: outlook.clone(), chance };
        tasks.spawn(keeper.keep(source, link));
        let teller = tasks.spawn(tell(progress, outlook, wires.metrics.clone()));
        Self { tasks, teller }
    }

    /// Waits for the source to see its last orders off.
    pub async fn ended(mut self) {
        self.teller.abort();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Passes on what the source tells.
async fn tell(
    mut progress: watch::Receiver<Progress>,
    outlook: watch::Sender<Outlook>,
    metrics: TriggerMetrics,
) {
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().clone();
        metrics.connected.set(i64::from(now.connected));
        metrics.lag.set(now.lag.and_then(|lag| lag.try_into().ok()).unwrap_or(0));
        outlook.send_if_modified(|outlook| {
            if now.connected {
                outlook.trouble = None;
            }
            outlook.progress = now;
            true
        });
    }
}

struct Keeper {
    key: TriggerKey,
    outlook: watch::Sender<Outlook>,
    chance: Chance,
}

impl Keeper {
    async fn keep<S: Source>(mut self, mut source: S, mut link: Link<S::Token>) {
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let Err(failure) = source.run(&mut link).await else { return };
            link.set_connected(false);
            if begun.elapsed() >= GOOD {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            self.note(&failure);
            let backoff = Backoff { min: SHORTEST_PAUSE, max: failure.longest_pause() };
            sleep(backoff.delay(failures, &mut self.chance)).await;
            if link.is_over() {
                return;
            }
        }
    }

    fn note(&self, failure: &Failure) {
        let (trigger, reason, message) = (&self.key, failure.reason(), chain(failure));
        let trouble = Trouble { reason, message: message.into() };
        let told = self.outlook.send_if_modified(|outlook| {
            let is_new = outlook.trouble.as_ref() != Some(&trouble);
            outlook.trouble = Some(trouble.clone());
            is_new
        });
        if told {
            tracing::warn!(%trigger, reason, error = &*trouble.message, "a source can't go on");
        }
    }
}
