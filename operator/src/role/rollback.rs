//! `rouse rollback`: makes a Function what it was at an earlier revision, and waits until that serves.

mod write;

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::api::ListParams;
use rouse_core::function::names::{LABEL_FUNCTION, LABEL_FUNCTION_UID};
use rouse_core::function::rollback::{
    Change, NoWayBack, Record, changes, choose, current, restore,
};
use rouse_crds::v1alpha1::Function;
use serde::Serialize;
use serde_json::Value;

use super::deploy::args::parse_timeout;
use super::settle::{self, Settled};
use crate::cluster::{Cluster, ClusterArgs, name_of_function};
use crate::exit::Failure;
use crate::output::{Form, Sheet};
use crate::progress::say;

pub use self::write::MANAGER;

/// What is in force where that is no revision, as it could never run.
const UNFIT: &str = "what is written";

/// Which Function, and to which revision.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Name of the Function.
    pub name: String,
    /// Where it is.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The revision, as `rouse status` lists them. Default: the one that serves while the newest does
    /// not come up, or else the one before that which is in force.
    #[arg(long, value_name = "REVISION")]
    pub to: Option<String>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait until the revision serves; 0s does not wait.
    #[arg(long, default_value = "120s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    to: &'a str,
    changes: &'a [Change],
    dry_run: bool,
    #[serde(flatten)]
    settled: Option<Settled>,
}

/// Goes back.
pub async fn run(args: &RollbackArgs) -> anyhow::Result<()> {
    let cluster = Cluster::of(&args.cluster).await?;
    // Who errs in the name is told which there are.
    cluster.function(&args.name).await?;
    // Read without its type, so that what a newer cluster knows stays as it is.
    let object = cluster.objects().get(&args.name).await;
    let object = object.map_err(|error| write::refused(&cluster, error))?;
    let before = serde_json::to_value(&object).context("reading the Function")?;
    let function: Function = serde_json::from_value(before.clone())
        .context("the Function can't be read by this version of rouse")?;
    // What can't run is what one most wants to go back from.
    let now = current(&function).unwrap_or_else(|_| UNFIT.to_owned());
    let records = records(&cluster, &function, &args.name).await?;
    let serving = function.status.as_ref().and_then(|status| status.latest_ready.as_deref());
    let record = choose(&records, &now, serving, args.to.as_deref()).map_err(missing)?;
    let after = restore(&before, record)?;
    let changes = changes(&with_defaults(&before)?, &with_defaults(&after)?);
    let sheet = sheet(&changes, &args.name);
    if args.output.is_for_people() {
        let what = if now == UNFIT { "" } else { "revision " };
        say(&format!("{}: from {what}{now} to {}", args.name, record.revision));
        say(sheet.render(args.output, &())?.trim_end());
        if is_app(&before) || is_app(&after) {
            say(
                "its Triggers stay as they are: `rouse deploy` of the folder makes those of an app",
            );
        }
    }
    let mut settled = None;
    if !args.dry_run {
        let written = write::write(&cluster, object, &after).await?;
        if !args.timeout.is_zero() {
            let of = (args.name.as_str(), written.metadata.generation.unwrap_or_default());
            let wait = settle::wait(&cluster, of, Some(&record.revision), args.timeout);
            settled = Some(wait.await?);
        }
    }
    if args.output.is_for_people() {
        let done = format!("serves revision {}", record.revision);
        return settled.map_or(Ok(()), |settled| settled.print(args.output, &done));
    }
    let (from, to) = ((now != UNFIT).then_some(now.as_str()), record.revision.as_str());
    let answer = Answer { from, to, changes: &changes, dry_run: args.dry_run, settled };
    sheet.print(args.output, &answer)
}

/// Whether its Triggers came of the folder that was deployed.
fn is_app(function: &Value) -> bool {
    function.pointer("/spec/source/contract").is_some_and(|contract| contract == "Azure")
}

/// The Function with what the API server fills in: that is told in one of two that are alike.
fn with_defaults(function: &Value) -> anyhow::Result<Value> {
    let read: Function =
        serde_json::from_value(function.clone()).context("reading the Function")?;
    serde_json::to_value(read).context("comparing the Function")
}

async fn records(
    cluster: &Cluster,
    function: &Function,
    name: &str,
) -> anyhow::Result<Vec<Record>> {
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let selector = format!("{LABEL_FUNCTION}={name},{LABEL_FUNCTION_UID}={uid}");
    let api: Api<ControllerRevision> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let list = api.list(&ListParams::default().labels(&selector)).await;
    let list = list.map_err(|error| cluster.refused(error, "list controllerrevisions"))?;
    Ok(list.items.iter().filter_map(Record::read).collect())
}

/// Of all that keeps one from going back, only this is an object that is not there.
fn missing(error: NoWayBack) -> anyhow::Error {
    match error {
        NoWayBack::Unknown { .. } | NoWayBack::Oldest { .. } => {
            Failure::Missing(error.to_string()).into()
        }
        other => other.into(),
    }
}

fn sheet(changes: &[Change], name: &str) -> Sheet {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let row = |it: &Change| vec![it.field.clone(), text(&it.now), text(&it.then)];
    Sheet {
        head: vec!["FIELD OF SPEC", "NOW", "THEN"],
        rows: changes.iter().map(row).collect(),
        names: vec![name_of_function(name)],
        ..Sheet::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_fills_in_is_no_change() {
        let function = |source: Value| {
            with_defaults(&json!({
                "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "metadata": {"name": "f"},
                "spec": {"source": source},
            }))
            .unwrap()
        };
        let written = json!({"runtime": "r", "files": {"a": "b"}});
        let filled = json!({"runtime": "r", "files": {"a": "b"}, "contract": "Http", "signature": "Http",
                            "processes": 1, "processConcurrency": 1});
        assert_eq!(changes(&function(filled), &function(written)), []);
    }

    #[test]
    fn what_changes_is_a_table() {
        let change = Change { field: "image".into(), now: Some("a:2".into()), then: None };
        let table = sheet(&[change], "hello").render(Form::Table, &()).unwrap();
        assert_eq!(table, "FIELD OF SPEC  NOW  THEN\nimage          a:2  -\n");
    }

    #[test]
    fn a_revision_that_is_not_there_is_told_as_such() {
        let unknown = NoWayBack::Unknown { wanted: "x".into(), known: "no other is kept".into() };
        assert!(matches!(missing(unknown).downcast_ref(), Some(Failure::Missing(_))));
        let there = NoWayBack::AlreadyThere("x".into());
        assert!(missing(there).downcast_ref::<Failure>().is_none());
    }
}
