//! The whole controller on an API server in memory and a paused clock: which calls it makes, and
//! that it makes none when nothing changed.

mod fake_api;
mod functions;
mod keepers;
mod membership;
mod propagation;
mod schedules;
mod source;
mod sources;
mod streams;
mod triggers;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus_client::registry::Registry;
use rouse_core::function::runtime::Runtimes;
use rouse_core::function::{FunctionKey, revision_hash, validate};
use rouse_core::membership::Membership;
use rouse_core::report::{FunctionReport, ReportLine, RevisionReport, Routed};
use rouse_core::resident::{PodTemplate, Resident};
use rouse_core::trigger::HostPolicy;
use rouse_crds::v1alpha1::{Function, LastError};
use rouse_peer::testing::Tokens;
use rouse_peer::{Connector, ProofMetrics};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::context::Shared;
use crate::metrics::Metrics;
use crate::run::{Config, Parts, start};
use fake_api::{Call, FakeApi};

const NAMESPACE: &str = "shop";
const SYSTEM: &str = "rouse-system";
const RUNTIMES: &str = r#"{"shell": {"image": "runtime-shell:1", "command": ["sh", "app.sh"]}}"#;
const HELLO_UID: &str = "uid-hello";

/// A controller and its API server.
struct Rig {
    api: FakeApi,
    context: Shared,
    stop: watch::Sender<bool>,
    tasks: JoinSet<&'static str>,
}

fn config() -> Config {
    Config {
        namespace: SYSTEM.into(),
        pod_name: "rouse-controller-0".into(),
        activator_host: "rouse-activator.rouse-system.svc.cluster.local".into(),
        host_policy: HostPolicy {
            cluster_domain: "cluster.local".into(),
            public_domain: Some("fn.example.org".into()),
            suffixes: BTreeMap::from([("*".into(), vec!["example.com".into()])]),
        },
        peer_token_file: "/nonexistent".into(),
        peer_port: 8082,
        residents: residents(),
        runtimes: Runtimes::parse(RUNTIMES).unwrap(),
    }
}

impl Rig {
    /// A controller on a cluster with one activator, at rest.
    async fn new() -> Self {
        let api = FakeApi::default();
        api.make("pods", activator("activator-0", "10.0.0.1"));
        let mut rig = Self::on(api);
        rig.settle().await;
        rig.api.take_calls();
        rig
    }

    /// A controller whose activator `activator-0` knows of everything at once.
    fn on(api: FakeApi) -> Self {
        let rig = Self::unrouted(api);
        let everything = Routed { functions: u64::MAX, triggers: u64::MAX };
        rig.context.reports.accept("uid-activator-0", 1, ReportLine::Routed(everything));
        rig
    }

    /// A controller that has not heard of any activator.
    fn unrouted(api: FakeApi) -> Self {
        Self::with(api, config()).0
    }

    fn with(api: FakeApi, config: Config) -> (Self, watch::Receiver<Membership>) {
        let (stop, shutdown) = watch::channel(false);
        let metrics = Metrics::new(&mut Registry::default());
        let tokens = Tokens::default().client();
        let connector = Connector::new(tokens, SYSTEM, ProofMetrics::default()).unwrap();
        let (parts, tasks) = start(config, (api.client(), connector), metrics, shutdown);
        let Parts { context, membership } = parts;
        (Self { api, context, stop, tasks }, membership)
    }

    /// Kills the controller and starts another on the same API server.
    async fn restart(&mut self) {
        self.tasks.shutdown().await;
        *self = Self::on(self.api.clone());
    }

    /// Waits until the controller has had nothing to say for a while.
    async fn settle(&mut self) {
        let mut before = usize::MAX;
        for _ in 0..200 {
            sleep(Duration::from_secs(1)).await;
            assert!(self.tasks.try_join_next().is_none(), "no task ends");
            let now = self.api.requests();
            if now == before || self.api.is_dead() {
                return;
            }
            before = now;
        }
        panic!("the controller never rests: {:#?}", self.api.lines());
    }

    /// Settles, and tells the writes on the way.
    async fn settled_lines(&mut self) -> Vec<String> {
        self.settle().await;
        self.api.lines()
    }

    async fn settled_calls(&mut self) -> Vec<Call> {
        self.settle().await;
        self.api.take_calls()
    }

