//! Timers for what is nearly always over long before them. A timer of the runtime costs a request
//! more than its routing does, and as much again where it is the next to run: then the thread is
//! woken for it. Here everybody waits for the thread's next tick first, and only those whom it
//! finds still waiting get a timer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};

use crate::body::AbortOnDrop;

/// Time between two ticks; there are none while nobody waits.
pub(crate) const TICK: Duration = Duration::from_millis(40);

/// The ticks of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Tick(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    _ticking: AbortOnDrop,
}

#[derive(Debug, Default)]
struct Shared {
    /// Somebody waits.
    wanted: Notify,
    passed: Notify,
}

impl Tick {
    /// Ticks in the runtime that this is called in, until it is dropped.
    pub(crate) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let ticking = AbortOnDrop::spawn(tick(Arc::clone(&shared)).boxed());
        Self(Arc::new(Inner { shared, _ticking: ticking }))
    }

    /// Waits for the next tick: not at all, or as long as there is between two.
    pub(crate) async fn passed(&self) {
        let Shared { wanted, passed } = &*self.0.shared;
        let next = passed.notified();
        wanted.notify_one();
        next.await;
    }

    /// What comes of `future`, unless it takes longer than `limit` from `begun` on.
    pub(crate) async fn timeout<F: Future>(
        &self,
        begun: Instant,
        limit: Duration,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Elapsed> {
        if limit > TICK * 2 {
            tokio::select! {
                biased;
                output = future.as_mut() => return Ok(output),
                () = self.passed() => {}
            }
        }
        timeout_at(begun + limit, future).await
    }
}

async fn tick(shared: Arc<Shared>) {
    loop {
        shared.wanted.notified().await;
        sleep(TICK).await;
        shared.passed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_kept_to_the_moment() {
        let tick = Tick::start();
        for millis in [1, 79, 80, 81, 1000, 300_000] {
            let limit = Duration::from_millis(millis);
            let nearly = Duration::from_millis(millis - 1);
            let begun = Instant::now();
            assert!(tick.timeout(begun, limit, pin!(std::future::pending::<()>())).await.is_err());
            assert_eq!(begun.elapsed(), limit);
            assert!(tick.timeout(Instant::now(), limit, pin!(sleep(nearly))).await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_comes_for_all_who_wait_and_for_nobody() {
        let tick = Tick::start();
        let begun = Instant::now();
        futures::future::join_all((0..10).map(|_| tick.passed())).await;
        assert!(begun.elapsed() <= TICK + Duration::from_millis(1));
        // One may have been asked for while the former was on its way.
        sleep(TICK * 3).await;
        let ticks = tick.0.shared.passed.notified();
        sleep(Duration::from_hours(1)).await;
        assert!(ticks.now_or_never().is_none());
    }
}
