//! What Rouse adds to a cold start, start by start: (request received until the scale was
//! written) + (the later of *address visible in the pod's status* and *process listening* until
//! the first byte of the answer), against starts of a bare Deployment of the same pod template
//! scaled by hand, in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use serde_json::{Value, json};

use crate::bare::{self, Millis, ask_until_it_answers, listening_at, wall_clock};
use crate::report::{Bar, Report, Row, distributions, quantile};

const FUNCTION: &str = "cold";
const BARE: &str = "bare";
const ADDED_LIMIT_MILLIS: f64 = 15.0;

/// Runs the benchmark with `starts` starts of each kind.
pub async fn run(starts: usize) -> anyhow::Result<Report> {
    let scope = Scope::new("bench-cold").await?;
    let report = measure(&scope, starts).await;
    scope.delete().await?;
    report
}

async fn measure(scope: &Scope, starts: usize) -> anyhow::Result<Report> {
    scope.apply_function(FUNCTION, hello(&json!({"scaling": {"idle": {"after": "1s"}}}))).await?;
    scope.asleep(FUNCTION, PATIENCE).await?;
    bare::make(scope, FUNCTION, BARE, json!({})).await?;
    let mut rouse = Vec::new();
    let mut bare = Vec::new();
    for start in 0..starts {
        eprintln!("start {} of {starts}", start + 1);
        // The order changes from pair to pair, so that neither always comes after the other.
        if start % 2 == 0 {
            rouse.push(start_rouse(scope).await?);
            bare.push(start_bare(scope).await?);
        } else {
            bare.push(start_bare(scope).await?);
            rouse.push(start_rouse(scope).await?);
        }
    }
    Ok(build_report(&rouse, &bare))
}

/// A start through Rouse. All moments are milliseconds after the caller sent its request, but for
/// `phases`, which the activator counts from the moment at which it received it.
#[derive(Debug)]
struct RouseStart {
    phases: BTreeMap<String, Millis>,
    address_visible: Millis,
    listening: Millis,
    first_byte: Millis,
}

impl RouseStart {
    fn scale_written(&self) -> Millis {
        self.phases.get("rouse-scale").copied().unwrap_or(f64::NAN)
    }

    fn answer_after_pod(&self) -> Millis {
        self.first_byte - self.address_visible.max(self.listening)
    }

    fn added(&self) -> Millis {
        self.scale_written() + self.answer_after_pod()
    }
}

/// A start of the bare Deployment, in milliseconds after its scale was written.
#[derive(Debug)]
struct BareStart {
    address_visible: Millis,
    listening: Millis,
}

async fn start_rouse(scope: &Scope) -> anyhow::Result<RouseStart> {
    scope.pods(FUNCTION, PATIENCE, <[Pod]>::is_empty).await?;
    scope.asleep(FUNCTION, PATIENCE).await?;
    // A new connection for each start, opened before the clock runs, as a caller would have one.
    let caller = Caller::new(scope.cluster.activator);
    caller.get("warm-up.invalid", "/").await?;
    let address = watch_address(scope, format!("rouse.dev/function={FUNCTION}"));
    let host = scope.host(FUNCTION);
    let sent = wall_clock();
    let (answer, address_visible) = tokio::try_join!(caller.get(&host, "/"), address)?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    Ok(RouseStart {
        phases: phases(&answer),
        address_visible: address_visible.0 - sent,
        listening: listening_at(&answer)? - sent,
        first_byte: answer.first_byte.as_secs_f64() * 1000.0,
    })
}

async fn start_bare(scope: &Scope) -> anyhow::Result<BareStart> {
    let deployments = scope.api::<Deployment>();
    let scale = |replicas: u32| Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let params = PatchParams::default();
    let selector = format!("bench={BARE}");
    rouse_e2e::wait::list(&scope.api::<Pod>(), &selector, PATIENCE, <[Pod]>::is_empty).await?;
    let address = watch_address(scope, selector);
    let scaled = async {
        deployments.patch_scale(BARE, &params, &scale(1)).await?;
        anyhow::Ok(wall_clock())
    };
    let (written, (visible, ip)) = tokio::try_join!(scaled, address)?;
    let answer = ask_until_it_answers(&ip, Duration::from_millis(5), 2000).await?;
    deployments.patch_scale(BARE, &params, &scale(0)).await?;
    Ok(BareStart {
        address_visible: visible - written,
        listening: listening_at(&answer)? - written,
    })
}

