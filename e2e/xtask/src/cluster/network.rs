//! The machine's side of the cluster's network: address, ports, forwarding, rules.
//! Must leave the machine as it was once [`clear`] has run.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::{DNS_SERVICE_IP, Layout, NETWORK, NODE_POD_RANGE, PORTS};
use super::settings::{self, NFT_TABLE};
use crate::command;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Tables of kube-proxy.
const PROXY_TABLES: &[(&str, &str)] = &[("ip", "kube-proxy"), ("ip6", "kube-proxy")];
/// The plugins' notes about pods, outside the root folder; ours begin with the network's name.
const PLUGIN_NOTES: &str = "/var/lib/cni/results";

/// The address by which this machine would talk to others. Nothing is sent.
pub fn node_address() -> Result<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // An address of the documentation's range: only the routing table is asked.
    if socket.connect("192.0.2.1:9").is_ok()
        && let SocketAddr::V4(own) = socket.local_addr()?
        && !own.ip().is_loopback()
        && !own.ip().is_unspecified()
    {
        return Ok(*own.ip());
    }
    let listed = command::output(Command::new("ip").args(["-4", "-o", "addr", "show", "up"]))?;
    first_address(&listed).context(
        "this machine has no IPv4 address besides the loopback's, and a node needs one: \
         bring a network interface up",
    )
}

/// The first address in the output of `ip -o addr` that is not the loopback's.
fn first_address(listed: &str) -> Option<Ipv4Addr> {
    listed
        .split_whitespace()
        .zip(listed.split_whitespace().skip(1))
        .filter(|(word, _)| *word == "inet")
        .filter_map(|(_, address)| address.split('/').next()?.parse::<Ipv4Addr>().ok())
        .find(|address| !address.is_loopback())
}

/// Fails when somebody else listens on a port of a part that is about to start.
pub fn check_ports(starting: &[&str]) -> Result<()> {
    let taken: Vec<String> = PORTS
        .iter()
        .filter(|(_, part)| starting.contains(part))
        .filter(|(port, _)| is_taken(*port))
        .map(|(port, part)| format!("  {port} ({part})"))
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    bail!(
        "Other programs listen on ports that the cluster needs:\n{}\n`ss -ltnp` tells which. Is \
         another Kubernetes running here? Use it by --kubeconfig, or stop it.",
        taken.join("\n")
    );
}

fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// Lets the machine route for pods. What was changed is noted below the root.
pub fn set_up(layout: &Layout) -> Result<()> {
    if std::fs::read_to_string(FORWARDING)?.trim() == "0" {
        std::fs::write(layout.at("run/ip_forward"), "0")?;
        std::fs::write(FORWARDING, "1").context("could not turn IPv4 forwarding on")?;
    }
    if forwarding_is_dropped() {
        for direction in ["--source", "--destination"] {
            if !command::succeeds(&mut accept("--check", direction)) {
                command::output(&mut accept("--insert", direction))?;
            }
        }
    }
    command::feed(Command::new("nft").args(["-f", "-"]), &settings::masquerade())
}

/// Undoes [`set_up`] and removes what kube-proxy and the plugins leave behind.
pub fn clear(layout: &Layout) -> Result<()> {
    let own = [("ip", NFT_TABLE)];
    for (family, table) in PROXY_TABLES.iter().chain(&own) {
        // Fails where the table is not there, which is the aim.
        command::succeeds(Command::new("nft").args(["delete", "table", family, table]));
    }
    for direction in ["--source", "--destination"] {
        while command::find("iptables").is_some()
            && command::succeeds(&mut accept("--delete", direction))
        {}
    }
    let note = layout.at("run/ip_forward");
    if note.is_file() {
        std::fs::write(FORWARDING, "0")?;
        std::fs::remove_file(note)?;
    }
    let prefix = format!("{NETWORK}-");
    for entry in Path::new(PLUGIN_NOTES).read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Docker makes the kernel drop what it doesn't know; then pods need a rule of their own.
fn forwarding_is_dropped() -> bool {
    command::find("iptables").is_some()
        && command::output(Command::new("iptables").args(["-S", "FORWARD"]))
            .is_ok_and(|rules| rules.lines().any(|rule| rule == "-P FORWARD DROP"))
}

fn accept(action: &str, direction: &str) -> Command {
    let mut iptables = Command::new("iptables");
    let comment = ["--match", "comment", "--comment", NFT_TABLE];
    iptables.args([action, "FORWARD", direction, NODE_POD_RANGE, "--jump", "ACCEPT"]).args(comment);
    iptables
}

/// Whether the cluster's DNS answers at its Service's address: this proves `CoreDNS`, kube-proxy
/// and the pods' network at once.
pub fn dns_answers(patience: Duration) -> bool {
    let question = question("kubernetes.default.svc.cluster.local");
    let ask = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(patience))?;
        socket.connect((DNS_SERVICE_IP, 53))?;
        socket.send(&question)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(is_answer(answer.get(..length).unwrap_or_default()))
    };
    ask().unwrap_or(false)
}

/// A DNS message that asks for the IPv4 address of `name`.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x52, 0x53, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.extend(u8::try_from(label.len()));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Whether a message answers [`question`] without an error and with at least one record.
fn is_answer(message: &[u8]) -> bool {
    match message {
        [0x52, 0x53, first, second, _, _, high, low, ..] => {
            let (is_response, code) = (first & 0x80 != 0, second % 16);
            is_response && code == 0 && (*high, *low) != (0, 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_that_others_can_reach() {
        let listed = "1: lo    inet 127.0.0.1/8 scope host lo\n\
                      2: eth0    inet 192.0.2.7/24 brd 192.0.2.255 scope global eth0\n";
        assert_eq!(first_address(listed), Some(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(first_address("1: lo    inet 127.0.0.1/8 scope host lo\n"), None);
    }

    #[test]
    fn a_port_with_a_listener_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(is_taken(listener.local_addr().unwrap().port()));
        assert!(check_ports(&["no-such-part"]).is_ok());
    }

    #[test]
    fn dns_messages() {
        assert_eq!(question("ab.c")[12..], [2, b'a', b'b', 1, b'c', 0, 0, 1, 0, 1]);
        let mut message = question("a");
        assert!(!is_answer(&message));
        message[2] |= 0x80;
        message[7] = 1;
        assert!(is_answer(&message));
        message[3] = 3;
        assert!(!is_answer(&message));
    }
}
