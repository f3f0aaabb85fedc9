//! What Rouse promises while its own parts restart. These tests disturb the operator that all
//! share, so they run after the others and one at a time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod outages;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use rouse_core::scaling::idle::history::{Ended, History, IdleTime};
use rouse_crds::v1alpha1::{Function, Learned, Trigger};
use rouse_e2e::cluster::{Cluster, NAMESPACE};
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, condition, hello};
use rouse_e2e::steady::{Load, Share};
use rouse_e2e::{activators, wait};
use serde_json::{Value, json};
use tokio::time::sleep_until;

const CONTROLLERS: &str = "app.kubernetes.io/component=controller";
/// Requests a second, for each Function.
const RATE: f64 = 170.0;
/// How long the survivor of a SIGKILL is looked at.
const AFTER_KILL: Duration = Duration::from_secs(15);

/// Three Functions (warm, warm with a hard limit, asleep at first), and who calls them.
async fn called(scope: &Scope) -> anyhow::Result<Vec<Share>> {
    let limited = json!({"scaling": {"min": 1}, "concurrency": {"limit": 10}});
    let mut shares = Vec::new();
    for (name, more) in
        [("warm", json!({"scaling": {"min": 1}})), ("limited", limited), ("cold", json!({}))]
    {
        scope.apply_function(name, hello(&more)).await?;
        match name {
            "cold" => scope.asleep(name, PATIENCE).await?,
            _ => drop(scope.function(name, PATIENCE, is_active).await?),
        }
        shares.extend(activators::mixed_shares(&scope.cluster, &scope.host(name), 12, RATE));
    }
    Ok(shares)
}

