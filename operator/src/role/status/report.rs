//! What is told of one Function: gathered of the objects, and put into words. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use rouse_core::explain::cold::total;
use rouse_core::explain::health::{self, Grade, Health};
use rouse_core::explain::why::clock;
use rouse_core::function::names::{CONTAINER, LABEL_FUNCTION_UID, LABEL_REVISION};
use rouse_crds::v1alpha1::{Activation, Function, FunctionStatus, Trigger};
use serde::Serialize;

use crate::output::{Form, Sheet, age, style_of};
use crate::role::list::runs;

/// All that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    namespace: String,
    name: String,
    /// How it is.
    #[serde(flatten)]
    pub health: Health,
    runs: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_url: Option<String>,
    ready: u32,
    wanted: u32,
    requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_activation: Option<Activation>,
    conditions: Vec<Condition>,
    revisions: Vec<Revision>,
    pods: Vec<PodLine>,
    triggers: Vec<TriggerLine>,
    advice: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Revision {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<Timestamp>,
    serves: bool,
    newest: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodLine {
    name: String,
    revision: String,
    phase: String,
    restarts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TriggerLine {
    name: String,
    source: String,
    #[serde(flatten)]
    health: Health,
}

impl Report {
    /// Of a Function and all Triggers, pods and records of its namespace that may be its own.
    pub fn of(
        function: &Function,
        triggers: &[Trigger],
        pods: &[Pod],
        records: &[PartialObjectMeta<ControllerRevision>],
    ) -> Self {
        let health = health::of_function(function);
        let mut advice = health::advice(function, &health);
        let uid = function.metadata.uid.clone().unwrap_or_default();
        let status = function.status.clone().unwrap_or_default();
        let own = triggers.iter().filter(|it| it.spec.function == function.name_any());
        advice.extend(own.clone().filter_map(health::advice_on_trigger));
        let mut revisions: Vec<Revision> =
            records.iter().filter_map(|record| revision(record, &uid, &status)).collect();
        revisions.sort_by_key(|it| std::cmp::Reverse(it.made));
        Self {
            namespace: function.namespace().unwrap_or_default(),
            name: function.name_any(),
            health,
            runs: runs(function),
            url: status.url,
            public_url: status.public_url,
            ready: status.replicas,
            wanted: status.desired_replicas,
            requests: status.usage.map_or(0, |usage| usage.total.requests),
            last_activation: status.last_activation,
            conditions: status.conditions,
            revisions,
            pods: pods.iter().map(pod_line).collect(),
            triggers: own.map(trigger_line).collect(),
            advice,
        }
    }

    /// For people, with colours or without.
    pub fn text(&self, (form, coloured): (Form, bool), now: Timestamp) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write_head(&mut text, coloured, now);
        let sheets = [
            ("Conditions", self.conditions(now)),
            ("Revisions", self.revisions(now)),
            ("Pods", self.pods(now)),
            ("Triggers", self.triggers()),
        ];
        for (title, sheet) in sheets.iter().filter(|(_, sheet)| !sheet.rows.is_empty()) {
            let table = sheet.render(form, &()).unwrap_or_default();
            let _ = write!(text, "\n{title}\n{}", indent(&table));
        }
        let odd = self.triggers.iter().filter(|it| it.health.grade != Grade::Good);
        let odd: Vec<&TriggerLine> = odd.collect();
        if self.health.grade != Grade::Good || !odd.is_empty() {
            let mut grades = odd.iter().map(|it| it.health.grade).chain([self.health.grade]);
            let is_bad = grades.any(|grade| grade == Grade::Bad);
            text.push_str(if is_bad { "\nWhat is wrong\n" } else { "\nWhat is under way\n" });
            if self.health.grade != Grade::Good {
                text.push_str(&whole(&format!("{}: {}", self.health.word, self.health.message)));
            }
            for TriggerLine { name, health, .. } in odd {
                let said = format!("Trigger {name}: {}: {}", health.word, health.message);
                text.push_str(&whole(&said));
            }
        }
        if !self.advice.is_empty() {
            text.push_str("\nWhat to do\n");
            for advice in &self.advice {
                let _ = writeln!(text, "  {advice}");
            }
        }
        text
    }

    fn write_head(&self, out: &mut String, coloured: bool, now: Timestamp) -> std::fmt::Result {
        let Self { namespace, name, health, .. } = self;
        let mut word = health.word.clone();
        if coloured {
            let style = style_of(health.grade);
            word = format!("{style}{word}{style:#}");
        }
        let message = first_line(&health.message);
        writeln!(out, "Function {name} in namespace {namespace}: {word} ({message})")?;
        writeln!(out, "  runs      {}", self.runs)?;
        for url in self.url.iter().chain(&self.public_url) {
            writeln!(out, "  url       {url}")?;
        }
        writeln!(out, "  pods      {} ready, {} wanted", self.ready, self.wanted)?;
        match &self.last_activation {
            Some(last) => {
                let took = total(last).map(|millis| format!(", in {millis} ms"));
                let (when, took) = (last.requested_at.0, took.unwrap_or_default());
                writeln!(out, "  woken     {} ago ({} UTC){took}", age(when, now), clock(when))?;
            }
            None => writeln!(out, "  woken     never that is known")?,
        }
        writeln!(out, "  requests  {} (counted up to a minute ago)", self.requests)
    }

    fn conditions(&self, now: Timestamp) -> Sheet {
        let row = |it: &Condition| {
            let since = age(it.last_transition_time.0, now);
            let message = first_line(&it.message).to_owned();
            [&it.type_, &it.status, &it.reason, &since, &message].map(String::clone).to_vec()
        };
        table(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], self.conditions.iter().map(row))
    }

    fn revisions(&self, now: Timestamp) -> Sheet {
        let row = |it: &Revision| {
            let made = it.made.map_or_else(|| "-".to_owned(), |made| age(made, now));
            let role = match (it.serves, it.newest) {
                (true, true) => "serves",
                (true, false) => "serves, is to be replaced",
                (false, true) => "is to serve",
                (false, false) => "kept for rollback",
            };
            vec![it.name.clone(), made, role.to_owned()]
        };
        table(&["REVISION", "AGE", "ROLE"], self.revisions.iter().map(row))
    }

    fn pods(&self, now: Timestamp) -> Sheet {
        let row = |it: &PodLine| {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let age = it.created.map_or_else(|| "-".to_owned(), |created| age(created, now));
            let restarts = it.restarts.to_string();
            let (name, revision, phase) = (it.name.clone(), it.revision.clone(), it.phase.clone());
            vec![name, revision, phase, restarts, age, text(&it.node), text(&it.address)]
        };
        let head = ["NAME", "REVISION", "PHASE", "RESTARTS", "AGE", "NODE", "ADDRESS"];
        Sheet { narrow: Some(5), ..table(&head, self.pods.iter().map(row)) }
    }

    fn triggers(&self) -> Sheet {
        let row = |it: &TriggerLine| {
            vec![
                it.name.clone(),
                it.source.clone(),
                it.health.word.clone(),
                first_line(&it.health.message).to_owned(),
            ]
        };
        table(&["NAME", "SOURCE", "STATE", "MESSAGE"], self.triggers.iter().map(row))
    }

    /// As rows of names and values, for spreadsheets.
    pub fn flat(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let Self { namespace, name, health, runs, ready, wanted, requests, .. } = self;
        let serves = self.revisions.iter().find(|it| it.serves).map(|it| it.name.clone());
        let row = vec![
            namespace.clone(),
            name.clone(),
            health.word.clone(),
            runs.clone(),
            serves.unwrap_or_default(),
            ready.to_string(),
            wanted.to_string(),
            requests.to_string(),
            self.url.clone().unwrap_or_default(),
        ];
        let head = [
            "NAMESPACE",
            "NAME",
            "STATE",
            "RUNS",
            "REVISION",
            "READY",
            "WANTED",
            "REQUESTS",
            "URL",
        ];
        (head.to_vec(), vec![row])
    }
}

