//! The role that nobody asks for: this program as what keeps one process of `rouse dev`. It is no more
//! than `rouse-shim`, or less, with bounds on what the process may open; it knows no cluster.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Name of the role, the first argument.
pub const ROLE: &str = "shim";
/// Says that the command is no code for a shim.
const KEEP: &str = "--keep";
/// Says a word of the command that takes away what a program leaves behind.
const AFTER: &str = "--after";
/// Says how many files may be open.
const FILES: &str = "--files";
/// What a process is started by that is not told what.
const USAGE: u8 = 64;

/// Runs the role to its end, if these are its arguments.
pub fn of(arguments: impl Iterator<Item = String>) -> Option<ExitCode> {
    let mut arguments = arguments.skip(1);
    if arguments.next()? != ROLE {
        return None;
    }
    let (mut shim, mut cleanup) = (true, Vec::new());
    bound(Resource::Core, Some(0));
    loop {
        match arguments.next().as_deref() {
            Some(KEEP) => shim = false,
            Some(FILES) => bound(Resource::Nofile, arguments.next().and_then(|n| n.parse().ok())),
            Some(AFTER) => cleanup.extend(arguments.next()),
            Some("--") => break,
            _ => return Some(ExitCode::from(USAGE)),
        }
    }
    let command: Vec<String> = arguments.collect();
    Some(if shim {
        rouse_shim::run_tethered(command)
    } else {
        rouse_shim::keep_tethered(&command, &cleanup)
    })
}

fn bound(resource: Resource, most: Option<u64>) {
    // What the kernel does not grant is bounded by it already.
    let _ = setrlimit(resource, Rlimit { current: most, maximum: most });
}
