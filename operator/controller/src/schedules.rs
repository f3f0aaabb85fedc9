//! Keeps the schedules of Triggers: one task for each. They run where the lead is, and whoever
//! leads next goes on from the progress that the status holds; what the former leader sent and did
//! not note is sent again with the same ids.

mod keeper;
mod progress;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rouse_core::schedule::ValidatedSchedule;
use rouse_peer::Call;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::context::Shared;

/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(50);

/// What schedules reach outside of the cluster's objects.
#[derive(Clone)]
pub(crate) struct Outside {
    /// Calls Functions.
    pub caller: Arc<dyn Call>,
    /// The clock on the wall.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// A schedule that is kept, until its Trigger changes.
struct Kept {
    generation: Option<i64>,
    task: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps all schedules. Never ends.
pub(crate) async fn run(context: Shared, outside: Outside) {
    let mut changes = context.claims.subscribe();
    context.triggers.ready().await;
    let mut functions_ready = context.functions_ready.subscribe();
    // The sender lives as long as the context.
    let _ = functions_ready.wait_for(|ready| *ready).await;
    let mut tasks = JoinSet::new();
    let mut kept: HashMap<String, Kept> = HashMap::new();
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        changes.mark_unchanged();
        let mut before = std::mem::take(&mut kept);
        for trigger in context.triggers.all() {
            let meta = &trigger.metadata;
            let Some(uid) = meta.uid.clone().filter(|_| meta.deletion_timestamp.is_none()) else {
                continue;
            };
            if let Some(same) = before.remove(&uid)
                && same.generation == meta.generation
            {
                kept.insert(uid, same);
            } else if let Some(Ok(schedule)) = ValidatedSchedule::of(&trigger) {
                let (context, outside) = (context.clone(), outside.clone());
                let keeper = keeper::Keeper::new(context, outside, &trigger, schedule);
                let task = tasks.spawn(keeper.run(count.clone()));
                kept.insert(uid, Kept { generation: meta.generation, task });
            }
        }
        // What is left of those before ends here.
        drop(before);
        while tasks.try_join_next().is_some() {}
        count.store(kept.len(), Ordering::Relaxed);
        context.metrics.set_schedules(kept.len());
        if changes.changed().await.is_err() {
            return;
        }
        sleep(GATHER).await;
    }
}
