//! Brings the cluster up, or back to what it should be. Must not end what runs as it should.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use super::daemons::{self, Inputs};
use super::layout::{Layout, NODE};
use super::processes::{self, Daemon, State};
use super::{images, kubectl, lock, network, pki, settings, system};
use crate::tools::{self, catalog};
use crate::{command, term};

/// How long the parts may take to answer, on a slow machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_millis(150);
/// How long one question to the cluster's DNS may stay unanswered.
pub const DNS_PATIENCE: Duration = Duration::from_millis(500);

/// Starts what doesn't run and waits until the cluster serves.
pub fn up(layout: &Layout) -> Result<()> {
    system::prepare()?;
    tools::ensure(catalog::CLUSTER)?;
    let archives = images::build()?;
    let _lock = lock::claim(layout)?;
    let started = Instant::now();
    let inputs = prepare(layout)?;
    let ground = daemons::ground(layout, &inputs)?;
    let api = daemons::api_server(layout, &inputs)?;
    let clients = daemons::clients(layout, &inputs)?;
    let all: Vec<&Daemon> = ground.iter().chain([&api]).chain(&clients).collect();

    let starting = stop_outdated(layout, &all)?;
    if starting.is_empty() && serves(layout) {
        term::note(format!("The cluster in {} runs and serves.", layout.root().display()));
        return Ok(());
    }
    network::check_ports(&starting)?;
    let (count, root) = (starting.len(), layout.root().display());
    term::note(format!("Starting {count} daemons in {root}; this takes some 15 s."));
    network::set_up(layout)?;
    start_down(layout, ground.iter().chain([&api]))?;
    wait(layout, "containerd to answer", || {
        command::succeeds(images::ctr(layout)?.arg("version")).then_some(()).context("no answer")
    })?;
    images::import(layout, &archives)?;
    wait(layout, "the API server to be ready", || {
        command::output(kubectl(layout)?.args(["get", "--raw", "/readyz"])).map(drop)
    })?;
    start_down(layout, &clients)?;
    apply_dns(layout)?;
    wait(layout, "the node to be Ready and the cluster's DNS to answer", || {
        node_is_ready(layout)?;
        network::dns_answers(DNS_PATIENCE).then_some(()).context("the DNS gives no answer")
    })?;
    term::note(format!("The cluster is up after {}.", term::seconds(started.elapsed())));
    Ok(())
}

/// Whether API server, node and DNS answer, for the state that they are in now.
pub fn serves(layout: &Layout) -> bool {
    node_is_ready(layout).is_ok() && network::dns_answers(DNS_PATIENCE)
}

/// The node's own word on whether it is ready.
pub fn node_is_ready(layout: &Layout) -> Result<()> {
    let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    match command::output(kubectl(layout)?.args(["get", "node", NODE, "-o", path]))?.as_str() {
        "True" => Ok(()),
        other => bail!("the node's condition Ready is {other:?}"),
    }
}

/// Folders, certificates and settings.
fn prepare(layout: &Layout) -> Result<Inputs> {
    for folder in ["run", "log", "etcd", "config/cni", "containerd", "cni", "kubelet"] {
        std::fs::create_dir_all(layout.at(folder))?;
    }
    let node = network::node_address()?;
    let something_runs =
        daemons::NAMES.iter().any(|name| processes::running(layout, name).is_some());
    pki::ensure(layout, node, something_runs)?;
    let runc = tools::path(&catalog::RUNC, "runc")?;
    let plugins = tools::path(&catalog::CNI, "")?;
    let store = images::snapshotter(layout)?;
    let containerd = settings::containerd(layout, &runc, &plugins, images::PAUSE, store);
    let kubelet = settings::kubelet(layout, &resolv_conf());
    for (file, text) in [
        ("config/containerd.toml", containerd.as_str()),
        ("config/kubelet.yaml", &kubelet),
        ("config/audit-policy.yaml", settings::AUDIT_POLICY),
        ("config/cni/10-rouse.conflist", &settings::network(layout)),
    ] {
        // Containerd reads its network's file whenever it is written.
        if std::fs::read_to_string(layout.at(file)).ok().as_deref() != Some(text) {
            std::fs::write(layout.at(file), text)?;
        }
    }
    Ok(Inputs { node, containerd, kubelet })
}

/// The file with the node's DNS servers; behind systemd-resolved it is not the usual one.
fn resolv_conf() -> PathBuf {
    let resolved = Path::new("/run/systemd/resolve/resolv.conf");
    if resolved.is_file() { resolved.into() } else { "/etc/resolv.conf".into() }
}

/// Ends daemons that run with other settings than they should, the last started first; gives the
/// names of all that are to be started.
fn stop_outdated(layout: &Layout, all: &[&Daemon]) -> Result<Vec<&'static str>> {
    let mut starting = Vec::new();
    for daemon in all.iter().rev() {
        match daemon.state(layout) {
            State::Running(_) => continue,
            State::Outdated(_) => {
                term::note(format!("Restarting {}: its settings changed.", daemon.name));
            }
            State::Down => {}
        }
        // Of one that died this removes the record, or it would look as if it died after its start.
        processes::stop(layout, daemon.name)?;
        starting.push(daemon.name);
    }
    Ok(starting)
}

fn start_down<'a>(layout: &Layout, daemons: impl IntoIterator<Item = &'a Daemon>) -> Result<()> {
    for daemon in daemons {
        if daemon.state(layout) == State::Down {
            daemon.start(layout)?;
        }
    }
    Ok(())
}

fn apply_dns(layout: &Layout) -> Result<()> {
    let servers = std::fs::read_to_string(resolv_conf()).unwrap_or_default();
    let objects = settings::coredns(&images::coredns(), settings::names_upstream(&servers));
    // The API server makes the namespace a moment after it is ready.
    wait(layout, "the API server to take the DNS's objects", || {
        let mut apply: Command = kubectl(layout)?;
        apply.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        command::feed(&mut apply, &objects)
    })
}

/// Asks until the answer is good. Fails when a daemon ends meanwhile, or with the last answer
/// when the time is over.
fn wait(layout: &Layout, what: &str, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    loop {
        let Err(error) = ask() else { return Ok(()) };
        for name in daemons::NAMES {
            let was_started = layout.at("run").join(name).exists();
            if was_started && processes::running(layout, name).is_none() {
                let log = layout.log(name);
                let tail = command::tail(&log);
                bail!("{name} ended; the end of its log, {}:\n{tail}", log.display());
            }
        }
        if started.elapsed() > PATIENCE {
            let logs = layout.at("log");
            return Err(error).with_context(|| {
                format!("waited {PATIENCE:?} for {what}; the logs are in {}", logs.display())
            });
        }
        std::thread::sleep(ASK_EVERY);
    }
}
