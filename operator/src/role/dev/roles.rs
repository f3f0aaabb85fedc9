//! What the roles of a cluster find of themselves in it: their accounts, their pods, their tokens and
//! the command lines that the chart would give them. The roles themselves are the same.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rouse_core::function::names::{MANAGER_ACTIVATOR, MANAGER_CONTROLLER, PEER_AUDIENCE};
use rouse_core::letter::LETTERS_PORT;
use rouse_local::api::Api as LocalApi;
use rouse_local::node::ADDRESS;
use rouse_peer::plain_client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::apply::make_namespace;
use super::state::State;
use crate::args::{ActivatorArgs, Cli, ControllerArgs, Role};
use crate::role::activator::Ports;
use crate::role::open;

/// Namespace of Rouse itself.
pub const NAMESPACE: &str = "rouse-system";
/// The node of its pods: this very process.
const NODE: &str = "rouse-dev";
/// The client of Lambda for Bash, which is no package.
const SHELL_CLIENT: &str = include_str!("../../../runtimes/shell/bootstrap");
/// How long requests that are under way have once the process shall end.
const DRAIN: &str = "5s";
/// Connections of callers, of whom there is one.
const CONNECTIONS: &str = "1024";
/// How often the activator is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// The roles, ready to be run.
pub struct Roles {
    /// What the controller is told.
    pub controller: Box<ControllerArgs>,
    /// What the activator is told.
    pub activator: Box<ActivatorArgs>,
    /// The activator's ports. Found and kept: one that was only looked up could be another's when it is
    /// opened.
    pub ports: Ports,
    /// Where the activator says whether it is ready, and what it counts.
    pub admin: SocketAddr,
    pods: Api<Pod>,
}

impl Roles {
    /// Makes what they need; Functions are called at `http`.
    pub async fn prepare(api: &LocalApi, state: &State, http: TcpListener) -> anyhow::Result<Self> {
        let client = api.client(NAMESPACE);
        make_namespace(&client, NAMESPACE).await?;
        let pods = Api::namespaced(client.clone(), NAMESPACE);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (public, peer) = (open("public", any).await?, open("peer", any).await?);
        let admin = open("admin", any).await?;
        let local = |port: &TcpListener| port.local_addr().context("asking for a port's number");
        let (called, told, admin_at) = (local(&http)?, local(&peer)?.port(), local(&admin)?);
        let mut lines = [MANAGER_CONTROLLER, MANAGER_ACTIVATOR].map(Line::new);
        for line in &mut lines {
            let uid = make_pod(&pods, line.account, line.account == MANAGER_CONTROLLER).await?;
            make_account(&client, line.account).await?;
            let token = api.token(NAMESPACE, line.account, PEER_AUDIENCE);
            let token = token.with_context(|| format!("{} has no token", line.account))?;
            let file = state.write(&format!("{}.token", line.account), &token)?;
            line.say("--pod-uid", &uid);
            line.say("--peer-token-file", &file.display().to_string());
        }
        let [mut controller, mut activator] = lines;
        controller.say("--admin-addr", &any.to_string());
        controller.say("--peer-port", &told.to_string());
        controller.say("--activator-host", &called.to_string());
        controller.say("--source-template", &source_template(called).to_string());
        controller.say("--runtimes", &runtimes(state)?.to_string());
        activator.say("--drain", DRAIN);
        activator.say("--threads", "1");
        activator.say("--max-connections", CONNECTIONS);
        let (Role::Controller(controller), Role::Activator(activator)) =
            (controller.parse()?, activator.parse()?)
        else {
            bail!("the roles are none that `rouse dev` knows");
        };
        let ports = Ports { http, public, peer, admin };
        Ok(Self { controller, activator, ports, admin: admin_at, pods })
    }

