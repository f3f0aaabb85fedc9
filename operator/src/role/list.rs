//! `rouse list`: the Functions that there are, and how each is.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use rouse_core::explain::health::{self, Grade};
use rouse_crds::v1alpha1::{Function, Trigger};
use serde::Serialize;

use crate::cluster::{Cluster, ClusterArgs, name_of_function};
use crate::output::{Form, Sheet, age};

/// Columns of a table that is not wide.
const NARROW: usize = 6;

/// Which Functions.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Where they are.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Functions of all namespaces.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only those with these labels, such as `team=shop`.
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// A Function, in short.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    state: String,
    grade: Grade,
    message: String,
    ready: u32,
    wanted: u32,
    triggers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_activation: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    runs: String,
    requests: u64,
}

/// Prints the Functions.
pub async fn run(args: &ListArgs) -> anyhow::Result<()> {
    let cluster = Cluster::of(&args.cluster).await?;
    let functions = cluster.functions(args.all_namespaces, args.selector.as_deref()).await?;
    let triggers = if functions.is_empty() {
        Vec::new()
    } else {
        cluster.triggers(args.all_namespaces).await?
    };
    let rows = rows(&functions, &triggers);
    let place = cluster.place(args.all_namespaces);
    sheet(&rows, args.all_namespaces, &place, Timestamp::now()).print(args.output, &rows)
}

fn rows(functions: &[Function], triggers: &[Trigger]) -> Vec<Row> {
    let mut called: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for trigger in triggers {
        let key = (trigger.namespace().unwrap_or_default(), trigger.spec.function.as_str());
        *called.entry(key).or_default() += 1;
    }
    let of = |function: &Function| {
        let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
        let triggers = called.get(&(namespace, &name)).copied().unwrap_or_default();
        row(function, triggers)
    };
    let mut rows: Vec<Row> = functions.iter().map(of).collect();
    rows.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    rows
}

fn row(function: &Function, triggers: usize) -> Row {
    let health = health::of_function(function);
    let status = function.status.clone().unwrap_or_default();
    Row {
        namespace: function.namespace().unwrap_or_default(),
        name: function.name_any(),
        state: health.word,
        grade: health.grade,
        message: health.message,
        ready: status.replicas,
        wanted: status.desired_replicas,
        triggers,
        last_activation: status.last_activation.map(|last| last.requested_at.0),
        created: function.metadata.creation_timestamp.as_ref().map(|time| time.0),
        url: status.url,
        public_url: status.public_url,
        revision: status.latest_ready.or(status.latest_created),
        runs: runs(function),
        requests: status.usage.map_or(0, |usage| usage.total.requests),
    }
}

/// What runs, in a few words.
pub fn runs(function: &Function) -> String {
    match (&function.spec.image, &function.spec.source) {
        (Some(image), _) => image.clone(),
        (None, Some(source)) => {
            let handler = source.handler.as_deref().map(|handler| format!(" {handler}"));
            format!(
                "{} {}{}",
                source.runtime,
                source.contract.as_str(),
                handler.unwrap_or_default()
            )
        }
        (None, None) => "-".to_owned(),
    }
}

fn sheet(rows: &[Row], everywhere: bool, place: &str, now: Timestamp) -> Sheet {
    let ago = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| age(time, now));
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let cells = |row: &Row| {
        vec![
            row.name.clone(),
            row.state.clone(),
            format!("{}/{}", row.ready, row.wanted),
            ago(row.last_activation),
            ago(row.created),
            text(&row.url),
            text(&row.revision),
            row.runs.clone(),
            row.triggers.to_string(),
            row.requests.to_string(),
            text(&row.public_url),
        ]
    };
    let mut notes = Vec::new();
    if rows.is_empty() {
        notes.push(format!("There are no Functions in {place}: `rouse init` begins one."));
    }
    let bad = rows.iter().filter(|row| row.grade == Grade::Bad);
    let first = |row: &Row| row.message.lines().next().unwrap_or_default().to_owned();
    notes.extend(bad.map(|row| format!("{}: {}", row.name, first(row))));
    let mut sheet = Sheet {
        head: vec![
            "NAME",
            "STATE",
            "PODS",
            "WOKEN",
            "AGE",
            "URL",
            "REVISION",
            "RUNS",
            "TRIGGERS",
            "REQUESTS",
            "PUBLIC URL",
        ],
        rows: rows.iter().map(cells).collect(),
        notes,
        narrow: Some(NARROW),
        names: rows.iter().map(|row| name_of_function(&row.name)).collect(),
        grades: Some((1, rows.iter().map(|row| row.grade).collect())),
    };
    if everywhere {
        sheet.lead("NAMESPACE", rows.iter().map(|row| row.namespace.clone()));
    }
    sheet
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function(namespace: &str, name: &str, ready: &str) -> Function {
        serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
            "metadata": {"namespace": namespace, "name": name, "generation": 1,
                         "creationTimestamp": "2026-11-23T12:00:00Z"},
            "spec": {"source": {"runtime": "python3.11", "contract": "Lambda", "handler": "app.handler",
                                "files": {"app.py": ""}}},
            "status": {"observedGeneration": 1, "url": format!("http://{name}.{namespace}"),
                "latestReady": "abc", "replicas": 1, "desiredReplicas": 2, "conditions": [
                {"type": "Ready", "status": ready, "reason": "InitFailed", "message": "it fell over",
                 "lastTransitionTime": "2026-11-23T12:00:00Z"},
                {"type": "Stalled", "status": if ready == "True" { "False" } else { "True" },
                 "reason": "InitFailed", "message": "it fell over",
                 "lastTransitionTime": "2026-11-23T12:00:00Z"}]},
        }))
        .unwrap()
    }

    fn trigger(namespace: &str, function: &str) -> Trigger {
        serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
            "metadata": {"namespace": namespace, "name": "t"},
            "spec": {"function": function, "schedule": {"cron": "@daily"}},
        }))
        .unwrap()
    }

    #[test]
    fn functions_are_rows_and_what_is_wrong_stands_below() {
        let functions = [function("shop", "b", "False"), function("shop", "a", "True")];
        let rows = rows(&functions, &[trigger("shop", "a"), trigger("other", "a")]);
        let now = "2026-11-23T15:00:00Z".parse().unwrap();
        let table = sheet(&rows, false, "namespace shop", now).render(Form::Table, &()).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0].split_whitespace().last(), Some("URL"));
        let first: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(first, ["a", "InitFailed", "1/2", "-", "3h", "http://a.shop"]);
        assert_eq!(lines[3], "b: it fell over");
        let sheet = sheet(&rows, true, "all namespaces", now);
        let wide = sheet.render(Form::Wide, &()).unwrap();
        assert!(
            wide.starts_with("NAMESPACE  NAME")
                && wide.contains("python3.11 Lambda app.handler  1")
        );
        assert_eq!(sheet.grades, Some((2, vec![Grade::Good, Grade::Bad])));
    }

    #[test]
    fn nothing_is_told_as_such() {
        let sheet = sheet(&[], false, "namespace shop", Timestamp::UNIX_EPOCH);
        let table = sheet.render(Form::Table, &()).unwrap();
        assert_eq!(table, "There are no Functions in namespace shop: `rouse init` begins one.\n");
    }
}