fn is_active(function: &Function) -> bool {
    condition(function, "Active") == Some("True")
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn activators_that_are_deleted_under_load_fail_no_request() {
    Scope::run("activators", async |scope| {
        let cluster = &scope.cluster;
        let before = activators::two(cluster).await?;
        let load = Load::start(activators::addresses(&before)?, &called(&scope).await?, false);
        for pod in &before {
            activators::delete(cluster, pod).await?;
            let uid = pod.metadata.uid.as_deref();
            load.follow(cluster, |pods| activators::are_two(pods, uid)).await?;
        }
        let outcome = load.stop().await;
        assert!(outcome.failed.is_empty() && outcome.mended.is_empty(), "{outcome:#?}");
        assert!(outcome.good.values().all(|good| *good > 500), "{outcome:#?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_activator_that_is_killed_is_noticed_by_its_own_connections_alone() {
    if Cluster::audit_log().is_none() {
        eprintln!("skipped: the activators run on another machine");
        return;
    }
    Scope::run("killed", async |scope| {
        let cluster = &scope.cluster;
        let shares = called(&scope).await?;
        let pods = activators::two(cluster).await?;
        let [victim, survivor] = pods.as_slice() else { bail!("there are two activators") };
        let load = Load::start(activators::addresses(&pods)?, &shares, true);
        // Everybody is connected, and who slept is awake.
        load.reached(1000).await;
        let killed = activators::kill(victim)?;
        sleep_until(killed + AFTER_KILL).await;
        let outcome = load.stop().await;
        let survivor = activators::address(survivor)?;
        let all = || outcome.failed.iter().chain(&outcome.mended);
        let on_survivor: Vec<_> = all()
            .filter(|f| f.address == survivor && f.since.is_some_and(|s| s < killed))
            .collect();
        assert!(on_survivor.is_empty(), "{on_survivor:#?}");
        assert!(all().any(|failed| failed.since.is_some()), "the victim had connections");
        // Nobody is told that a Function is not there: a container that was started again knows
        // none at first.
        let told = all().find(|failed| failed.what.starts_with("404"));
        assert!(told.is_none(), "{told:?}");
        // In a minute it would be one in a thousand.
        let most = RATE * 3.0 * 60.0 / 1000.0;
        assert!(u32::try_from(outcome.failed.len()).map(f64::from)? <= most, "{outcome:#?}");
        activators::two(cluster).await.map(drop)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_controller_that_restarts_at_rest_writes_nothing_but_its_lease() {
    let Some(log) = Cluster::audit_log() else {
        eprintln!("skipped: this cluster has no audit log (ROUSE_E2E_AUDIT_LOG)");
        return;
    };
    Scope::run("rest", async |scope| {
        for name in ["one", "two"] {
            scope.apply_function(name, hello(&json!({}))).await?;
            scope.apply_trigger(
                name,
                json!({"function": name, "http": {"hosts": [format!("{name}.e2e.example.com")]}}),
            )
            .await?;
            scope.asleep(name, PATIENCE).await?;
            scope.trigger_is(name, "True", "Admitted").await?;
        }
        let read_from = std::fs::metadata(&log)?.len();
        let api = activators::pods(&scope.cluster);
        let leases: Api<Lease> = Api::namespaced(scope.cluster.client.clone(), NAMESPACE);
        let before =
            activators::uids(&api.list(&ListParams::default().labels(CONTROLLERS)).await?.items);
        let delete = DeleteParams::default();
        api.delete_collection(&delete, &ListParams::default().labels(CONTROLLERS)).await?;
        let after = wait::list(&api, CONTROLLERS, PATIENCE, |pods| {
            pods.len() == before.len()
                && pods.iter().all(activators::is_ready)
                && activators::uids(pods).is_disjoint(&before)
        })
        .await?;
        let names: BTreeSet<_> = after.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        wait::object(&leases, "rouse-controller", PATIENCE, |lease| {
            let holder = lease.and_then(|l| l.spec.as_ref()?.holder_identity.clone());
            holder.is_some_and(|holder| names.iter().any(|name| holder.contains(name.as_str())))
        })
        .await?;
        // A Function that is seen through elsewhere proves that the new leader has been at work.
        let elsewhere = Scope::new("elsewhere").await?;
        elsewhere.apply_function("hello", hello(&json!({}))).await?;
        elsewhere.asleep("hello", PATIENCE).await?;
        elsewhere.delete().await?;
        let writes = writes_since(&log, read_from, "rouse-controller")?;
        assert!(!writes.is_empty(), "the log must show the new leader at work");
        let unexpected: Vec<&Value> = writes
            .iter()
            .map(|event| &event["objectRef"])
            .filter(|object| object["resource"] != "leases")
            .filter(|object| {
                [scope.namespace.as_str(), NAMESPACE].iter().any(|ns| object["namespace"] == *ns)
            })
            .collect();
        assert!(unexpected.is_empty(), "{unexpected:#?}");
        Ok(())
    })
    .await;
}

/// Writes that the API server carried out for a ServiceAccount of Rouse since `offset`.
fn writes_since(log: &std::path::Path, offset: u64, account: &str) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read(log)?;
    let new = text.get(usize::try_from(offset)?..).context("the log was cut")?;
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let mut writes = Vec::new();
    for line in new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line)?;
        let verb = event["verb"].as_str().unwrap_or_default();
        if event["user"]["username"] == user.as_str()
            && ["create", "update", "patch", "delete", "deletecollection"].contains(&verb)
        {
            writes.push(event);
        }
    }
    Ok(writes)
}

/// Kills the controller that leads, without any grace.
async fn kill_the_leader(cluster: &Cluster) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let lease = leases.get("rouse-controller").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).context("somebody leads")?;
    let name = holder.split('_').next().unwrap_or_default();
    let pods = activators::pods(cluster);
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn schedules_lose_no_tick_when_controllers_are_killed_and_each_has_one_id() {
    Scope::run("ticks", async |scope| {
        scope.apply_function("hello", hello(&json!({"scaling": {"min": 1, "max": 1}}))).await?;
        let spec = json!({"function": "hello", "schedule": {"cron": "@every 2s"}});
        scope.apply_trigger("often", spec).await?;
        scope.trigger_is("often", "True", "Scheduled").await?;
        for _ in 0..3 {
            kill_the_leader(&scope.cluster).await?;
            let killed = Timestamp::now();
            wait::object(&scope.api::<Trigger>(), "often", PATIENCE, |trigger| {
                let status = trigger.and_then(|trigger| trigger.status.as_ref()?.schedule.as_ref());
                status.is_some_and(|status| status.settled_until.0 > killed)
            })
            .await?;
        }
        let trigger = scope.api::<Trigger>().get("often").await?;
        let made = trigger.metadata.creation_timestamp.context("it has an age")?.0;
        let long_enough = made + SignedDuration::from_secs(24);
        wait::object(&scope.api::<Trigger>(), "often", PATIENCE, |trigger| {
            let status = trigger.and_then(|trigger| trigger.status.as_ref()?.schedule.as_ref());
            status.is_some_and(|status| status.settled_until.0 > long_enough)
        })
        .await?;
        let events = Caller::new(scope.cluster.activator);
        let events = events.get(&scope.host("hello"), "/events").await?;
        let mut ids: BTreeMap<Timestamp, BTreeSet<&str>> = BTreeMap::new();
        for line in std::str::from_utf8(&events.body)?.lines() {
            let (id, time) = line.split_once(' ').context("an id and a time")?;
            ids.entry(time.parse()?).or_default().insert(id);
        }
        let times: Vec<_> = ids.keys().collect();
        assert!(times.len() > 10, "{ids:?}");
        let gaps = times.windows(2).filter(|pair| pair[1].duration_since(*pair[0]).as_secs() != 2);
        assert_eq!(gaps.count(), 0, "no tick is lost: {ids:?}");
        assert_eq!(times[0].duration_since(made).as_secs(), 2, "not the first either: {ids:?}");
        assert!(ids.values().all(|ids| ids.len() == 1), "each tick has one id: {ids:?}");
        let distinct: BTreeSet<_> = ids.values().flatten().collect();
        assert_eq!(distinct.len(), ids.len(), "no two ticks have the same: {ids:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn rouse_itself_runs_two_of_each() {
    let cluster = Cluster::connect().await.expect("there is a cluster");
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for name in ["rouse-controller", "rouse-activator"] {
        wait::object(&deployments, name, PATIENCE, |deployment| {
            let status = deployment.and_then(|d| d.status.as_ref());
            status.and_then(|s| s.available_replicas) == Some(2)
        })
        .await
        .expect("both replicas are available");
    }
}

/// What is told of what a Function learned.
fn learned(function: &Function) -> Option<&Learned> {
    function.status.as_ref()?.learned.as_ref()
}

/// Takes all activators away, one after the other, and waits for those that take their place.
async fn replace_activators(cluster: &Cluster) -> anyhow::Result<()> {
    let api = activators::pods(cluster);
    for pod in activators::two(cluster).await? {
        activators::delete(cluster, &pod).await?;
        let uid = pod.metadata.uid.as_deref();
        wait::list(&api, activators::LABEL, PATIENCE, |pods| activators::are_two(pods, uid))
            .await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_a_function_learned_outlives_the_activators() {
    Scope::run("learned", async |scope| {
        let learns = json!({"scaling": {"idle": {"policy": "Learned"}}});
        scope.apply_function("hello", hello(&learns)).await?;
        scope.asleep("hello", PATIENCE).await?;
        // A past of hourly calls: with it the Function leaves at once after a call, without it it
        // stays for ten minutes.
        let mut hourly = History::default();
        (0..40).for_each(|_| hourly.push(IdleTime::new(Duration::from_hours(1), Ended::Called)));
        let past = json!({"status": {"learned": {"idleTimes": hourly.to_text()}}});
        let functions = scope.api::<Function>();
        functions.patch_status("hello", &PatchParams::default(), &Patch::Merge(past)).await?;
        let caller = Caller::new(scope.cluster.activator);
        let mut noted = hourly.noted();
        for _ in 0..2 {
            replace_activators(&scope.cluster).await?;
            assert_eq!(caller.get(&scope.host("hello"), "/").await?.status, 200);
            scope.asleep("hello", PATIENCE).await?;
            let told = scope.function("hello", PATIENCE, |f| learned(f).is_some()).await?;
            let told = learned(&told).context("what was learned")?;
            let now = History::from_text(&told.idle_times)?.noted();
            assert!(now >= noted, "{now} idle times, there were {noted}");
            noted = now;
        }
        Ok(())
    })
    .await;
}