    /// Waits until the activator knows the Functions and can be known, and says so as a kubelet does.
    pub fn introduce(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (pods, admin) = (self.pods.clone(), self.admin);
        async move {
            let uri: Uri = format!("http://{admin}/readyz").parse().context("naming a port")?;
            let client = plain_client::<Empty<Bytes>>(Duration::from_secs(1));
            loop {
                let asked = client.get(uri.clone()).await;
                if asked.is_ok_and(|answer| answer.status().is_success()) {
                    return say_pod(&pods, MANAGER_ACTIVATOR, true).await;
                }
                sleep(ASK_EVERY).await;
            }
        }
    }
}

/// A command line.
struct Line {
    account: &'static str,
    words: Vec<String>,
}

impl Line {
    fn new(account: &'static str) -> Self {
        let role = account.strip_prefix("rouse-").unwrap_or(account);
        let words = vec!["rouse".to_owned(), role.to_owned()];
        let mut line = Self { account, words };
        line.say("--namespace", NAMESPACE);
        line.say("--pod-name", account);
        // There is but one tenant.
        line.say("--host-suffix", "*=*");
        line
    }

    fn say(&mut self, flag: &str, value: &str) {
        self.words.push(format!("{flag}={value}"));
    }

    fn parse(self) -> anyhow::Result<Role> {
        Ok(Cli::try_parse_from(self.words).context("the command line of a role")?.role)
    }
}

/// Opens the port at which Functions are called, if nobody listens there; 0 for any.
pub async fn open_port(asked: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, asked)).await {
        Ok(port) => Ok(port),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let other = asked.checked_add(1).unwrap_or(8080);
            bail!(
                "port {asked} is in use on this machine: choose another one such as --port {other}, \
                 or --port 0 for any that is free"
            )
        }
        Err(error) => Err(error).with_context(|| {
            format!("opening port {asked}: choose another one by --port, above 1023")
        }),
    }
}

async fn make_pod(pods: &Api<Pod>, account: &str, ready: bool) -> anyhow::Result<String> {
    let role = account.strip_prefix("rouse-").unwrap_or(account);
    let wanted = json!({
        "metadata": {"name": account, "labels": {
            "app.kubernetes.io/name": "rouse",
            "app.kubernetes.io/component": role,
            "app.kubernetes.io/part-of": "rouse",
        }},
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": account,
            "containers": [{"name": "rouse", "image": "rouse"}],
        },
    });
    let wanted = serde_json::from_value(wanted).context("the pod of a role")?;
    let made = pods.create(&PostParams::default(), &wanted).await;
    let uid = made.with_context(|| format!("making the pod of {role}"))?.metadata.uid;
    say_pod(pods, account, ready).await?;
    uid.context("a pod has a UID")
}

async fn say_pod(pods: &Api<Pod>, name: &str, ready: bool) -> anyhow::Result<()> {
    let status = json!({"status": {
        "phase": "Running",
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "containerStatuses": [{
            "name": "rouse", "image": "rouse", "imageID": "", "ready": ready,
            "restartCount": 0, "state": {"running": {}},
        }],
    }});
    let told = pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
    told.map(drop).with_context(|| format!("writing the status of the pod {name}"))
}

async fn make_account(client: &Client, name: &str) -> anyhow::Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), NAMESPACE);
    let making = || format!("making the ServiceAccount {name}");
    let own = json!({"metadata": {"name": name}});
    let own = serde_json::from_value(own).with_context(making)?;
    accounts.create(&PostParams::default(), &own).await.map(drop).with_context(making)
}

