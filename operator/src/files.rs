//! The process's bound on open files: raised as far as the kernel lets a process raise its own.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that a connection of a caller may need: its own, one to a pod, and as much again for
/// the other port.
const PER_CONNECTION: u64 = 4;

/// Raises the bound. Container runtimes start processes with a low one, which only programs that
/// use `select` need.
pub fn raise_bound() {
    let bound = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: bound.maximum, ..bound };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "raising the bound on open files");
    }
}

/// The connections that each port may have: `asked`, or fewer where the open files do not suffice.
pub fn bound_connections(asked: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return asked };
    let most = usize::try_from(files / PER_CONNECTION).unwrap_or(asked).max(1);
    if most < asked {
        tracing::warn!(asked, most, files, "open files do not suffice for --max-connections");
    }
    asked.min(most)
}