    /// Makes the Function `hello`; the hash of its revision.
    fn create_function(&self, spec: &Value) -> String {
        let function = function(spec);
        let revision = revision_of(&function);
        self.api.make("functions", function);
        revision
    }

    /// Changes the spec of the Function `hello`; the hash of its revision.
    fn change_function(&self, spec: &Value) -> String {
        let spec = function(spec)["spec"].take();
        let change = |function: &mut Value| function["spec"] = spec.clone();
        self.api.change("functions", NAMESPACE, "hello", change);
        revision_of(&function(&spec))
    }

    fn status(&self) -> Value {
        self.api.get("functions", NAMESPACE, "hello").unwrap()["status"].clone()
    }

    /// The conditions of `hello` as `type=status/reason`.
    fn conditions(&self) -> Vec<String> {
        conditions(&self.status())
    }

    fn message(&self, kind: &str) -> String {
        let status = self.status();
        let conditions = status["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        found.unwrap()["message"].as_str().unwrap().to_owned()
    }

    /// Sends a report as the activator would.
    async fn report(&self, report: FunctionReport) {
        self.tell("uid-activator-0", ReportLine::Function(Box::new(report))).await;
    }

    /// Sends a line as the activator with this UID would; how many reconciles follow from it.
    async fn tell(&self, activator: &str, line: ReportLine) -> usize {
        let changed = self.context.reports.accept(activator, 1, line);
        for (namespace, name) in &changed {
            self.context.requests.send(namespace, name).await;
        }
        changed.len()
    }

    /// Sets the pods of a revision's Deployment, as the activator and Kubernetes do.
    fn scale(&self, revision: &str, pods: u32) {
        let name = format!("hello-{revision}");
        self.api.change("deployments", NAMESPACE, &name, |deployment| {
            deployment["spec"]["replicas"] = json!(pods);
            deployment["status"]["replicas"] = json!(pods);
        });
    }
}

/// The pods that Rouse runs in namespaces of tenants, as the chart has them.
fn residents() -> BTreeMap<Resident, PodTemplate> {
    let template = |resident: Resident| {
        let template = json!({"spec": {
            "serviceAccountName": resident.name(),
            "containers": [{"name": resident.component(), "image": "i"}],
        }});
        (resident, PodTemplate::parse(resident, &template.to_string()).unwrap())
    };
    Resident::ALL.map(template).into()
}

fn conditions(status: &Value) -> Vec<String> {
    let conditions = status["conditions"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    conditions
        .iter()
        .map(|c| format!("{}={}/{}", word(&c["type"]), word(&c["status"]), word(&c["reason"])))
        .collect()
}

fn function(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "rouse.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "hello", "namespace": NAMESPACE, "uid": HELLO_UID},
        "spec": {"image": "registry.example/hello:1"},
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

fn revision_of(function: &Value) -> String {
    let function: Function = serde_json::from_value(function.clone()).unwrap();
    revision_hash(&validate(&function).unwrap().workload)
}

/// An activator's pod that is ready.
fn activator(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {
            "app.kubernetes.io/name": "rouse", "app.kubernetes.io/component": "activator",
        }},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "activator", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    })
}

/// A report on `hello`; of each revision the pods that are desired, ready, and requests in flight.
fn report(serving: Option<&str>, pods: &[(&str, [u32; 3])]) -> FunctionReport {
    let of = |&(revision, [desired, ready, in_flight]): &(&str, [u32; 3])| {
        (revision.to_owned(), RevisionReport { desired, ready, in_flight })
    };
    FunctionReport {
        key: FunctionKey::new(NAMESPACE, "hello"),
        uid: HELLO_UID.into(),
        membership: 1,
        serving: serving.map(str::to_owned),
        revisions: pods.iter().map(of).collect(),
        last_activation: None,
        last_error: None,
        learned: None,
        history: rouse_core::history::History::default(),
    }
}

fn failing(mut report: FunctionReport, revision: &str, reason: &str) -> FunctionReport {
    report.last_error = Some(LastError {
        time: Time(Timestamp::UNIX_EPOCH),
        revision: revision.into(),
        reason: reason.into(),
        message: "the image can't be pulled".into(),
    });
    report
}
