//! Sees to it that the machine can hold a cluster: Linux, root, and the system's own programs.
//! Must not install anything itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::packages::{self, Need};
use crate::tools::catalog;
use crate::{command, folders};

const ALWAYS: &[Need] = &[
    Need {
        what: "ip",
        why: "removes the pods' network links",
        debian: "iproute2",
        present: || command::find("ip").is_some(),
    },
    Need {
        what: "nft",
        why: "kube-proxy writes its rules with it",
        debian: "nftables",
        present: || command::find("nft").is_some(),
    },
    Need {
        what: "setsid",
        why: "starts the daemons apart from the terminal",
        debian: "util-linux",
        present: || command::find("setsid").is_some(),
    },
    Need {
        what: "mount",
        why: "the kubelet mounts volumes with it",
        debian: "mount",
        present: || command::find("mount").is_some(),
    },
    Need {
        what: "libc.a",
        why: "the first program of each pod is linked statically",
        debian: "libc6-dev",
        present: static_libc,
    },
];

const TO_BUILD_RUNC: &[Need] = &[
    Need {
        what: "pkg-config",
        why: "runc's build asks it for libseccomp",
        debian: "pkg-config",
        present: || command::find("pkg-config").is_some(),
    },
    Need {
        what: "libseccomp's headers",
        why: "runc confines containers with it",
        debian: "libseccomp-dev",
        present: || command::succeeds(Command::new("pkg-config").args(["--exists", "libseccomp"])),
    },
    Need {
        what: "root certificates",
        why: "Go modules come over HTTPS",
        debian: "ca-certificates",
        present: || Path::new("/etc/ssl/certs").is_dir() || Path::new("/etc/pki").is_dir(),
    },
];

/// Whether the C compiler, which Rust needs too, finds a static C library.
fn static_libc() -> bool {
    command::output(Command::new("cc").arg("-print-file-name=libc.a"))
        .is_ok_and(|path| Path::new(&path).is_file() && path.contains('/'))
}

/// Fails unless this process may start a cluster here, after installing what is missing.
pub fn prepare() -> Result<()> {
    require_root()?;
    let mut needs = ALWAYS.to_vec();
    if !catalog::RUNC.folder(&folders::cache()?).is_dir() {
        needs.extend(TO_BUILD_RUNC);
    }
    packages::require(&needs)
}

/// Fails on machines and for users that can't have a local cluster.
pub fn require_root() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("The local cluster needs Linux. Use a cluster that you have, by --kubeconfig.");
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "The local cluster runs containers and their network, which takes root. Run the \
             command as root, or use a cluster that you have, by --kubeconfig."
        );
    }
    Ok(())
}
