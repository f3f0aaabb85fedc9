//! Ends the cluster and takes away what it left on the machine.
//! Must not end or remove anything that it can't tell to be the cluster's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

use super::layout::Layout;
use super::{daemons, images, lock, network, processes, system};
use crate::{command, term};

/// Where the kubelet links the logs of containers, for programs that look there.
const LOG_LINKS: &str = "/var/log/containers";
/// The kubelet's folder among control groups.
const POD_GROUPS: &str = "kubepods";

/// Ends everything; with `purge` also deletes the root folder.
pub fn down(layout: &Layout, purge: bool) -> Result<()> {
    system::require_root()?;
    let root = layout.root();
    let Some(lock) = lock::existing(layout)? else {
        term::note(format!("There is no cluster in {}.", root.display()));
        return Ok(());
    };
    // First the kubelet, which would start again what is ended below.
    processes::stop(layout, "kubelet")?;
    if processes::running(layout, "containerd").is_some() {
        delete_containers(layout)?;
    }
    for name in daemons::NAMES.iter().rev() {
        processes::stop(layout, name)?;
    }
    // Shims, with what they still hold: all that was told the socket as an argument.
    processes::end_marked(&layout.containerd_socket().to_string_lossy())?;
    unmount_below(root)?;
    network::clear(layout)?;
    remove_traces(layout)?;
    if purge {
        std::fs::remove_dir_all(root)
            .with_context(|| format!("could not delete {}", root.display()))?;
        term::note(format!("The cluster is down, and {} is gone.", root.display()));
    } else {
        term::note(format!("The cluster is down. Its state stays in {}.", root.display()));
    }
    drop(lock);
    Ok(())
}

/// Kills all containers and forgets them, so that containerd starts with none the next time.
fn delete_containers(layout: &Layout) -> Result<()> {
    for (list, delete) in [
        (&["tasks", "list", "--quiet"][..], &["tasks", "delete", "--force"][..]),
        (&["containers", "list", "--quiet"], &["containers", "delete"]),
        (&["sandboxes", "list"], &["sandboxes", "remove", "--force"]),
    ] {
        let listed = command::output(images::ctr(layout)?.args(list))?;
        let names: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "ID")
            .collect();
        if !names.is_empty() {
            // One that ended meanwhile makes the command fail; what is left is ended below.
            command::succeeds(images::ctr(layout)?.args(delete).args(names));
        }
    }
    Ok(())
}

fn unmount_below(root: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    // The newest first: a mount may lie on or in an older one.
    for point in mounts_below(&table, root).iter().rev() {
        unmount(point, UnmountFlags::DETACH)
            .with_context(|| format!("could not unmount {}", point.display()))?;
    }
    Ok(())
}

/// Mount points in the kernel's table that lie below `root`, in its order.
fn mounts_below(table: &str, root: &Path) -> Vec<PathBuf> {
    mount_points(table).filter(|point| point.starts_with(root) && point != root).collect()
}

fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> {
    // The kernel writes white space in paths as octal numbers; of these only the blank is usual.
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
}

fn remove_traces(layout: &Layout) -> Result<()> {
    for folder in ["run", "cni", "containerd/state", "containerd/runc"] {
        let folder = layout.at(folder);
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
    }
    for entry in Path::new(LOG_LINKS).read_dir().into_iter().flatten().flatten() {
        let link = entry.path();
        if std::fs::read_link(&link).is_ok_and(|target| target.starts_with(layout.root())) {
            std::fs::remove_file(link)?;
        }
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    for point in mount_points(&table).filter(|point| point.starts_with("/sys/fs/cgroup")) {
        remove_empty(&point.join(POD_GROUPS));
    }
    Ok(())
}

/// Removes a control group and those in it. The kernel refuses to remove one with a process in
/// it, so another kubelet's stay.
fn remove_empty(group: &Path) {
    for entry in group.read_dir().into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_root_are_ours() {
        let table = "1 2 0:1 / /r rw - tmpfs tmpfs rw\n\
                     2 2 0:1 / /r/kubelet/a\\040b rw shared:1 - tmpfs tmpfs rw\n\
                     3 2 0:1 / /rest rw - tmpfs tmpfs rw\n";
        assert_eq!(mounts_below(table, Path::new("/r")), [PathBuf::from("/r/kubelet/a b")]);
    }
}