/// The pods that run sources: this program again. Servers are where this machine finds them.
fn source_template(activator: SocketAddr) -> Value {
    let port = |name: &str, number: u16| json!({"name": name, "containerPort": number});
    let at = |name: &str, number: u16| {
        [
            json!({"name": format!("ROUSE_{name}_PORT"), "value": number.to_string()}),
            json!({"name": format!("ROUSE_{name}_ADDR"),
                "value": format!("{ADDRESS}:$(ROUSE_{name}_PORT)")}),
        ]
    };
    let namespace = json!({"fieldRef": {"fieldPath": "metadata.namespace"}});
    let mut env = vec![json!({"name": "POD_NAMESPACE", "valueFrom": namespace})];
    env.extend(at("DOORS", 8083));
    env.extend(at("ADMIN", 9090));
    env.push(json!({"name": "ROUSE_LETTERS_PORT", "value": LETTERS_PORT.to_string()}));
    json!({
        "metadata": {"labels": {"app.kubernetes.io/part-of": "rouse"}},
        "spec": {"terminationGracePeriodSeconds": 10, "containers": [{
            "name": "source",
            "image": "rouse",
            "args": [
                "source", format!("--activator-host={activator}"), "--log=text",
                // What keeps a Trigger from working is told once, by its status.
                "--log-filter=error", "--allow-address=0.0.0.0/0", "--allow-address=::/0",
            ],
            "env": env,
            "ports": [port("doors", 8083), port("admin", 9090), port("letters", LETTERS_PORT)],
        }]},
    })
}

/// What code is run in: the programs of this machine, where the chart has images.
fn runtimes(state: &State) -> anyhow::Result<Value> {
    let shell = state.write("lambda.sh", SHELL_CLIENT)?;
    let python = json!({"image": "python", "command": ["python3", "$(ROUSE_HANDLER)"], "commands": {
        "Lambda": ["python3", "-m", "awslambdaric", "$(ROUSE_HANDLER)"],
        "FunctionsFramework": ["python3", "-m", "functions_framework"],
    }});
    let node = json!({"image": "node", "command": ["node", "$(ROUSE_HANDLER)"], "commands": {
        "Lambda": ["npx", "--no-install", "aws-lambda-ric", "$(ROUSE_HANDLER)"],
        "FunctionsFramework": ["npx", "--no-install", "functions-framework"],
    }});
    let java = json!({"image": "java", "command": ["java", "-jar", "$(ROUSE_HANDLER)"], "commands": {
        "Lambda": ["java", "-cp", "$(ROUSE_CODE_FOLDER):$(ROUSE_CODE_FOLDER)/lib/*",
            "com.amazonaws.services.lambda.runtime.api.client.AWSLambda", "$(ROUSE_HANDLER)"],
        "FunctionsFramework": [],
    }});
    let shell = json!({"image": "bash", "command": ["bash", "$(ROUSE_HANDLER)"], "commands": {
        "Lambda": ["bash", literal(&shell)], "FunctionsFramework": [],
    }});
    let provided = json!({"image": "none", "command": ["./bootstrap"]});
    let mut all = json!({"provided": provided, "shell": shell});
    for (of, names) in [
        (&python, &["python3.11", "python3.12", "python3.13", "python3.14"][..]),
        (&node, &["node18", "node20", "node22", "node24"]),
        (&java, &["java17", "java21", "java25"]),
    ] {
        for name in names {
            all[name] = of.clone();
        }
    }
    Ok(all)
}

/// A path as a word of a command, in which a dollar has a meaning.
fn literal(path: &Path) -> PathBuf {
    path.to_string_lossy().replace('$', "$$").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_told_with_what_to_do() {
        let taken = open_port(0).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(port, 0);
        let error = open_port(port).await.unwrap_err().to_string();
        assert!(error.contains("--port"), "{error}");
    }

    #[test]
    fn the_roles_take_what_they_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(None, folder.path()).unwrap();
        let mut line = Line::new(MANAGER_CONTROLLER);
        for (flag, value) in [
            ("--pod-uid", "u".to_owned()),
            ("--source-template", source_template(([127, 0, 0, 1], 8080).into()).to_string()),
            ("--runtimes", runtimes(&state).unwrap().to_string()),
        ] {
            line.say(flag, &value);
        }
        let Role::Controller(args) = line.parse().unwrap() else { panic!("another role") };
        assert!(args.runtimes.unwrap().0.contains_key("python3.11"));
    }
}
