//! What code adds to a cold start: a Function with code and one whose image has the same program, woken
//! in turns. On a control plane without nodes: pods are processes, so the figures leave out what a
//! kubelet and a container cost both.

use std::time::Duration;

use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::programs::Programs;
use rouse_e2e::hollow::{Hollow, NAMESPACE, code};
use rouse_e2e::http::Caller;
use serde_json::json;

use crate::report::{Bar, Report, Row, distributions, quantile};

/// What code may add to the median, in milliseconds.
const ADDED: f64 = 40.0;

/// Wakes both so often, and adds the table and the bar.
pub async fn measure(wakings: usize, report: &mut Report) -> anyhow::Result<()> {
    let hollow = Hollow::start(Programs::from_environment()?).await?;
    let _controller = hollow.start_controller().await?;
    let activator = hollow.start_activator().await?;
    let _node = Node::start(&hollow, code::workload(&hollow)?);
    let scaling = json!({"idle": {"after": "1s"}});
    let source = json!({"runtime": "hello", "files": {"app.txt": "x"}});
    let functions = [
        ("image", json!({"image": "hollow", "scaling": scaling})),
        ("code", json!({"source": source, "scaling": scaling})),
    ];
    for (name, spec) in &functions {
        hollow.apply_function(name, spec.clone()).await?;
        hollow.known(name).await?;
    }
    let mut rows = functions.map(|(name, _)| Row { name: name.to_owned(), millis: Vec::new() });
    // The first waking of each finds no revision proven, and none of its code read.
    for waking in 0..=wakings {
        for row in &mut rows {
            let took = wake(&Caller::new(activator.http), &row.name).await?;
            if waking > 0 {
                row.millis.push(took.as_secs_f64() * 1000.0);
            }
            hollow.asleep(&row.name).await?;
        }
    }
    report.say(&distributions(&rows));
    let [image, code] = rows.map(|row| quantile(&row.millis, 0.5));
    report.bars.push(Bar::at_most("added to a cold start by code", code - image, ADDED, "ms"));
    Ok(())
}

/// Calls a Function that sleeps; how long the first byte took.
async fn wake(caller: &Caller, name: &str) -> anyhow::Result<Duration> {
    let answer = caller.get(&format!("{name}.{NAMESPACE}"), "/").await?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.first_byte)
}
