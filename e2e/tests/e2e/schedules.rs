//! Functions that the clock calls.

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use rouse_crds::v1alpha1::{Function, Trigger};
use rouse_e2e::scope::{PATIENCE, Scope, condition, hello};
use rouse_e2e::wait;
use serde_json::json;
use tokio::time::Instant;

fn last_delivered(trigger: &Trigger) -> Option<Timestamp> {
    Some(trigger.status.as_ref()?.schedule.as_ref()?.last_delivered.as_ref()?.0)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_asleep_is_woken_by_its_schedule_and_sleeps_again() {
    Scope::run("schedule", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let spec = json!({"function": "hello", "schedule": {"cron": "@every 20s"}});
        scope.apply_trigger("often", spec).await?;
        scope.trigger_is("often", "True", "Scheduled").await?;
        let mut last = None;
        for _ in 0..2 {
            scope.function("hello", PATIENCE, |f| condition(f, "Active") == Some("True")).await?;
            scope.asleep("hello", PATIENCE).await?;
            let trigger = wait::object(&scope.api::<Trigger>(), "often", PATIENCE, |trigger| {
                trigger.is_some_and(|trigger| last_delivered(trigger) > last)
            })
            .await?;
            last = trigger.as_ref().and_then(last_delivered);
        }
        scope.api::<Trigger>().delete("often", &DeleteParams::default()).await?;
        Ok(())
    })
    .await;
}

/// Whether a pod was asked for before the tick that was delivered last, and that tick waited for none.
fn met_by_a_pod(function: &Function, tick: Timestamp) -> bool {
    let Some(status) = &function.status else { return false };
    let lately = |time: Timestamp| (tick - SignedDuration::from_secs(10)..=tick).contains(&time);
    let called = tick - SignedDuration::from_secs(1);
    status.decisions.iter().any(|one| one.reason == "Schedule" && one.to == 1 && lately(one.time.0))
        && status.activations.iter().all(|one| one.requested_at.0 < called)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_is_up_when_the_tick_comes() {
    Scope::run("tick", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let spec = json!({"function": "hello", "schedule": {"cron": "@every 20s"}});
        scope.apply_trigger("often", spec).await?;
        // The start that is planned for follows the starts that were measured: the first ones may
        // come late on a machine that is busy with tests.
        let deadline = Instant::now() + 3 * PATIENCE;
        let mut last = None;
        let triggers = scope.api::<Trigger>();
        loop {
            let trigger = wait::object(&triggers, "often", PATIENCE, |trigger| {
                trigger.is_some_and(|trigger| last_delivered(trigger) > last)
            });
            last = trigger.await?.as_ref().and_then(last_delivered);
            let tick = last.context("a tick was delivered")?;
            // A waking is told a second late: once it sleeps again, all of it is.
            scope.asleep("hello", PATIENCE).await?;
            let function = scope.function("hello", PATIENCE, |_| true).await?;
            if met_by_a_pod(&function, tick) {
                break;
            }
            ensure!(Instant::now() < deadline, "no tick found a pod: {:#?}", function.status);
        }
        triggers.delete("often", &DeleteParams::default()).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_schedule_that_can_not_be_kept_says_why() {
    Scope::run("schedule-bad", async |scope| {
        let spec = json!({"function": "hello", "schedule": {"cron": "@daily"}});
        scope.apply_trigger("early", spec).await?;
        scope.trigger_is("early", "False", "FunctionMissing").await?;
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.trigger_is("early", "True", "Scheduled").await?;
        let spec = json!({"function": "hello", "schedule": {"cron": "0 0 30 2 *"}});
        scope.apply_trigger("never", spec).await?;
        scope.trigger_is("never", "False", "ScheduleInvalid").await
    })
    .await;
}
