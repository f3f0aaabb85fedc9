//! Tells how the cluster is. Must not change it.

use anyhow::{Result, bail};

use super::layout::Layout;
use super::{daemons, kubectl_path, network, processes, up};
use crate::term;

/// Prints a table of the parts; fails when one is not well, for scripts.
pub fn status(layout: &Layout) -> Result<()> {
    term::result(format!("{:<26}{:>8}  state", "part", "pid"));
    let mut well = true;
    let mut row = |part: &str, pid: Option<i32>, good: bool, words: &str| {
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        term::result(format!("{part:<26}{pid:>8}  {words}"));
        well &= good;
    };
    for name in daemons::NAMES {
        let pid = processes::running(layout, name).map(|pid| pid.as_raw_nonzero().get());
        row(name, pid, pid.is_some(), if pid.is_some() { "running" } else { "down" });
    }
    match up::node_is_ready(layout) {
        Ok(()) => row("node", None, true, "Ready"),
        Err(error) => {
            let line = error.to_string();
            row("node", None, false, line.lines().last().unwrap_or("not ready"));
        }
    }
    let dns = network::dns_answers(up::DNS_PATIENCE);
    row("cluster DNS", None, dns, if dns { "answers" } else { "no answer" });
    describe(layout)?;
    if !well {
        bail!("the cluster in {} is not up: `cargo xtask cluster up`", layout.root().display());
    }
    Ok(())
}

/// Says how to use the cluster.
pub fn describe(layout: &Layout) -> Result<()> {
    term::result(format!("kubeconfig: {}", layout.kubeconfig().display()));
    term::result(format!("kubectl:    {}", kubectl_path()?.display()));
    term::result(format!("logs:       {}", layout.at("log").display()));
    Ok(())
}
