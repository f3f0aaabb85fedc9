//! Ten thousand Functions that sleep, on a control plane without nodes: what the activator that owns
//! them all and the controller hold in memory and take of a processor, and what anybody writes;
//! then how often statuses are written while a tenth of the Functions is called.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::ListParams;
use rouse_e2e::hollow::activator::{Activator, Controller};
use rouse_e2e::hollow::counting::{self, Ledger, Service};
use rouse_e2e::hollow::metrics::Metrics;
use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::process::Figures;
use rouse_e2e::hollow::programs::Programs;
use rouse_e2e::hollow::{Hollow, NAMESPACE};
use rouse_e2e::http::Caller;
use rouse_e2e::scope::condition;
use serde_json::json;
use tokio::time::{Instant, interval, sleep_until, timeout};

use crate::report::{Bar, Report, mebibytes};

/// Functions that are made at once.
const AT_ONCE: usize = 64;
/// How long it may take until all are ready, on a machine that is busy.
const MADE_WITHIN: Duration = Duration::from_mins(30);
/// How often the control plane is asked how far it is: an answer is tens of megabytes.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How long nobody may have written anything before rest begins.
const SETTLED: Duration = Duration::from_secs(10);
/// How long rest is looked at.
const REST: Duration = Duration::from_mins(1);
/// How long the Functions that are called are called.
const USED: Duration = Duration::from_secs(90);
/// One in so many is called.
const CALLED: usize = 10;
/// How long a call takes in its pod.
const SERVICE: Duration = Duration::from_millis(5);
/// Calls at once.
const CALLS: usize = 16;
const MOST_RESIDENT: f64 = 150.0;
const MOST_PROCESSOR: f64 = 1.0;
const PAGE: u32 = 500;

/// What is measured.
struct Sleeping {
    hollow: Hollow,
    activator: Activator,
    controller: Controller,
    functions: usize,
}

/// Runs the measurement.
pub async fn run(functions: usize, report: &mut Report) -> anyhow::Result<()> {
    let hollow = Hollow::start(Programs::from_environment()?).await?;
    let controller = hollow.start_controller().await?;
    let activator = hollow.start_activator().await?;
    let ledger = Arc::new(Ledger::default());
    let service: Service = Arc::new(|| SERVICE);
    let _node = Node::start(&hollow, counting::workload(&ledger, &service));
    let sleeping = Sleeping { hollow, activator, controller, functions };
    let empty = sleeping.activator.figures()?;
    sleeping.make().await?;
    sleeping.settle().await?;
    sleeping.rest(empty, report).await?;
    sleeping.use_some(report).await
}

