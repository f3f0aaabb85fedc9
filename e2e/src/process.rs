//! Processes of this machine that the tests disturb, found by what they were started with, and ports for
//! those that they start.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// A process that stands still until this is dropped.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Frozen {
    /// Stops the process.
    pub fn freeze(process: Pid) -> anyhow::Result<Self> {
        kill_process(process, Signal::STOP).context("stopping a process")?;
        Ok(Self(process))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _gone_or_not = kill_process(self.0, Signal::CONT);
    }
}

/// A port of an address that nobody listens on.
pub fn free_port(address: Ipv4Addr) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((address, 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

/// The process in whose environment `variable` stands.
pub fn with_variable(variable: &str) -> anyhow::Result<Pid> {
    find("environ", variable)
}

/// All of those.
pub fn all_with_variable(variable: &str) -> anyhow::Result<Vec<Pid>> {
    all("environ", variable)
}

/// The process that was started with `argument`.
pub fn with_argument(argument: &str) -> anyhow::Result<Pid> {
    find("cmdline", argument)
}

fn find(file: &str, wanted: &str) -> anyhow::Result<Pid> {
    all(file, wanted)?.first().copied().with_context(|| {
        format!(
            "no process of this machine has {wanted} in its {file}: the node must be this machine"
        )
    })
}

fn all(file: &str, wanted: &str) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Whoever ends meanwhile has neither.
        let told = std::fs::read(entry.path().join(file)).unwrap_or_default();
        if told.split(|byte| *byte == 0).any(|part| part == wanted.as_bytes()) {
            found.push(Pid::from_raw(pid).context("a process has a number")?);
        }
    }
    Ok(found)
}
