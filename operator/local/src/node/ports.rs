//! Ports of this machine for containers, each for one at a time. They come from below the range that
//! the kernel gives to connections, or one of those might sit where a program is about to listen; and in
//! blocks, each for one process at a time, or a request for a pod that was just killed might reach
//! another's.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpSocket;

/// The range, with room for thousands of containers.
const RANGE: Range<u16> = 20_000..30_000;
/// Ports of one block. Who listens at the first has the others.
const BLOCK: u16 = 500;

/// The ports that are not given away.
#[derive(Debug)]
pub struct Ports {
    range: Range<u16>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The blocks that are this process's own.
    blocks: Vec<Block>,
    given: BTreeSet<u16>,
    /// How many were looked at: what was given back is given again as late as can be.
    looked: usize,
}

/// A block, for as long as this lives.
#[derive(Debug)]
struct Block {
    first: u16,
    _claim: TcpListener,
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
#[error(
    "no port from {} to {} is free on this machine: end what listens there",
    RANGE.start,
    RANGE.end - 1
)]
pub struct NoPort;

impl Default for Ports {
    fn default() -> Self {
        Self { range: RANGE, state: Mutex::default() }
    }
}

impl Ports {
    /// Gives `count` ports at which nobody listens.
    pub fn take(self: &Arc<Self>, count: usize) -> Result<Given, NoPort> {
        let mut given = Given { numbers: Vec::with_capacity(count), from: Arc::clone(self) };
        let mut state = self.state();
        while given.numbers.len() < count {
            match state.next() {
                Some(port) => given.numbers.push(port),
                None => state.claim(self.range.clone())?,
            }
        }
        drop(state);
        Ok(given)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a port of the own blocks, if one is left.
    fn next(&mut self) -> Option<u16> {
        let all = self.blocks.len() * usize::from(BLOCK - 1);
        for _ in 0..all {
            let at = self.looked % all;
            self.looked = at + 1;
            let block = self.blocks.get(at / usize::from(BLOCK - 1))?;
            let port = block.first + 1 + u16::try_from(at % usize::from(BLOCK - 1)).ok()?;
            if !self.given.contains(&port) && is_free(port) {
                self.given.insert(port);
                return Some(port);
            }
        }
        None
    }

    /// Takes a block that nobody has.
    fn claim(&mut self, range: Range<u16>) -> Result<(), NoPort> {
        let claim = |first| Some((first, TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?));
        let claimed = range.step_by(usize::from(BLOCK)).find_map(claim);
        let (first, claim) = claimed.ok_or(NoPort)?;
        self.blocks.push(Block { first, _claim: claim });
        Ok(())
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
    // Nobody listens there for it, not even for a moment: that would be for everybody who reaches the
    // machine, and some systems ask the user whether they may.
    let opens = |address: Ipv4Addr| {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((address, port).into())
    };
    opens(Ipv4Addr::UNSPECIFIED).is_ok() && opens(Ipv4Addr::LOCALHOST).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_to_one_at_a_time_and_not_while_somebody_listens() {
        // Beside those that others on this machine may use now.
        let range = RANGE.end..RANGE.end + 2 * BLOCK;
        let new = || Arc::new(Ports { range: range.clone(), state: Mutex::default() });
        let (ports, others) = (new(), new());
        let first = ports.take(3).unwrap();
        assert_eq!(first.numbers.len(), 3);
        let taken = first.numbers[0];
        drop(first);
        assert!(ports.state().given.is_empty());
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        ports.state().looked = 0;
        let other = ports.take(1).unwrap();
        assert_ne!(other.numbers[0], taken);
        ports.state().looked = 0;
        assert_ne!(ports.take(1).unwrap().numbers, other.numbers);
        let block = |port: u16| port / BLOCK;
        let theirs = others.take(1).unwrap();
        assert_ne!(block(theirs.numbers[0]), block(taken), "a block is for one alone");
        drop(others);
        assert_eq!(ports.take(usize::from(2 * BLOCK)).unwrap_err(), NoPort);
        assert_eq!(ports.state().given.len(), 1, "what was not enough is given back");
    }
}
