//! The list of the cluster's daemons with their command lines. Must not start them.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;

use super::layout::{API_PORT, Layout, NODE, POD_RANGE, SERVICE_RANGE};
use super::processes::Daemon;
use super::{pki, settings};
use crate::tools::{self, catalog};

/// Names of all daemons, in the order in which they are started; ended the other way round.
pub const NAMES: &[&str] = &[
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// Variables that containerd gets from the caller: pulling an image may need a proxy. No other
/// part gets them, or the API server would ask the proxy for the node.
const PROXY_VARIABLES: &[&str] =
    &["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/// What the command lines depend on besides the layout.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The node's address.
    pub node: Ipv4Addr,
    /// Contents of containerd's configuration.
    pub containerd: String,
    /// Contents of the kubelet's configuration.
    pub kubelet: String,
}

/// The store and the container runtime, which need no other part.
pub fn ground(layout: &Layout, inputs: &Inputs) -> Result<Vec<Daemon>> {
    let mut etcd = daemon(layout, &catalog::ETCD, "etcd", "")?;
    let url = layout.etcd_url();
    push(&mut etcd, "--data-dir", layout.at("etcd").display());
    push(&mut etcd, "--listen-client-urls", &url);
    push(&mut etcd, "--advertise-client-urls", &url);
    push(&mut etcd, "--listen-peer-urls", format!("unix://{}", layout.at("peer.sock").display()));
    // A single member never uses it, but it has to name a host.
    push(&mut etcd, "--initial-advertise-peer-urls", "http://localhost:2380");
    // A crash of the machine may cost the cluster; it is for tests.
    etcd.arguments.push("--unsafe-no-fsync".into());

    let mut containerd = daemon(layout, &catalog::CONTAINERD, "containerd", &inputs.containerd)?;
    push(&mut containerd, "--config", layout.at("config/containerd.toml").display());
    for name in PROXY_VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            containerd.environment.push(((*name).into(), value));
        }
    }
    Ok(vec![etcd, containerd])
}

/// The API server.
pub fn api_server(layout: &Layout, inputs: &Inputs) -> Result<Daemon> {
    let mut api = kubernetes(layout, "kube-apiserver", settings::AUDIT_POLICY)?;
    let pki = |name| layout.certificate(name);
    push(&mut api, "--etcd-servers", layout.etcd_url());
    push(&mut api, "--secure-port", API_PORT);
    push(&mut api, "--advertise-address", inputs.node);
    push(&mut api, "--service-cluster-ip-range", SERVICE_RANGE);
    push(&mut api, "--authorization-mode", "Node,RBAC");
    push(&mut api, "--enable-admission-plugins", "NodeRestriction");
    push(&mut api, "--allow-privileged", true);
    push(&mut api, "--client-ca-file", pki("ca").0.display());
    push(&mut api, "--tls-cert-file", pki("kube-apiserver").0.display());
    push(&mut api, "--tls-private-key-file", pki("kube-apiserver").1.display());
    push(&mut api, "--kubelet-certificate-authority", pki("ca").0.display());
    let to_kubelet = pki("kube-apiserver-to-kubelet");
    push(&mut api, "--kubelet-client-certificate", to_kubelet.0.display());
    push(&mut api, "--kubelet-client-key", to_kubelet.1.display());
    push(&mut api, "--kubelet-preferred-address-types", "InternalIP");
    let front = pki(pki::FRONT_PROXY);
    push(&mut api, "--proxy-client-cert-file", front.0.display());
    push(&mut api, "--proxy-client-key-file", front.1.display());
    push(&mut api, "--requestheader-client-ca-file", pki("front-proxy-ca").0.display());
    push(&mut api, "--requestheader-allowed-names", pki::FRONT_PROXY);
    push(&mut api, "--requestheader-username-headers", "X-Remote-User");
    push(&mut api, "--requestheader-group-headers", "X-Remote-Group");
    push(&mut api, "--requestheader-extra-headers-prefix", "X-Remote-Extra-");
    let (public, private) = pki("service-account");
    push(&mut api, "--service-account-issuer", "https://kubernetes.default.svc.cluster.local");
    push(&mut api, "--service-account-key-file", public.display());
    push(&mut api, "--service-account-signing-key-file", private.display());
    push(&mut api, "--audit-policy-file", layout.at("config/audit-policy.yaml").display());
    push(&mut api, "--audit-log-path", layout.audit_log().display());
    // Megabytes. One old file is kept, so a test that reads on may see the file change once.
    push(&mut api, "--audit-log-maxsize", 500);
    push(&mut api, "--audit-log-maxbackup", 1);
    Ok(api)
}

