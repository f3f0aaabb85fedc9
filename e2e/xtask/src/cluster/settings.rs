//! Builds the contents of the parts' configuration files. Pure: must not read or write a file.

use std::path::Path;

use super::layout::{
    CONTAINERD_NAMESPACE, DNS_SERVICE_IP, Layout, NETWORK, NODE_POD_RANGE, SERVICE_RANGE,
};

/// What to write to the API server's audit log.
pub const AUDIT_POLICY: &str = include_str!("../../../cluster/audit-policy.yaml");
const COREDNS: &str = include_str!("../../../cluster/coredns.yaml");

/// Name of the nftables table with the only rule that is ours.
pub const NFT_TABLE: &str = "rouse-local";

/// Containerd's configuration.
pub fn containerd(
    layout: &Layout,
    runc: &Path,
    plugins: &Path,
    pause: &str,
    store: &str,
) -> String {
    let root = layout.root().display();
    let (runc, plugins) = (runc.display(), plugins.display());
    format!(
        r#"version = 3
root = "{root}/containerd/root"
state = "{root}/containerd/state"

[grpc]
  address = "{root}/containerd.sock"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "{store}"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE a process may not lower its own score, and no container would start.
  restrict_oom_score_adj = true
  # Mounts of network namespaces end with the root folder instead of staying in /run/netns.
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{root}/config/cni"
    use_internal_loopback = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "{root}/containerd/runc"
"#
    )
}

/// The pod network: a link of its own between each pod and the node, so that all traffic is
/// routed and Services work without bridge filtering in the kernel.
pub fn network(layout: &Layout) -> String {
    let state = layout.at("cni").display().to_string();
    format!(
        r#"{{
  "cniVersion": "1.0.0",
  "name": "{NETWORK}",
  "plugins": [
    {{
      "type": "ptp",
      "ipam": {{
        "type": "host-local",
        "dataDir": "{state}",
        "ranges": [[{{"subnet": "{NODE_POD_RANGE}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}]
      }}
    }}
  ]
}}
"#
    )
}

/// Rules that let pods reach the world by the node's address. One rule for all pods: the plugin's
/// own masquerading would cost several programs at each start of a pod.
pub fn masquerade() -> String {
    format!(
        "table ip {NFT_TABLE} {{}}
delete table ip {NFT_TABLE}
table ip {NFT_TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {NODE_POD_RANGE} ip daddr != {{ {NODE_POD_RANGE}, {SERVICE_RANGE} }} masquerade
  }}
}}
"
    )
}

/// The kubelet's configuration.
pub fn kubelet(layout: &Layout, resolv_conf: &Path) -> String {
    let root = layout.root().display();
    let resolv_conf = resolv_conf.display();
    let (certificate, key) = layout.certificate("kubelet-server");
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{root}/containerd.sock
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {root}/pki/ca.crt}}
authorization: {{mode: Webhook}}
tlsCertFile: {certificate}
tlsPrivateKeyFile: {key}
clusterDNS: [{DNS_SERVICE_IP}]
clusterDomain: cluster.local
resolvConf: {resolv_conf}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
maxPods: 250
podLogsDir: {root}/log/pods
volumePluginDir: {root}/kubelet/volume-plugins
registryPullQPS: 0
serializeImagePulls: false
# Imported images can't be pulled again: 100 turns their removal off.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{nodefs.available: 1%, imagefs.available: 1%, memory.available: 200Mi}}
"
    )
}

/// The objects of cluster DNS. Names of other domains are asked of the node's own servers, if it
/// has any: `CoreDNS` refuses to start with none.
pub fn coredns(image: &str, has_upstream: bool) -> String {
    let forward = if has_upstream { "forward . /etc/resolv.conf" } else { "" };
    COREDNS
        .replace("IMAGE", image)
        .replace("DNS_IP", DNS_SERVICE_IP)
        .replace("        FORWARD\n", &format!("        {forward}\n"))
}

/// Whether a `resolv.conf` names a server that a pod can reach too.
pub fn names_upstream(resolv_conf: &str) -> bool {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .any(|server| !server.trim().starts_with("127.") && server.trim() != "::1")
}

/// Arguments that make `ctr` talk to the cluster's containerd.
pub fn ctr_arguments(layout: &Layout) -> Vec<String> {
    let socket = layout.containerd_socket().display().to_string();
    vec!["--address".to_owned(), socket, "--namespace".to_owned(), CONTAINERD_NAMESPACE.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_are_no_upstream() {
        assert!(names_upstream("search x\nnameserver 192.0.2.1\n"));
        assert!(!names_upstream("nameserver 127.0.0.53\n"));
        assert!(!names_upstream("# nameserver 192.0.2.1\n"));
    }

    #[test]
    fn no_placeholder_of_the_dns_objects_is_left() {
        for upstream in [true, false] {
            let text = coredns("rouse.dev/coredns:v1", upstream);
            for placeholder in ["IMAGE", "DNS_IP", "FORWARD"] {
                let object = text.lines().skip(1).collect::<String>();
                assert!(!object.contains(placeholder), "{placeholder}");
            }
            assert_eq!(text.contains("forward ."), upstream);
        }
    }

    #[test]
    fn the_network_is_json() {
        let layout = Layout::new(Path::new("/r")).unwrap();
        let network: serde_json::Value = serde_json::from_str(&network(&layout)).unwrap();
        assert_eq!(network["plugins"][0]["ipam"]["dataDir"], "/r/cni");
    }
}
