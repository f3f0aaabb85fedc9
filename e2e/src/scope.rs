//! A namespace of a test's own, and the objects that tests make in it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rouse_crds::v1alpha1::{Function, Trigger};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::activators::is_ready;
use crate::cluster::{Cluster, HELLO_IMAGE};
use crate::wait;

/// How long a Function may take to wake, sleep or change on a machine that is busy with tests.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How often somebody looks at what a program says.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Runs `program` to its end.
    pub fn of(program: &mut Command) -> anyhow::Result<Self> {
        let ended = program.output().with_context(|| format!("running {program:?}"))?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let code = ended.status.code().unwrap_or(-1);
        Ok(Self { code, out: text(&ended.stdout), err: text(&ended.stderr) })
    }

    /// The same, where it ended with that code.
    pub fn ends_with(self, code: i32) -> anyhow::Result<Self> {
        ensure!(self.code == code, "it should have ended with {code}: {self:?}");
        Ok(self)
    }

    /// What it said for programs.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }
}

/// Where the program `rouse` is that users ask.
pub fn program() -> anyhow::Result<PathBuf> {
    std::env::var_os("ROUSE_E2E_PROGRAM")
        .map(PathBuf::from)
        .context("ROUSE_E2E_PROGRAM must name the program; `cargo xtask test` sets it")
}

/// A namespace for one test.
pub struct Scope {
    /// The cluster.
    pub cluster: Cluster,
    /// Name of the namespace.
    pub namespace: String,
}

impl Scope {
    /// Makes a namespace whose name begins with `e2e-` and `test`.
    pub async fn new(test: &str) -> anyhow::Result<Self> {
        let cluster = Cluster::connect().await?;
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let wanted = json!({"metadata": {"generateName": format!("e2e-{test}-")}});
        let made = namespaces
            .create(&PostParams::default(), &serde_json::from_value(wanted)?)
            .await
            .context("making the test's namespace")?;
        let namespace = made.metadata.name.context("a namespace has a name")?;
        Ok(Self { cluster, namespace })
    }

