//! The pauses before a container is started again. Pure.
//!
//! One that somebody killed is not to blame: whoever did it has somebody waiting, as long as that does
//! not happen over and over.

use std::time::Duration;

/// One that lived so long lived well.
const LIVED: Duration = Duration::from_secs(1);
/// Ends of young ones by somebody's SIGKILL that are forgiven, in a row.
const FORGIVEN: u32 = 4;
/// The first pause of one that did not, after one end that is forgiven, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// How often it has ended soon, and how often somebody has ended it soon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    soon: u32,
    killed: u32,
}

impl Backoff {
    /// The pause after a life that `lasted` so long; `killed` says whether somebody else ended it.
    pub fn after(&mut self, lasted: Duration, killed: bool) -> Duration {
        if lasted >= LIVED {
            *self = Self::default();
            return Duration::ZERO;
        }
        if killed && self.killed < FORGIVEN {
            self.killed += 1;
            return Duration::ZERO;
        }
        self.soon += 1;
        match self.soon {
            1 => Duration::ZERO,
            soon => FIRST.saturating_mul(1 << (soon - 2).min(10)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_soon_waits_longer_each_time_and_who_lived_never() {
        let mut backoff = Backoff::default();
        let soon = Duration::from_millis(100);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.after(soon, false).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after(LIVED, false), Duration::ZERO);
        let pauses: Vec<u64> = (0..7).map(|_| backoff.after(soon, true).as_secs()).collect();
        assert_eq!(pauses, [0, 0, 0, 0, 0, 1, 2]);
    }
}
