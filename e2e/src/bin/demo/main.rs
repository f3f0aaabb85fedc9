//! Shows the product on a cluster that has it: a Function asleep, woken by a request, scaled by a
//! burst, asleep again. `cargo xtask demo` makes the cluster and runs this.

#![allow(clippy::print_stdout, reason = "the output is what this program is for")]

mod screen;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, TypeMeta};
use rouse_e2e::cluster::Cluster;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope, condition};
use serde_json::json;
use tokio::time::{Instant, interval};

use crate::screen::Screen;

const NAMESPACE: &str = "rouse-demo";
const FUNCTION: &str = "hello";
const SAMPLE: &str = include_str!("../../../../manifests/samples/hello.yaml");
const BURST: usize = 50;
const BURST_PATH: &str = "/?sleep=2000";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let scope = Scope { cluster, namespace: NAMESPACE.to_owned() };
    let mut screen = Screen::new();
    apply(&scope).await?;
    screen.title("A Function that nobody calls");
    screen.line("$ kubectl apply -f manifests/samples");
    scope.asleep(FUNCTION, PATIENCE).await?;
    screen.line("  hello is asleep: Ready=True, Active=False, no pod. It costs nothing.");
    wake(&scope, &mut screen).await?;
    burst(&scope, &mut screen).await?;
    sleep(&scope, &mut screen).await
}

/// Applies the sample as `kubectl apply --server-side` would.
async fn apply(scope: &Scope) -> anyhow::Result<()> {
    let params = PatchParams::apply("rouse-demo").force();
    let namespaces: Api<Namespace> = Api::all(scope.cluster.client.clone());
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    namespaces.patch(NAMESPACE, &params, &Patch::Apply(namespace)).await?;
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(SAMPLE)?;
    for object in objects {
        let TypeMeta { kind, .. } = object.types.clone().context("a sample has a kind")?;
        let gvk = kube::core::GroupVersionKind::gvk("rouse.dev", "v1alpha1", &kind);
        let api: Api<DynamicObject> = Api::namespaced_with(
            scope.cluster.client.clone(),
            NAMESPACE,
            &ApiResource::from_gvk(&gvk),
        );
        let name = object.metadata.name.clone().context("a sample has a name")?;
        api.patch(&name, &params, &Patch::Apply(object)).await?;
    }
    Ok(())
}

async fn wake(scope: &Scope, screen: &mut Screen) -> anyhow::Result<()> {
    screen.title("The first request wakes it");
    let host = scope.host(FUNCTION);
    let caller = Caller::new(scope.cluster.activator);
    screen.line(&format!("$ curl http://{host}/"));
    let answer = expect_ok(caller.get(&host, "/").await?)?;
    screen.line(&format!("  {}", String::from_utf8_lossy(&answer.body).trim_end()));
    screen.line(&format!("  woken in {:.0} ms, of which", millis(answer.first_byte)));
    for (phase, at) in phases(&answer) {
        screen.line(&format!("    {at:>7.1} ms  {phase}"));
    }
    let mut warm = Vec::new();
    for _ in 0..20 {
        warm.push(expect_ok(caller.get(&host, "/").await?)?.first_byte);
    }
    warm.sort();
    let median = warm.get(warm.len() / 2).copied().unwrap_or_default();
    screen.line(&format!("  the next requests take {:.1} ms", millis(median)));
    Ok(())
}

/// The phases of a wait in the order in which they were over, in milliseconds since the request.
fn phases(answer: &Answer) -> Vec<(&'static str, f64)> {
    const NAMES: [(&str, &str); 5] = [
        ("rouse-scale", "the scale is written"),
        ("rouse-created", "the pod is there as an object"),
        ("rouse-scheduled", "the pod has a node"),
        ("rouse-address", "the pod has an address"),
        ("rouse-listen", "the pod answers the activator"),
    ];
    let header = answer.header("server-timing").unwrap_or_default();
    NAMES
        .iter()
        .filter_map(|(name, text)| {
            let metric = header.split(',').find(|m| m.trim().starts_with(name))?;
            let millis = metric.split(';').find_map(|p| p.trim().strip_prefix("dur="))?;
            Some((*text, millis.parse().ok()?))
        })
        .collect()
}

async fn burst(scope: &Scope, screen: &mut Screen) -> anyhow::Result<()> {
    screen.title("A burst scales it");
    screen.line(&format!("{BURST} requests of 2 s at once; a pod may have 5 at a time"));
    let host = scope.host(FUNCTION);
    let caller = Caller::new(scope.cluster.activator);
    let begun = Instant::now();
    let mut calls: FuturesUnordered<_> =
        (0..BURST).map(|_| caller.get(&host, BURST_PATH)).collect();
    let mut answers = Vec::new();
    let mut ticks = interval(Duration::from_millis(250));
    while answers.len() < BURST {
        tokio::select! {
            Some(answer) = calls.next() => answers.push(expect_ok(answer?)?),
            _ = ticks.tick() => {
                let pods = running_pods(scope).await?;
                let seconds = begun.elapsed().as_secs_f64();
                screen.progress(&format!(
                    "  {seconds:>5.1} s  {pods:>2} pods  {:>2} of {BURST} answered", answers.len()
                ));
            }
        }
    }
    let pods: BTreeSet<_> = answers.iter().filter_map(|a| a.header("x-hello-pod")).collect();
    let most = answers.iter().filter_map(|a| a.number("x-hello-most-in-flight")).max();
    screen.line(&format!(
        "  all {BURST} answered with 200 in {:.1} s by {} pods, never more than {} at once in one",
        begun.elapsed().as_secs_f64(),
        pods.len(),
        most.unwrap_or_default()
    ));
    Ok(())
}

async fn sleep(scope: &Scope, screen: &mut Screen) -> anyhow::Result<()> {
    screen.title("Left alone, it goes to sleep");
    let begun = Instant::now();
    let mut ticks = interval(Duration::from_millis(500));
    let asleep = scope.asleep(FUNCTION, PATIENCE);
    tokio::pin!(asleep);
    loop {
        tokio::select! {
            done = &mut asleep => break done?,
            _ = ticks.tick() => {
                let pods = running_pods(scope).await?;
                let seconds = begun.elapsed().as_secs_f64();
                screen.progress(&format!("  {seconds:>5.1} s  {pods:>2} pods"));
            }
        }
    }
    let function = scope.function(FUNCTION, PATIENCE, |_| true).await?;
    screen.line(&format!(
        "  asleep after {:.0} s: Ready={}, Active={}, no pod",
        begun.elapsed().as_secs_f64(),
        condition(&function, "Ready").unwrap_or("?"),
        condition(&function, "Active").unwrap_or("?"),
    ));
    Ok(())
}

async fn running_pods(scope: &Scope) -> anyhow::Result<usize> {
    let selector = ListParams::default().labels(&format!("rouse.dev/function={FUNCTION}"));
    let pods = scope.api::<Pod>().list(&selector).await?;
    Ok(pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count())
}

fn expect_ok(answer: Answer) -> anyhow::Result<Answer> {
    anyhow::ensure!(
        answer.status == 200,
        "{} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(answer)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