impl Sleeping {
    async fn make(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let made = stream::iter(0..self.functions).map(|number| async move {
            let spec = json!({"image": "hollow", "scaling": {"idle": {"after": "5s"}}});
            self.hollow.apply_function(&name(number), spec).await.map(drop)
        });
        made.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        eprintln!("{} Functions applied after {:?}", self.functions, begun.elapsed());
        let mut pause = interval(ASK_EVERY);
        let all_ready = async {
            loop {
                pause.tick().await;
                let ready = self.ready().await?;
                eprintln!("{ready} of them are ready after {:?}", begun.elapsed());
                if ready == self.functions {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(MADE_WITHIN, all_ready).await.context("the Functions are not ready in time")?
    }

    async fn ready(&self) -> anyhow::Result<usize> {
        let (mut ready, mut page) = (0, ListParams::default().limit(PAGE));
        loop {
            let list = self.hollow.functions().list(&page).await?;
            let is_ready = |function: &&_| condition(function, "Ready") == Some("True");
            ready += list.items.iter().filter(is_ready).count();
            match list.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(ready),
            }
        }
    }

    /// Waits until nobody writes but Leases.
    async fn settle(&self) -> anyhow::Result<()> {
        let mut before = self.writes().await?;
        loop {
            sleep_until(Instant::now() + SETTLED).await;
            let after = self.writes().await?;
            if since(&before, &after).is_empty() {
                return Ok(());
            }
            before = after;
        }
    }

    async fn rest(&self, empty: Figures, report: &mut Report) -> anyhow::Result<()> {
        let writes = self.writes().await?;
        let before = (self.activator.figures()?, self.controller.figures()?);
        sleep_until(Instant::now() + REST).await;
        let after = (self.activator.figures()?, self.controller.figures()?);
        let written = since(&writes, &self.writes().await?);
        let functions = self.functions;
        for (who, before, after) in
            [("activator", before.0, after.0), ("controller", before.1, after.1)]
        {
            let (memory, percent) = (mebibytes(after.resident), share(before.cpu, after.cpu, REST));
            report.say(&format!(
                "{functions} asleep: the {who} holds {memory:.1} MiB and takes {percent:.2} % of a \
                 core"
            ));
            report.runs.push(json!({
                "case": "sleeping", "functions": functions, "who": who,
                "residentBytes": after.resident, "processorPercent": percent,
            }));
            // What is promised is the activator's; the controller's figures are told beside it.
            if who == "activator" {
                let name = format!("{functions} asleep: memory of the {who}");
                report.bars.push(Bar::at_most(name, memory, MOST_RESIDENT, "MiB"));
                let name = format!("{functions} asleep: processor of the {who}");
                report.bars.push(Bar::at_most(name, percent, MOST_PROCESSOR, "%"));
            }
        }
        report.say(&format!(
            "the activator held {:.1} MiB without any; written in {REST:?}: {written:?}",
            mebibytes(empty.resident)
        ));
        let name = format!("{functions} asleep: writes but Leases");
        report.bars.push(Bar::at_most(name, written.values().sum(), 0.0, "writes"));
        Ok(())
    }

    /// Calls some of them, again and again.
    async fn use_some(&self, report: &mut Report) -> anyhow::Result<()> {
        let names: Vec<String> = (0..self.functions).step_by(CALLED).map(name).collect();
        let called = names.len();
        let hosts: BTreeSet<String> =
            names.iter().map(|name| format!("{name}.{NAMESPACE}")).collect();
        let before = (self.writes().await?, self.controller.figures()?);
        let begun = Instant::now();
        let calls = stream::iter(hosts.iter().cycle()).take_until(sleep_until(begun + USED)).map(
            |host| async move {
                let answer = Caller::new(self.activator.http).get(host, "/").await;
                answer.is_ok_and(|answer| answer.status == 200)
            },
        );
        let answered: Vec<bool> = calls.buffer_unordered(CALLS).collect().await;
        let took = begun.elapsed();
        let written = since(&before.0, &self.writes().await?);
        let statuses = written.get("functions/status").copied().unwrap_or_default();
        let a_second = statuses / took.as_secs_f64();
        let processor = share(before.1.cpu, self.controller.figures()?.cpu, took);
        let failed = answered.iter().filter(|good| !**good).count();
        report.say(&format!(
            "{called} of them called {} times in {took:.0?}, {failed} failed: {a_second:.1} statuses \
             written a second, {processor:.1} % of a core in the controller; written: {written:?}",
            answered.len()
        ));
        report.runs.push(json!({
            "case": "used", "functions": called, "calls": answered.len(), "failed": failed,
            "seconds": took.as_secs_f64(), "written": written,
        }));
        let failed = u32::try_from(failed).map_or(f64::MAX, f64::from);
        let name = format!("{called} used: requests that failed");
        report.bars.push(Bar::at_most(name, failed, 0.0, "requests"));
        Ok(())
    }

    /// What the API server counts of writes but those of Leases, by resource.
    async fn writes(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let request = hyper::Request::get("/metrics").body(Vec::new())?;
        let metrics = Metrics::of(self.hollow.client.request_text(request).await?);
        let mut writes = BTreeMap::new();
        for series in metrics.series("apiserver_request_total") {
            let label = |name: &str| series.label(name).unwrap_or_default();
            let writes_objects = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];
            // Reviews and tokens are answers that nobody stores.
            let stores = !label("resource").ends_with("reviews") && label("subresource") != "token";
            let done = label("code").starts_with('2') && writes_objects.contains(&label("verb"));
            if done && stores && label("resource") != "leases" {
                let subresource = label("subresource");
                let slash = if subresource.is_empty() { "" } else { "/" };
                let what = format!("{}{slash}{subresource}", label("resource"));
                *writes.entry(what).or_insert(0.0) += series.value;
            }
        }
        Ok(writes)
    }
}

fn name(number: usize) -> String {
    format!("sleeping-{number}")
}

/// What was written between two looks.
fn since(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let more = |(what, count): (&String, &f64)| {
        let more = count - before.get(what).copied().unwrap_or_default();
        (more > 0.0).then(|| (what.clone(), more))
    };
    after.iter().filter_map(more).collect()
}

/// Part of a core, in percent.
fn share(before: Duration, after: Duration, of: Duration) -> f64 {
    100.0 * after.saturating_sub(before).as_secs_f64() / of.as_secs_f64()
}
