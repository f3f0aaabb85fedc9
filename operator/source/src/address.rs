//! Where a source may connect. Whoever may write Triggers chooses names and addresses, and who owns
//! a name chooses what it resolves to: so a name is resolved once, what comes of it is checked, and
//! the connection is made to the address that was checked, never to the name. What a server says
//! about others (redirects, members of its cluster) goes through the same check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::lookup_host;

use crate::failure::Failure;

/// Nothing outside of a machine or its link is there, or what is there gives credentials away to
/// whoever asks: loopback, link-local with the metadata of clouds, multicast, the reserved.
const NEVER_V4: [Ipv4Net; 8] = [
    v4([0, 0, 0, 0], 8),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([192, 0, 0, 0], 24),
    v4([100, 100, 100, 200], 32),
    v4([168, 63, 129, 16], 32),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];
/// The same of IPv6.
const NEVER_V6: [Ipv6Net; 5] = [
    v6([0, 0, 0, 0, 0, 0, 0, 0], 127),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
];
/// Prefixes behind which there is an address of IPv4, and the segment in which it begins.
const CARRIERS: [(Ipv6Net, usize); 3] = [
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), 6),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), 1),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), 6),
];

const fn v4(octets: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), length)
}

const fn v6(segments: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), length)
}

/// What the administrator says about where sources may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Networks that are allowed whatever else is said.
    pub allowed: Vec<IpNet>,
    /// Networks that are forbidden beside those that always are: the API server, the nodes.
    pub forbidden: Vec<IpNet>,
}

impl Policy {
    /// Whether a source may connect to `address`.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = plain(address);
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        is_in(&self.allowed) || !(is_never(address) || is_in(&self.forbidden))
    }
}

/// The address of IPv4 that `address` stands for, where it does.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(long) = address.to_canonical() else { return address.to_canonical() };
    if long.is_loopback() || long.is_unspecified() {
        return address;
    }
    let carried = CARRIERS.iter().find(|(network, _)| network.contains(&long));
    let Some((_, at)) = carried else { return address };
    let segments = long.segments();
    let half = |i: usize| segments.get(i).copied().unwrap_or_default().to_be_bytes();
    let ([a, b], [c, d]) = (half(*at), half(at + 1));
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(short) => NEVER_V4.iter().any(|network| network.contains(&short)),
        IpAddr::V6(long) => NEVER_V6.iter().any(|network| network.contains(&long)),
    }
}

/// Resolves `host`, a name or an address (one of IPv6 with or without brackets), once, and gives
/// where to connect. A name with several addresses is taken at the first that may be used.
pub async fn checked(host: &str, port: u16, policy: &Policy) -> Result<SocketAddr, Failure> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => lookup_host((bare, port))
            .await
            .map_err(|error| Failure::away("resolving the server's name", error))?
            .collect(),
    };
    choose(host, &found, policy)
}

/// Connects to an address that was checked.
#[cfg(feature = "brokers")]
pub(crate) async fn connect(
    at: SocketAddr,
    doing: &'static str,
) -> Result<tokio::net::TcpStream, Failure> {
    let away = |error| Failure::away(doing, error);
    let stream = tokio::net::TcpStream::connect(at).await.map_err(away)?;
    stream.set_nodelay(true).map_err(away)?;
    Ok(stream)
}

fn choose(host: &str, found: &[SocketAddr], policy: &Policy) -> Result<SocketAddr, Failure> {
    if found.is_empty() {
        return Err(Failure::away("resolving the server's name", format!("{host} has no address")));
    }
    let permitted = found.iter().find(|address| policy.permits(address.ip()));
    permitted.copied().ok_or_else(|| {
        Failure::Forbidden(format!(
            "sources may not connect to {host}: it is an address of a node, the API server, or \
             what only a machine itself may reach; name another server, or ask the administrator \
             to allow it"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(policy: &Policy, address: &str) -> bool {
        policy.permits(address.parse().unwrap())
    }

    #[test]
    fn what_only_a_machine_may_reach_is_forbidden_in_each_notation() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(!permits(&Policy::default(), address), "{address}");
        }
    }

    #[test]
    fn servers_inside_and_outside_of_the_cluster_are_reached() {
        for address in ["10.0.0.7", "192.168.1.1", "93.184.216.34", "fd00::7", "2001:db8::1"] {
            assert!(permits(&Policy::default(), address), "{address}");
        }
    }

    #[test]
    fn the_administrator_forbids_more_and_allows_what_would_be_forbidden() {
        let policy = Policy {
            allowed: vec!["127.0.0.0/8".parse().unwrap(), "10.1.0.9/32".parse().unwrap()],
            forbidden: vec!["10.1.0.0/16".parse().unwrap()],
        };
        assert!(permits(&policy, "127.0.0.1"));
        assert!(permits(&policy, "10.1.0.9"));
        assert!(!permits(&policy, "10.1.0.1"));
        assert!(!permits(&policy, "::ffff:10.1.0.1"));
    }

    #[tokio::test]
    async fn an_address_is_taken_as_it_is() {
        let policy = Policy::default();
        let at = checked("[2001:db8::1]", 4222, &policy).await.unwrap();
        assert_eq!(at, "[2001:db8::1]:4222".parse().unwrap());
        let error = checked("127.0.0.1", 4222, &policy).await.unwrap_err();
        assert_eq!(error.reason(), "AddressForbidden");
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_addresses() {
        let error = checked("localhost", 4222, &Policy::default()).await.unwrap_err();
        assert_eq!(error.reason(), "AddressForbidden");
    }

    #[test]
    fn the_first_address_that_may_be_used_is_chosen() {
        let found = ["127.0.0.1:1".parse().unwrap(), "10.0.0.7:1".parse().unwrap()];
        let chosen = choose("mixed", &found, &Policy::default()).unwrap();
        assert_eq!(chosen, found[1]);
        let error = choose("none", &[], &Policy::default()).unwrap_err();
        assert_eq!(error.reason(), "ServerAway");
    }
}
