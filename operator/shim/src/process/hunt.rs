//! Finds what a process left behind: offspring that went into a group of its own, or whose parents
//! are gone. It is known by the mark that it inherited in its environment.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::MARK;

/// Looks that are taken: what is found may have had offspring meanwhile, which inherits the mark.
const LOOKS: usize = 8;

/// Ends every process that has this mark in its environment.
pub fn kill_marked(mark: &str) {
    let mark = format!("{MARK}={mark}");
    kill_all(|variable| variable == mark.as_bytes());
}

/// Ends all that the shim with the process id `shim` left behind, if it is gone itself.
pub fn kill_left_behind(shim: u32) {
    let mark = format!("{MARK}={shim}-");
    kill_all(|variable| variable.starts_with(mark.as_bytes()));
}

fn kill_all(is_mark: impl Fn(&[u8]) -> bool) {
    for _ in 0..LOOKS {
        let found: Vec<Pid> = marked(&is_mark).collect();
        if found.is_empty() {
            return;
        }
        for pid in found {
            // It may be gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn marked(is_mark: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = Pid> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(move |folder| {
        let id: i32 = folder.file_name().to_str()?.parse().ok()?;
        // One that has ended has no environment any more.
        let environment = fs::read(folder.path().join("environ")).ok()?;
        let is_marked = environment.split(|byte| *byte == 0).any(&is_mark);
        Pid::from_raw(id).filter(|_| is_marked && id != own)
    })
}
