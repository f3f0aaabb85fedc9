//! The pauses before a container is started again. Pure.

use std::time::Duration;

/// One that lived so long lived well: whoever killed it has somebody waiting.
const LIVED: Duration = Duration::from_secs(1);
/// The first pause of one that did not, after one end that is forgiven, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// How often it has ended soon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// The pause after a life that `lasted` so long.
    pub fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= LIVED {
            self.0 = 0;
            return Duration::ZERO;
        }
        self.0 += 1;
        match self.0 {
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
        let pauses: Vec<u64> = (0..8).map(|_| backoff.after(soon).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after(LIVED), Duration::ZERO);
        assert_eq!(backoff.after(soon), Duration::ZERO);
    }
}
