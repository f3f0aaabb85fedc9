//! What Rouse goes on to do while a part that it depends on stands still.

use std::time::Duration;

use anyhow::{Context, bail};
use rouse_e2e::cluster::Cluster;
use rouse_e2e::http::Caller;
use rouse_e2e::process::Frozen;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use rouse_e2e::steady::{Load, Share, Way};
use rouse_e2e::{activators, process};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::called;

/// Less than the time after which a node that is not heard of is given up.
const OUTAGE: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn warm_functions_are_served_while_the_api_server_stands_still_and_cold_ones_after() {
    let Some(log) = Cluster::audit_log() else {
        eprintln!("skipped: the API server runs on another machine");
        return;
    };
    Scope::run("outage", async |scope| {
        let pods = activators::two(&scope.cluster).await?;
        let mut shares = called(&scope).await?;
        // The one that sleeps is not called before.
        let cold = scope.host("cold");
        shares.retain(|share| share.host != cold);
        let load = Load::start(activators::addresses(&pods)?, &shares, false);
        load.reached(1000).await;
        let mark = format!("--audit-log-path={}", log.display());
        let frozen = Frozen::freeze(process::with_argument(&mark)?)?;
        let since = Instant::now();
        let caller = Caller::new(scope.cluster.activator);
        let waits = caller.get(&cold, "/");
        let outage = async {
            sleep_until(since + OUTAGE).await;
            let served = load.outcome();
            drop(frozen);
            anyhow::Ok(served)
        };
        let (waited, served) = tokio::try_join!(waits, outage)?;
        assert!(served.failed.is_empty(), "{served:#?}");
        assert!(served.good.values().all(|good| *good > 2500), "{served:#?}");
        assert_eq!(waited.status, 200, "{waited:?}");
        assert!(waited.took >= OUTAGE, "{waited:?}");
        let outcome = load.stop().await;
        assert!(outcome.failed.is_empty(), "{outcome:#?}");
        // All is as before.
        activators::two(&scope.cluster).await?;
        scope.apply_function("after", hello(&json!({}))).await?;
        scope.asleep("after", PATIENCE).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_activator_that_stands_still_fails_no_request_of_another() {
    if Cluster::audit_log().is_none() {
        eprintln!("skipped: the activators run on another machine");
        return;
    }
    Scope::run("frozen", async |scope| {
        let pods = activators::two(&scope.cluster).await?;
        let [victim, survivor] = pods.as_slice() else { bail!("there are two activators") };
        let direct = |share: Share| Share { way: Way::Direct(0), ..share };
        let shares: Vec<Share> = called(&scope).await?.into_iter().map(direct).collect();
        let load = Load::start(vec![activators::address(survivor)?], &shares, false);
        load.reached(1000).await;
        let frozen = activators::freeze(victim)?;
        sleep_until(Instant::now() + OUTAGE).await;
        drop(frozen);
        sleep_until(Instant::now() + OUTAGE / 4).await;
        let outcome = load.stop().await;
        assert!(outcome.failed.is_empty() && outcome.mended.is_empty(), "{outcome:#?}");
        let least = outcome.good.values().min().context("somebody was called")?;
        assert!(*least > 2000, "{outcome:#?}");
        activators::two(&scope.cluster).await.map(drop)
    })
    .await;
}
