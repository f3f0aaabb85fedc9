//! Programs and libraries of the system that chores need: whether they are there, and how to get
//! them. Installs only packages of the system, and only where it knows how.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{command, folders, term};

/// A program or a library that a chore needs from the system.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// What is needed.
    pub what: &'static str,
    /// What for.
    pub why: &'static str,
    /// Debian's package.
    pub debian: &'static str,
    /// Whether it is there.
    pub present: fn() -> bool,
}

/// Ends what a run started when the run ends.
pub const SETPRIV: Need = Need {
    what: "setpriv",
    why: "ends what a run started when the run ends",
    debian: "util-linux",
    present: || command::find("setpriv").is_some(),
};

/// The proxy that Rouse is measured against. Installing Debian's package would start a service, so
/// the program alone is taken out of it.
pub const NGINX: Need = Need {
    what: "nginx",
    why: "the proxy that Rouse is measured against",
    debian: NGINX_PACKAGE,
    present: || nginx().is_ok(),
};
const NGINX_PACKAGE: &str = "nginx";

/// The load.
pub const WRK: Need = Need {
    what: "wrk",
    why: "makes the load of the benchmark",
    debian: "wrk",
    present: || command::find("wrk").is_some(),
};

/// Fails unless all is there, after installing what is missing where that is possible.
pub fn require(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.debian).collect();
    if command::find("apt-get").is_some() && rustix::process::geteuid().is_root() {
        term::note(format!("Getting system packages: {}", packages.join(" ")));
        get(&packages)?;
    }
    let still: Vec<&&Need> = missing.iter().filter(|need| !(need.present)()).collect();
    if still.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = still
        .iter()
        .map(|need| format!("  {}: {} (Debian's package {})", need.what, need.why, need.debian))
        .collect();
    bail!(
        "This machine lacks what this command needs:\n{}\nInstall it with the system's package \
         tool and run the command again.",
        lines.join("\n")
    );
}

/// Where nginx is: the system's, or the one in the cache.
pub fn nginx() -> Result<PathBuf> {
    let own = extracted(NGINX_PACKAGE)?.join("usr/sbin/nginx");
    let found = command::find("nginx").unwrap_or(own);
    // It may lack a library.
    command::output(Command::new(&found).arg("-v"))?;
    Ok(found)
}

fn extracted(package: &str) -> Result<PathBuf> {
    Ok(folders::cache()?.join("packages").join(package))
}

fn get(packages: &[&str]) -> Result<()> {
    let cache = folders::cache()?;
    std::fs::create_dir_all(cache.join("log"))?;
    let log = cache.join("log/apt-get.log");
    std::fs::write(&log, "")?;
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["--assume-yes", "--quiet"]);
        apt
    };
    command::logged(apt().arg("update"), &log)?;
    let (services, plain): (Vec<&str>, Vec<&str>) =
        packages.iter().partition(|package| **package == NGINX_PACKAGE);
    if !plain.is_empty() {
        command::logged(apt().args(["install", "--no-install-recommends"]).args(plain), &log)?;
    }
    for package in services {
        let folder = extracted(package)?;
        std::fs::create_dir_all(&folder)?;
        command::logged(apt().arg("download").arg(package).current_dir(&folder), &log)?;
        for file in folder.read_dir()? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let mut dpkg = Command::new("dpkg-deb");
                command::logged(dpkg.arg("--extract").args([&path, &folder]), &log)?;
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}
