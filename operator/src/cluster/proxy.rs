//! Which API servers are asked without the proxy of the environment. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether `host` is reached without a proxy, by what `NO_PROXY` says: names, which stand for all below
/// them too, addresses, ranges of addresses, or `*`. What is on this machine is always.
pub fn is_direct(host: &str, no_proxy: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let is_own = host == "localhost" || host.ends_with(".localhost");
    if is_own || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let mut named = no_proxy.split([',', ' ']).map(str::trim).filter(|one| !one.is_empty());
    named.any(|one| match (one, address) {
        ("*", _) => true,
        (one, Some(address)) => {
            one.parse::<IpNet>().is_ok_and(|range| range.contains(&address))
                || one.parse::<IpAddr>().is_ok_and(|one| one == address)
        }
        (one, None) => {
            let one = one.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
            let one = one.rsplit_once(':').map_or(one.as_str(), |(name, _)| name);
            host.strip_suffix(one).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_what_is_named_are_reached_directly() {
        for own in ["127.0.0.1", "[::1]", "localhost", "x.localhost"] {
            assert!(is_direct(own, ""), "{own}");
        }
        let no_proxy = "10.0.0.0/8, .example.com,kube.corp:6443,192.0.2.7";
        for host in ["10.1.2.3", "api.example.com", "example.com", "KUBE.corp", "192.0.2.7"] {
            assert!(is_direct(host, no_proxy), "{host}");
        }
        for host in ["11.1.2.3", "notexample.com", "corp", "192.0.2.8", "fd00::1"] {
            assert!(!is_direct(host, no_proxy), "{host}");
        }
        assert!(is_direct("anything", "*"));
    }
}