/// What needs the API server.
pub fn clients(layout: &Layout, inputs: &Inputs) -> Result<Vec<Daemon>> {
    let mut controllers = kubernetes(layout, "kube-controller-manager", "")?;
    own_kubeconfig(&mut controllers, layout);
    push(&mut controllers, "--use-service-account-credentials", true);
    let (authority, authority_key) = layout.certificate("ca");
    push(&mut controllers, "--root-ca-file", authority.display());
    push(&mut controllers, "--cluster-signing-cert-file", authority.display());
    push(&mut controllers, "--cluster-signing-key-file", authority_key.display());
    let (_, private) = layout.certificate("service-account");
    push(&mut controllers, "--service-account-private-key-file", private.display());

    let mut scheduler = kubernetes(layout, "kube-scheduler", "")?;
    own_kubeconfig(&mut scheduler, layout);

    // A single process needs no election, which would delay each start by the lease's time.
    for each in [&mut controllers, &mut scheduler] {
        push(each, "--leader-elect", false);
        push(each, "--bind-address", "127.0.0.1");
        let kubeconfig = layout.part_kubeconfig(each.name);
        push(each, "--authentication-kubeconfig", kubeconfig.display());
        push(each, "--authorization-kubeconfig", kubeconfig.display());
    }

    let mut kubelet = kubernetes(layout, "kubelet", &inputs.kubelet)?;
    own_kubeconfig(&mut kubelet, layout);
    push(&mut kubelet, "--config", layout.at("config/kubelet.yaml").display());
    push(&mut kubelet, "--root-dir", layout.at("kubelet").display());
    push(&mut kubelet, "--hostname-override", NODE);
    push(&mut kubelet, "--node-ip", inputs.node);

    let mut proxy = kubernetes(layout, "kube-proxy", "")?;
    own_kubeconfig(&mut proxy, layout);
    push(&mut proxy, "--hostname-override", NODE);
    push(&mut proxy, "--proxy-mode", "nftables");
    push(&mut proxy, "--cluster-cidr", POD_RANGE);
    // 0 leaves the machine's own limits as they are.
    push(&mut proxy, "--conntrack-max-per-core", 0);
    push(&mut proxy, "--conntrack-tcp-timeout-established", "0s");
    push(&mut proxy, "--conntrack-tcp-timeout-close-wait", "0s");
    Ok(vec![controllers, scheduler, kubelet, proxy])
}

fn kubernetes(layout: &Layout, name: &'static str, settings: &str) -> Result<Daemon> {
    daemon(layout, &catalog::KUBERNETES, name, settings)
}

fn daemon(
    layout: &Layout,
    recipe: &catalog::Recipe,
    name: &'static str,
    settings: &str,
) -> Result<Daemon> {
    let home: OsString = layout.root().into();
    Ok(Daemon {
        name,
        program: tools::path(recipe, name)?,
        arguments: Vec::new(),
        environment: vec![
            ("PATH".into(), tools::search_path(&[&catalog::CONTAINERD, &catalog::RUNC])?),
            ("HOME".into(), home),
        ],
        settings: settings.to_owned(),
    })
}

fn own_kubeconfig(daemon: &mut Daemon, layout: &Layout) {
    let path: PathBuf = layout.part_kubeconfig(daemon.name);
    push(daemon, "--kubeconfig", path.display());
}

fn push(daemon: &mut Daemon, flag: &str, value: impl std::fmt::Display) {
    daemon.arguments.push(format!("{flag}={value}").into());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_daemon_is_in_the_list_and_names_the_root() {
        let layout = Layout::new(Path::new("/some/root")).unwrap();
        let node = Ipv4Addr::new(192, 0, 2, 1);
        let inputs = Inputs { node, containerd: String::new(), kubelet: String::new() };
        let mut all = ground(&layout, &inputs).unwrap();
        all.push(api_server(&layout, &inputs).unwrap());
        all.extend(clients(&layout, &inputs).unwrap());
        assert_eq!(all.iter().map(|daemon| daemon.name).collect::<Vec<_>>(), NAMES);
        for daemon in &all {
            let named = daemon.arguments.iter().any(|argument| {
                argument.to_string_lossy().contains(layout.root().to_str().unwrap())
            });
            assert!(named, "{} could not be told from another cluster's", daemon.name);
        }
    }
}
