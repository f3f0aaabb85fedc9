//! A Deployment without Rouse, of the pods that Rouse makes: what a start takes at least.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope};
use serde_json::{Value, json};

/// A moment on the wall clock, which all processes of a machine share, in milliseconds.
pub type Millis = f64;

/// Now.
pub fn wall_clock() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// Makes one at zero, with the pod template that Rouse made for the Function `of`, but for the
/// values of Rouse's labels: with those its pods would be taken for the Function's. Its pods have
/// `labels`, and `bench`, which is its name.
pub async fn make(scope: &Scope, of: &str, name: &str, mut labels: Value) -> anyhow::Result<()> {
    let made = scope.deployments(of, PATIENCE, |all| all.len() == 1).await?;
    let made = serde_json::to_value(made.first().context("Rouse made a Deployment")?)?;
    let mut template = made["spec"]["template"].clone();
    labels["bench"] = json!(name);
    template["metadata"]["labels"] = labels;
    let bare = json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "revisionHistoryLimit": made["spec"]["revisionHistoryLimit"],
            "selector": {"matchLabels": {"bench": name}},
            "template": template,
        },
    });
    let params = PostParams::default();
    scope.api::<Deployment>().create(&params, &serde_json::from_value(bare)?).await?;
    Ok(())
}

/// Asks the pod at `ip` every so often, for so many times at most.
pub async fn ask_until_it_answers(ip: &str, every: Duration, times: u32) -> anyhow::Result<Answer> {
    let caller = Caller::new(format!("{ip}:8080").parse()?);
    let mut pause = tokio::time::interval(every);
    let mut last = None;
    for _ in 0..times {
        pause.tick().await;
        match caller.get("bare", "/").await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("never asked")?)
}

/// When the process that answered listened.
pub fn listening_at(answer: &Answer) -> anyhow::Result<Millis> {
    let text =
        answer.header("x-hello-listening-at").context("the answer tells when it listened")?;
    Ok(text.parse::<f64>()? / 1000.0)
}