    /// Runs `test` in a namespace of its own, which goes when it passes. When it fails, what the
    /// namespace held is printed and it stays.
    ///
    /// # Panics
    /// When the test fails, as tests do.
    pub async fn run<F>(test: &str, body: impl FnOnce(std::sync::Arc<Self>) -> F)
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let scope = std::sync::Arc::new(Self::new(test).await.expect("the test has a namespace"));
        match body(std::sync::Arc::clone(&scope)).await {
            Ok(()) => scope.delete().await.expect("the namespace can be deleted"),
            Err(error) => {
                let seen = scope.describe().await.unwrap_or_else(|error| error.to_string());
                panic!("{error:?}\n\nin namespace {}:\n{seen}", scope.namespace);
            }
        }
    }

    /// The objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// What `rouse` answers about the namespace with the rights of the test's kubeconfig, as JSON.
    pub fn ask(&self, question: &[&str]) -> anyhow::Result<Value> {
        let mut asking = self.program()?;
        let said = asking.args(question).args(["-n", &self.namespace, "-o", "json"]).output()?;
        ensure!(said.status.success(), "{question:?}: {}", String::from_utf8_lossy(&said.stderr));
        Ok(serde_json::from_slice(&said.stdout)?)
    }

    /// Deploys a folder below `e2e` as the Function `name`, as a user with these variables would, and
    /// waits until it is ready.
    pub fn deploy(
        &self,
        name: &str,
        folder: &str,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let mut deploying = self.program()?;
        deploying.current_dir(env!("CARGO_MANIFEST_DIR")).envs(variables.iter().copied());
        deploying.args(["deploy", folder, "--name", name, "-n", &self.namespace]).args(more);
        let said = deploying.output()?;
        ensure!(said.status.success(), "{folder}: {}", String::from_utf8_lossy(&said.stderr));
        Ok(())
    }

    /// What the program `rouse` says to this line of words, in the namespace.
    pub fn rouse(&self, words: &[&str]) -> anyhow::Result<Said> {
        let mut program = self.program()?;
        Said::of(program.args(words).args(["-n", &self.namespace]))
    }

    /// The program `rouse` with the rights of the cluster's kubeconfig.
    pub fn program(&self) -> anyhow::Result<Command> {
        let mut program = Command::new(program()?);
        program.env("KUBECONFIG", &self.cluster.kubeconfig);
        Ok(program)
    }

    /// Host by which callers in the cluster reach the Function `name`.
    pub fn host(&self, name: &str) -> String {
        format!("{name}.{}", self.namespace)
    }

    /// Applies the Function `name` with this spec, as a user would.
    pub async fn apply_function(&self, name: &str, spec: Value) -> anyhow::Result<Function> {
        self.apply("Function", name, spec).await
    }

    /// Applies the Trigger `name` with this spec, as a user would.
    pub async fn apply_trigger(&self, name: &str, spec: Value) -> anyhow::Result<Trigger> {
        self.apply("Trigger", name, spec).await
    }

    async fn apply<K>(&self, kind: &str, name: &str, spec: Value) -> anyhow::Result<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let object = json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let params = PatchParams::apply("e2e").force();
        Ok(self.api().patch(name, &params, &Patch::Apply(object)).await?)
    }

    /// Waits until the Function `name` has printed something, as `rouse logs` tells it.
    pub async fn printed(
        &self,
        name: &str,
        wanted: &str,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let mut looks = interval(LOOK_EVERY);
        let mut last = None;
        let looking = async {
            loop {
                looks.tick().await;
                let said = self.rouse(&["logs", name])?;
                if said.out.contains(wanted) {
                    return anyhow::Ok(());
                }
                last = Some(said);
            }
        };
        let looked = timeout(deadline, looking).await;
        looked.with_context(|| format!("{name} did not print `{wanted}`, but: {last:?}"))?
    }

    /// Waits until the Function's controller has seen its newest spec and `is_so` is true.
    pub async fn function(
        &self,
        name: &str,
        deadline: Duration,
        mut is_so: impl FnMut(&Function) -> bool,
    ) -> anyhow::Result<Function> {
        let seen = wait::object(&self.api::<Function>(), name, deadline, |function| {
            function.is_some_and(|function| observed(function) && is_so(function))
        })
        .await?;
        seen.context("the Function is there")
    }

    /// Waits until the Function sleeps: without a pod, ready, and, which is told a second late, not
    /// active.
    pub async fn asleep(&self, name: &str, deadline: Duration) -> anyhow::Result<()> {
        self.pods(name, deadline, <[Pod]>::is_empty).await?;
        self.function(name, deadline, |function| {
            condition(function, "Ready") == Some("True")
                && condition(function, "Active") == Some("False")
        })
        .await
        .map(drop)
    }

    /// Waits until the Trigger is ready or not, as `status` says, for this reason.
    pub async fn trigger_is(&self, name: &str, status: &str, reason: &str) -> anyhow::Result<()> {
        wait::object(&self.api::<Trigger>(), name, PATIENCE, |trigger| {
            let status_of = trigger.and_then(|trigger| trigger.status.as_ref());
            let mut conditions = status_of.into_iter().flat_map(|status| &status.conditions);
            conditions.any(|c| c.type_ == "Ready" && c.status == status && c.reason == reason)
        })
        .await
        .map(drop)
    }

    /// Waits until the pods of the Function make `is_so` true.
    pub async fn pods(
        &self,
        name: &str,
        deadline: Duration,
        is_so: impl FnMut(&[Pod]) -> bool,
    ) -> anyhow::Result<Vec<Pod>> {
        wait::list(&self.api(), &selector(name), deadline, is_so).await
    }

    /// Waits until the Deployments of the Function make `is_so` true.
    pub async fn deployments(
        &self,
        name: &str,
        deadline: Duration,
        is_so: impl FnMut(&[Deployment]) -> bool,
    ) -> anyhow::Result<Vec<Deployment>> {
        wait::list(&self.api(), &selector(name), deadline, is_so).await
    }

    /// Runs `container`, in a pod that has `more`, as a server of the name `name`; gives the address of
    /// its pod.
    pub async fn serve(
        &self,
        name: &str,
        port: u16,
        (container, more): (Value, Value),
    ) -> anyhow::Result<SocketAddr> {
        let (mut container, mut spec) = (container, more);
        container["name"] = name.into();
        container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        container["readinessProbe"] = json!({"tcpSocket": {"port": port}, "periodSeconds": 1});
        spec["containers"] = json!([container]);
        spec["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
        let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        let pods = self.api::<Pod>();
        pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        let service = json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
        });
        let services = self.api::<Service>();
        services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        let ready = wait::object(&pods, name, PATIENCE, |pod| pod.is_some_and(is_ready)).await?;
        let ip = ready.and_then(|pod| pod.status?.pod_ip).context("the server has an address")?;
        Ok(SocketAddr::new(ip.parse()?, port))
    }

    /// Asks for the end of the namespace, without waiting for it; it may be gone already.
    pub async fn delete(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        match namespaces.delete(&self.namespace, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).context("deleting the test's namespace"),
        }
    }

    async fn describe(&self) -> anyhow::Result<String> {
        let all = ListParams::default();
        let mut text = String::new();
        for function in self.api::<Function>().list(&all).await? {
            text += &serde_json::to_string_pretty(&function)?;
        }
        for trigger in self.api::<Trigger>().list(&all).await? {
            text += &serde_json::to_string_pretty(&trigger)?;
        }
        for pod in self.api::<Pod>().list(&all).await? {
            writeln!(text, "\npod {:?}: {:?}", pod.metadata.name, pod.status)?;
        }
        for event in self.api::<Event>().list(&all).await? {
            write!(text, "\n{:?} {:?}", event.reason, event.message)?;
        }
        Ok(text)
    }
}

fn selector(function: &str) -> String {
    format!("rouse.dev/function={function}")
}

fn observed(function: &Function) -> bool {
    let status = function.status.as_ref();
    status.is_some_and(|status| status.observed_generation == function.metadata.generation)
}

/// The status of a condition of the Function.
pub fn condition<'f>(function: &'f Function, kind: &str) -> Option<&'f str> {
    find_condition(function, kind).map(|condition| condition.status.as_str())
}

/// A condition of the Function.
pub fn find_condition<'f>(
    function: &'f Function,
    kind: &str,
) -> Option<&'f k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    function.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// A spec of the sample Function that sleeps 2 s after its last request, with `more` laid over it.
pub fn hello(more: &Value) -> Value {
    let mut spec = json!({
        "image": HELLO_IMAGE,
        "scaling": {"idle": {"after": "2s"}, "stableWindow": "2s"},
    });
    merge(&mut spec, more);
    spec
}

/// The same of a Function with code, with `source` laid over that.
pub fn hello_code(source: &Value, more: &Value) -> Value {
    let mut spec = json!({
        "source": {"runtime": "hello"},
        "scaling": {"idle": {"after": "2s"}, "stableWindow": "2s"},
    });
    merge(&mut spec["source"], source);
    merge(&mut spec, more);
    spec
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}
