//! Programs and libraries of the system that chores need: whether they are there, and how to get
//! them. Installs only packages of the system, and only where it knows how.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

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

/// Installs what is written in Python.
pub const PIP: Need = Need {
    what: "pip",
    why: "installs clients of vendors",
    debian: "python3-pip",
    present: || command::output(Command::new("python3").args(["-m", "pip", "--version"])).is_ok(),
};

/// Builds what is written in Java.
pub const MAVEN: Need = Need {
    what: "mvn",
    why: "builds what is written in Java",
    debian: "maven",
    present: || command::find("mvn").is_some(),
};

/// Compiles Java. Maven comes with what runs it alone.
pub const JAVAC: Need = Need {
    what: "javac",
    why: "compiles Java",
    debian: "default-jdk-headless",
    present: || command::find("javac").is_some(),
};

/// The database that a source reads. Debian's package starts a server, unless its tools are told
/// not to.
pub const POSTGRES: Need = Need {
    what: "PostgreSQL",
    why: "the database that a source reads",
    debian: POSTGRES_PACKAGE,
    present: || postgres().is_ok(),
};
const POSTGRES_PACKAGE: &str = "postgresql";
/// What Debian's tools look at before they make and start a server.
const NO_SERVER: (&str, &str) =
    ("/etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n");

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

/// Where the programs of PostgreSQL are: those of the newest version that is installed.
pub fn postgres() -> Result<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    let version = |entry: &DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let found = versions.filter_map(|entry| Some((version(&entry)?, entry.path().join("bin"))));
    // Clients alone are there, too.
    let found = found.filter(|(_, folder)| folder.join("postgres").exists()).max();
    let beside = command::find("postgres").and_then(|path| Some(path.parent()?.to_owned()));
    let folder = found.map(|(_, folder)| folder).or(beside).context("there is no server")?;
    // It may lack a library.
    command::output(Command::new(folder.join("postgres")).arg("--version"))?;
    Ok(folder)
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
        apt.env("DEBIAN_FRONTEND", "noninteractive").env("UCF_FORCE_CONFFOLD", "1");
        apt.args(["--assume-yes", "--quiet"]);
        apt
    };
    command::logged(apt().arg("update"), &log)?;
    let (services, plain): (Vec<&str>, Vec<&str>) =
        packages.iter().partition(|package| **package == NGINX_PACKAGE);
    if plain.contains(&POSTGRES_PACKAGE) && !Path::new(NO_SERVER.0).exists() {
        let folder = Path::new(NO_SERVER.0).parent().context("a file is in a folder")?;
        std::fs::create_dir_all(folder)?;
        std::fs::write(NO_SERVER.0, NO_SERVER.1)?;
    }
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
