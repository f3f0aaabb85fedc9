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

use super::Outlook;
use crate::failure::Failure;
use crate::link::{Link, Progress};
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
pub(crate) struct Kept {
    tasks: JoinSet<()>,
    teller: AbortHandle,
}

impl Kept {
    /// Starts `source`, and has its progress told to the keeper's outlook and to `note`.
    pub fn spawn<S: Source>(
        source: S,
        link: Link<S::Token>,
        keeper: Keeper,
        progress: watch::Receiver<Progress>,
        note: impl Fn(&Progress) + Send + 'static,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let outlook = keeper.outlook.clone();
        tasks.spawn(keeper.keep(source, link));
        let teller = tasks.spawn(tell(progress, outlook, note));
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
    note: impl Fn(&Progress),
) {
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().clone();
        note(&now);
        outlook.send_modify(|outlook| {
            if now.connected || now.trouble.is_some() {
                outlook.trouble.clone_from(&now.trouble);
            }
            outlook.progress = now;
        });
    }
}

/// Keeps the source of a Trigger, or what it hears of.
pub(crate) struct Keeper {
    key: TriggerKey,
    outlook: watch::Sender<Outlook>,
    chance: Chance,
}

impl Keeper {
    /// A keeper for the Trigger `key`, whose `uid` chance follows from.
    pub fn new(key: TriggerKey, uid: &str, outlook: watch::Sender<Outlook>) -> Self {
        Self { key, outlook, chance: Chance::new(seed_of(uid), 1) }
    }

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

#[cfg(test)]
mod tests {
    use rouse_core::delivery::Acks;
    use rouse_core::event::{CloudEvent, Invalid, Message};
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;
    use crate::link::linked;
    use crate::source::Terms;

    /// A source of which a part fails at first; then it is well, then all of it fails.
    struct Half(Arc<Notify>);

    impl Source for Half {
        type Token = ();

        fn terms(&self) -> Terms {
            Terms { acks: Acks::Each, patience: None }
        }

        async fn run(&mut self, link: &mut Link<()>) -> Result<(), Failure> {
            let message = "a part fails".into();
            link.set_trouble(Trouble { reason: "SourceMissing", message });
            self.0.notified().await;
            link.set_connected(true);
            self.0.notified().await;
            link.set_trouble(Trouble { reason: "SourceMissing", message: "again".into() });
            Err(Failure::away("reading", "broken off"))
        }

        fn to_lambda(_: &[&CloudEvent]) -> Result<Message, Invalid> {
            Err(Invalid::Missing("reader"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_keeps_a_part_from_its_work_is_told_until_it_is_over() {
        let (link, far) = linked();
        let (outlook, mut told) = watch::channel(Outlook::default());
        let key = TriggerKey { namespace: "shop".into(), name: "t".into() };
        let (next, keeper) = (Arc::new(Notify::new()), Keeper::new(key, "u", outlook));
        let _kept = Kept::spawn(Half(next.clone()), link, keeper, far.progress.clone(), |_| {});
        let mut is = async |connected: bool, trouble: Option<&str>| {
            let told = told.wait_for(|told| {
                let message = told.trouble.as_ref().map(|trouble| &*trouble.message);
                (told.progress.connected, message) == (connected, trouble)
            });
            assert!(timeout(GOOD, told).await.is_ok(), "{connected} {trouble:?}");
        };
        is(false, Some("a part fails")).await;
        next.notify_one();
        is(true, None).await;
        next.notify_one();
        is(false, Some("reading: broken off")).await;
        is(false, Some("a part fails")).await;
    }
}