/// What fits into a line: some messages end with the last words of a program.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// All of a text, its first line before the others.
fn whole(text: &str) -> String {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    indent(&format!("{first}\n{}", indent(rest)))
}

fn table(head: &[&'static str], rows: impl Iterator<Item = Vec<String>>) -> Sheet {
    Sheet { head: head.to_vec(), rows: rows.collect(), ..Sheet::default() }
}

fn indent(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// A revision of the Function with this UID; none where it is that of another.
fn revision(
    record: &PartialObjectMeta<ControllerRevision>,
    uid: &str,
    status: &FunctionStatus,
) -> Option<Revision> {
    let labels = record.labels();
    let name = labels.get(LABEL_REVISION)?.clone();
    let is_own = labels.get(LABEL_FUNCTION_UID).is_some_and(|of| of == uid);
    let serving = status.latest_ready.as_ref().or(status.latest_created.as_ref());
    let made = record.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let (serves, newest) = (serving == Some(&name), status.latest_created.as_ref() == Some(&name));
    is_own.then_some(Revision { name, made, serves, newest })
}

fn pod_line(pod: &Pod) -> PodLine {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let own = containers.iter().find(|it| it.name == CONTAINER);
    let waiting = own.and_then(|it| it.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let phase = match &pod.metadata.deletion_timestamp {
        Some(_) => Some("Leaving".to_owned()),
        None => waiting.or(status.phase),
    };
    PodLine {
        name: pod.name_any(),
        revision: pod.labels().get(LABEL_REVISION).cloned().unwrap_or_default(),
        phase: phase.unwrap_or_default(),
        restarts: own.map_or(0, |it| it.restart_count),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        address: status.pod_ip,
    }
}

fn trigger_line(trigger: &Trigger) -> TriggerLine {
    let spec = &trigger.spec;
    let source = if let Some(http) = &spec.http {
        format!("http {}", http.hosts.join(","))
    } else if let Some(schedule) = &spec.schedule {
        format!("schedule {}", schedule.cron)
    } else {
        let all = [
            ("nats", spec.nats.is_some()),
            ("s3", spec.s3.is_some()),
            ("postgres", spec.postgres.is_some()),
            ("webhook", spec.webhook.is_some()),
            ("cloudEvents", spec.cloud_events.is_some()),
        ];
        let named = all.into_iter().find(|(_, is_it)| *is_it);
        named.map_or("of a newer version", |(name, _)| name).to_owned()
    };
    TriggerLine { name: trigger.name_any(), source, health: health::of_trigger(trigger) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const THEN: &str = "2026-11-23T12:00:00Z";

    fn function(ready: &str) -> Function {
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "InitFailed", "message": "it fell over",
                   "lastTransitionTime": THEN})
        };
        let mut conditions = vec![condition("Ready", ready)];
        if ready == "False" {
            conditions.push(condition("Stalled", "True"));
        }
        serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
            "metadata": {"namespace": "shop", "name": "hello", "uid": "u", "generation": 1},
            "spec": {"image": "x:1"},
            "status": {"observedGeneration": 1, "url": "http://hello.shop", "latestReady": "aaa",
                "latestCreated": "bbb", "conditions": conditions, "lastActivation": {
                "requestedAt": THEN, "revision": "aaa", "firstByteMillis": 303}},
        }))
        .unwrap()
    }

    fn record(name: &str, uid: &str, made: &str) -> PartialObjectMeta<ControllerRevision> {
        let record = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": name, "creationTimestamp": made,
            "labels": {LABEL_REVISION: name, LABEL_FUNCTION_UID: uid}}});
        serde_json::from_value(record).unwrap()
    }

    fn report(ready: &str) -> Report {
        let trigger = |name: &str, function: &str| -> Trigger {
            serde_json::from_value(json!({
                "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
                "metadata": {"namespace": "shop", "name": name},
                "spec": {"function": function, "schedule": {"cron": "@daily"}},
            }))
            .unwrap()
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "hello-bbb-x", "labels": {LABEL_REVISION: "bbb"}},
            "status": {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [{
                "name": CONTAINER, "restartCount": 3, "image": "", "imageID": "", "ready": false,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
        }))
        .unwrap();
        let records = [
            record("aaa", "u", "2026-11-23T10:00:00Z"),
            record("bbb", "u", "2026-11-23T11:00:00Z"),
            record("ccc", "another", THEN),
        ];
        Report::of(
            &function(ready),
            &[trigger("mine", "hello"), trigger("x", "y")],
            &[pod],
            &records,
        )
    }

    #[test]
    fn what_is_wrong_stands_below_with_what_to_do() {
        let now = "2026-11-23T12:03:00Z".parse().unwrap();
        let text = report("False").text((Form::Table, false), now);
        for part in [
            "Function hello in namespace shop: InitFailed (it fell over)\n",
            "  woken     3m ago (2026-11-23 12:00:00 UTC), in 303 ms\n",
            "  bbb       63m  is to serve\n  aaa       2h   serves, is to be replaced\n",
            "  hello-bbb-x  bbb       CrashLoopBackOff  3 ",
            "  mine  schedule @daily  Unseen ",
            "\nWhat is wrong\n  InitFailed: it fell over\n  Trigger mine: Unseen: ",
            "\nWhat to do\n  see what it printed: `rouse logs hello -n shop`",
            "`rouse rollback hello -n shop`",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("ccc") && !text.contains("10.0.0.7"), "{text}");
    }

    #[test]
    fn what_is_only_under_way_is_not_wrong_and_long_messages_stand_once() {
        let now = THEN.parse().unwrap();
        let text = report("True").text((Form::Table, false), now);
        assert!(text.contains("\nWhat is under way\n  Trigger mine: Unseen: "), "{text}");
        assert!(!text.contains("What is wrong"), "{text}");
        let mut long = report("False");
        long.health.message = "it ended:\nTraceback\nNameError".into();
        let text = long.text((Form::Table, false), now);
        assert!(text.contains("  InitFailed: it ended:\n    Traceback\n    NameError\n"), "{text}");
        assert_eq!(text.matches("NameError").count(), 1, "{text}");
    }

    #[test]
    fn what_is_in_order_needs_no_advice_and_programs_get_all() {
        let report = report("True");
        let now = THEN.parse().unwrap();
        assert!(!report.text((Form::Table, false), now).contains("What to do"));
        assert!(report.text((Form::Table, true), now).contains("\x1b["));
        let told: Value = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&told["grade"], &told["revisions"][1]["serves"]),
            (&json!("good"), &json!(true))
        );
        assert_eq!(told["pods"][0]["address"], "10.0.0.7");
        let (head, rows) = report.flat();
        assert_eq!((head.len(), rows[0].len(), rows[0][4].as_str()), (9, 9, "aaa"));
    }
}
