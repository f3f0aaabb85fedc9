//! Knows where each file of the local cluster is below its root folder, and the constants that its
//! parts agree on. Must not touch the files.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Name of the only node.
pub const NODE: &str = "rouse-local";
/// Port of the API server, on all addresses.
pub const API_PORT: u16 = 6443;
/// Addresses of Services.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// Address of the API server's own Service: the first of the range.
pub const API_SERVICE_IP: &str = "10.96.0.1";
/// Address of the cluster's DNS Service.
pub const DNS_SERVICE_IP: &str = "10.96.0.10";
/// Addresses of pods, of all nodes and of this one. 4000 on the node: addresses are not reused at
/// once although 250 pods come and go.
pub const POD_RANGE: &str = "10.244.0.0/16";
/// See [`POD_RANGE`].
pub const NODE_POD_RANGE: &str = "10.244.0.0/20";
/// Name of the pod network, which also names the plugins' state files.
pub const NETWORK: &str = "rouse-local";
/// Containerd's namespace for Kubernetes.
pub const CONTAINERD_NAMESPACE: &str = "k8s.io";

/// TCP ports that the parts listen on, with the part.
pub const PORTS: &[(u16, &str)] = &[
    (API_PORT, "kube-apiserver"),
    (10248, "kubelet"),
    (10249, "kube-proxy"),
    (10250, "kubelet"),
    (10256, "kube-proxy"),
    (10257, "kube-controller-manager"),
    (10259, "kube-scheduler"),
];

/// A path of a Unix socket has at most 107 bytes; the longest name below the root takes these.
const LONGEST_SOCKET: usize = "/containerd.sock.ttrpc".len();

/// The root folder and what is in it.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, which must be absolute and short enough for sockets.
    pub fn new(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        if root.parent().is_none() || root.as_os_str().len() + LONGEST_SOCKET > 107 {
            bail!("{} can't be the cluster's folder: it is / or its path too long", root.display());
        }
        Ok(Self { root })
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder below the root.
    pub fn at(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.at("kubeconfig")
    }

    /// The API server's audit log: one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.at("log/audit.jsonl")
    }

    /// Log of a part.
    pub fn log(&self, part: &str) -> PathBuf {
        self.at("log").join(format!("{part}.log"))
    }

    /// Containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.at("containerd.sock")
    }

    /// Etcd's socket, as a URL. A socket instead of a port: no other program can meet it, and the
    /// folder's permissions guard it.
    pub fn etcd_url(&self) -> String {
        format!("unix://{}", self.at("etcd.sock").display())
    }

    /// A certificate and its key.
    pub fn certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        let folder = self.at("pki");
        (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")))
    }

    /// Kubeconfig of a part.
    pub fn part_kubeconfig(&self, part: &str) -> PathBuf {
        self.at("config").join(format!("{part}.kubeconfig"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_that_sockets_can_live_in() {
        assert!(Layout::new(Path::new("/")).is_err());
        assert!(Layout::new(Path::new(&"/long".repeat(20))).is_err());
        assert!(Layout::new(Path::new("relative")).unwrap().root().is_absolute());
    }
}
