//! Ports of this machine for containers, each for one at a time. They come from below the range that
//! the kernel gives to connections, or one of those might sit where a program is about to listen.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The range, with room for thousands of containers.
const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;
/// Numbers that processes begin at differ by this, so that two of them seldom meet.
const STRIDE: u32 = 97;

/// The ports that are not given away.
#[derive(Debug)]
pub struct Ports(Mutex<State>);

#[derive(Debug)]
struct State {
    given: BTreeSet<u16>,
    /// Where to look next: what was given back is given again as late as can be.
    next: u16,
}

/// Ports that are given away for as long as this lives.
#[derive(Debug)]
pub struct Given {
    /// The ports.
    pub numbers: Vec<u16>,
    from: Arc<Ports>,
}

/// All ports of the range are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no port from {FIRST} to {LAST} is free on this machine: end what listens there")]
pub struct NoPort;

impl Default for Ports {
    fn default() -> Self {
        let span = u32::from(LAST - FIRST) + 1;
        let offset = std::process::id().wrapping_mul(STRIDE) % span;
        let next = FIRST + u16::try_from(offset).unwrap_or_default();
        Self(Mutex::new(State { given: BTreeSet::new(), next }))
    }
}

impl Ports {
    /// Gives `count` ports at which nobody listens.
    pub fn take(self: &Arc<Self>, count: usize) -> Result<Given, NoPort> {
        let mut given = Given { numbers: Vec::with_capacity(count), from: Arc::clone(self) };
        let mut state = self.state();
        for _ in FIRST..=LAST {
            if given.numbers.len() == count {
                break;
            }
            let port = state.next;
            state.next = if port == LAST { FIRST } else { port + 1 };
            if !state.given.contains(&port) && is_free(port) {
                state.given.insert(port);
                given.numbers.push(port);
            }
        }
        drop(state);
        if given.numbers.len() == count { Ok(given) } else { Err(NoPort) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let mut state = self.from.state();
        for port in &self.numbers {
            state.given.remove(port);
        }
    }
}

/// Whether somebody could listen there, at all addresses or at that of this machine alone.
fn is_free(port: u16) -> bool {
    let opens = |address: Ipv4Addr| TcpListener::bind((address, port)).is_ok();
    opens(Ipv4Addr::UNSPECIFIED) && opens(Ipv4Addr::LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_to_one_at_a_time_and_not_while_somebody_listens() {
        let ports = Arc::new(Ports::default());
        let first = ports.take(3).unwrap();
        assert_eq!(first.numbers.len(), 3);
        let taken = first.numbers[0];
        drop(first);
        assert!(ports.state().given.is_empty());
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        ports.state().next = taken;
        let other = ports.take(1).unwrap();
        assert_ne!(other.numbers[0], taken);
        ports.state().next = other.numbers[0];
        assert_ne!(ports.take(1).unwrap().numbers, other.numbers);
        assert_eq!(ports.take(20_000).unwrap_err(), NoPort);
        assert_eq!(ports.state().given.len(), 1, "what was not enough is given back");
    }
}
