//! What a scrape of an activator shows, against the table that people read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus_client::encoding::text::encode;
use rouse_core::function::start_failure::Cause;
use rouse_core::report::FunctionReport;
use rouse_core::scaling::{Decision, Inputs, Reason};
use rouse_crds::v1alpha1::Activation;

use super::*;
use crate::exemplar::{Caller, TraceId};
use crate::instances::{PodRef, Scaled};
use crate::scaler::metrics::{ControlMetrics, ScalerMetrics};
use crate::spans::{Outcome, Spans};

/// Where the table stands.
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/rouse/README.md");

/// One family of metrics.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    kind: String,
    help: String,
    labels: Vec<String>,
}

fn trace() -> Option<TraceId> {
    caller().map(|caller| caller.trace)
}

fn caller() -> Option<Caller> {
    let mut headers = http::HeaderMap::new();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert("traceparent", parent.parse().unwrap());
    Caller::of(&headers)
}

/// Both sides of an activator, with the Function `f`.
struct Scraped {
    registry: Registry,
    requests: Arc<RequestMetrics>,
    series: Arc<FunctionSeries>,
    scaler: ScalerMetrics,
}

/// One to which something of everything has happened.
fn busy() -> Scraped {
    let mut registry = Registry::default();
    let requests = RequestMetrics::register(&mut registry);
    let key = FunctionKey::new("shop", "f");
    let series = requests.function(&key);
    series.note_end(Entry::cluster, Some(StatusCode::OK));
    series.note_end(Entry::peer, None);
    series.note_wait(Duration::from_millis(300), trace());
    requests.note_problem("queue-full", Entry::public);
    requests.note_farewell(Farewell::idle);
    Spans::register(&mut registry).note(Outcome::Dropped, 1);
    let mut scaler = ControlMetrics::register(&mut registry).of(&key);
    let inputs = Inputs::default();
    scaler.decided(&Decision { desired: 1, reason: Reason::Load, again_at: None, inputs });
    scaler.scale_written(&Ok(Scaled { version: 1 }));
    scaler.start_failed(Cause::ImagePullFailed);
    scaler.asked_for(&rouse_core::handover::Answer::Silent);
    scaler.replaced(&PodRef { namespace: "shop".into(), name: "f-0".into() }, &Ok(()));
    scaler.activated(&activation(), caller());
    scaler.report(&FunctionReport {
        key,
        uid: "uid".into(),
        membership: 1,
        serving: None,
        revisions: BTreeMap::new(),
        last_activation: None,
        last_error: None,
        learned: None,
        history: rouse_core::history::History::default(),
    });
    Scraped { registry, requests, series, scaler }
}

fn activation() -> Activation {
    Activation {
        requested_at: Time(Timestamp::UNIX_EPOCH),
        revision: "r".into(),
        scaled_millis: Some(7),
        created_millis: Some(12),
        scheduled_millis: Some(20),
        addressed_millis: Some(290),
        listening_millis: Some(301),
        first_byte_millis: Some(303),
    }
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// Reads a scrape line by line, as strictly as `OpenMetrics` is written.
fn parse(text: &str) -> BTreeMap<String, Shown> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    let body = text.strip_suffix("# EOF\n").expect("an end");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            current = name.into();
            let help = help.strip_suffix('.').unwrap_or(help).to_owned();
            let shown = Shown { kind: String::new(), help, labels: Vec::new() };
            assert!(families.insert(current.clone(), shown).is_none(), "{name} is there twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            families.get_mut(name).unwrap().kind = kind.into();
        } else {
            let family = families.get_mut(&current).expect("a sample of what was declared");
            sample(line, &current, family);
        }
    }
    families
}

fn sample(line: &str, name: &str, family: &mut Shown) {
    let rest = line.strip_prefix(name).unwrap_or_else(|| panic!("{line} is not of {name}"));
    let (suffix, rest) = rest.split_at(rest.find(['{', ' ']).unwrap());
    let expected: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_sum", "_count"],
        "gauge" => &[""],
        other => panic!("{name} is a {other}"),
    };
    assert!(expected.contains(&suffix), "{line}");
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ").unwrap(),
        None => ("", rest.trim_start()),
    };
    let number = value.split(' ').next().unwrap();
    assert!(number.parse::<f64>().is_ok(), "{line}");
    let mut names: Vec<String> = Vec::new();
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (label, value) = label.split_once("=\"").unwrap();
        assert!(!value.trim_end_matches('"').contains('"'), "{line}");
        names.extend((label != "le").then(|| label.to_owned()));
    }
    if family.labels.is_empty() {
        family.labels = names;
    }
}

#[test]
fn the_table_in_the_charts_readme_is_what_a_scrape_shows() {
    let mut table = String::from("| metric | type | labels | what it tells |\n|---|---|---|---|\n");
    for (name, Shown { kind, help, labels }) in parse(&scrape(&busy().registry)) {
        let total = if kind == "counter" { "_total" } else { "" };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        writeln!(table, "| `{name}{total}` | {kind} | {labels} | {help} |").unwrap();
    }
    let readme = std::fs::read_to_string(README).unwrap();
    assert!(readme.contains(&table), "the table in {README} should be\n\n{table}");
}

#[test]
fn a_deleted_function_leaves_nothing() {
    let Scraped { registry, requests, series, scaler } = busy();
    assert!(scrape(&registry).contains("function=\"f\""));
    drop((series, scaler));
    let text = scrape(&registry);
    assert!(!text.contains("function="), "{text}");
    drop(requests);
}

#[test]
fn histograms_name_a_trace() {
    let text = scrape(&busy().registry);
    let exemplar = " # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 0.3";
    for start in ["rouse_queue_wait_seconds_bucket{", "rouse_activation_seconds_bucket{"] {
        let named = text.lines().any(|line| line.starts_with(start) && line.contains(exemplar));
        assert!(named, "{start}: {text}");
    }
}