/// The moment at which a pod's address was visible in its status, and the address.
async fn watch_address(scope: &Scope, selector: String) -> anyhow::Result<(Millis, String)> {
    let watch = WatchParams::default().labels(&selector);
    let mut changes = Box::pin(scope.api::<Pod>().watch(&watch, "0").await?);
    while let Some(change) = changes.try_next().await? {
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = change
            && pod.metadata.deletion_timestamp.is_none()
            && let Some(ip) = pod.status.and_then(|status| status.pod_ip)
        {
            return Ok((wall_clock(), ip));
        }
    }
    anyhow::bail!("the watch of {selector} ended")
}

/// The phases of `Server-Timing`, in milliseconds since the activator received the request.
fn phases(answer: &Answer) -> BTreeMap<String, Millis> {
    answer
        .headers
        .get_all("server-timing")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|metric| {
            let (name, rest) = metric.trim().split_once(';')?;
            let millis = rest.split(';').find_map(|p| p.trim().strip_prefix("dur="))?;
            Some((name.to_owned(), millis.parse().ok()?))
        })
        .collect()
}

fn build_report(rouse: &[RouseStart], bare: &[BareStart]) -> Report {
    let added: Vec<Millis> = rouse.iter().map(RouseStart::added).collect();
    let row = |name: &str, millis: Vec<Millis>| Row { name: name.to_owned(), millis };
    let mut rows = Vec::new();
    for (phase, name) in [
        ("rouse-scale", "rouse: received -> scale written"),
        ("rouse-created", "rouse: received -> pod created"),
        ("rouse-scheduled", "rouse: received -> pod scheduled"),
        ("rouse-address", "rouse: received -> address known to the activator"),
        ("rouse-listen", "rouse: received -> pod answers the activator"),
    ] {
        let seen = rouse.iter().filter_map(|start| start.phases.get(phase).copied());
        rows.push(row(name, seen.collect()));
    }
    let of = |value: fn(&RouseStart) -> Millis| rouse.iter().map(value).collect::<Vec<_>>();
    rows.push(row("rouse: sent -> address visible in the pod's status", of(|s| s.address_visible)));
    rows.push(row("rouse: sent -> process listening", of(|s| s.listening)));
    rows.push(row("rouse: sent -> first byte", of(|s| s.first_byte)));
    rows.push(row("rouse: address and listening -> first byte", of(RouseStart::answer_after_pod)));
    let floor = |value: fn(&BareStart) -> Millis| bare.iter().map(value).collect::<Vec<_>>();
    rows.push(row("bare: scale written -> address visible", floor(|s| s.address_visible)));
    rows.push(row("bare: scale written -> process listening (the floor)", floor(|s| s.listening)));
    rows.push(row("added by Rouse", added.clone()));
    let raw = |start: &RouseStart| {
        json!({
            "kind": "rouse", "added": start.added(), "phases": start.phases,
            "addressVisible": start.address_visible, "listening": start.listening,
            "firstByte": start.first_byte,
        })
    };
    let raw_bare = |start: &BareStart| json!({"kind": "bare", "addressVisible": start.address_visible, "listening": start.listening});
    let runs: Vec<Value> = rouse.iter().map(raw).chain(bare.iter().map(raw_bare)).collect();
    let mut report = Report::new("cold");
    report.text = distributions(&rows);
    report.text += "The bare Deployment has the pod template that Rouse made, but for its labels; \
                    starts alternate.\n";
    report.runs = runs;
    report.bars.push(Bar::at_most(
        "added to a cold start, median",
        quantile(&added, 0.5),
        ADDED_LIMIT_MILLIS,
        "ms",
    ));
    report
}
