//! The memory that waiting requests may hold in this process, all Functions together, and how the
//! Functions share it.
//!
//! A Function may hold half as much as is still free: alone a third of all, and with others that
//! flood less (dynamic thresholds: Choudhury and Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches", 1998). So whoever holds more than its share is refused first,
//! each that floods leaves two thirds of what it found, and no share lies idle for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use rouse_core::function::BufferBounds;

/// Over how many seconds those come back who are refused where no queue tells when.
const SPREAD: u64 = 3;

/// What all waiting requests of this process may hold.
#[derive(Debug)]
pub struct Buffer {
    bounds: BufferBounds,
    held: Amount,
    refused: AtomicU64,
}

/// Requests and their bytes.
#[derive(Debug, Default)]
struct Amount {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// What one Function holds of it.
#[derive(Debug)]
pub(crate) struct Share {
    buffer: Arc<Buffer>,
    held: Amount,
    /// The bytes, as metrics tell them.
    gauge: Gauge,
}

/// What one request holds, for as long as it waits.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: u64,
}

/// The Function holds its share already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareTaken;

impl Buffer {
    /// A buffer in which nobody waits.
    pub fn new(bounds: BufferBounds) -> Arc<Self> {
        Arc::new(Self { bounds, held: Amount::default(), refused: AtomicU64::new(0) })
    }

    /// When somebody should come back who is refused where no queue tells: not all at once.
    pub(crate) fn retry_after(&self) -> Duration {
        Duration::from_secs(1 + self.refused.fetch_add(1, Ordering::Relaxed) % SPREAD)
    }
}

impl Amount {
    /// Adds, and answers with the sums.
    fn add(&self, bytes: u64) -> (u64, u64) {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        (requests, self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes)
    }

    fn subtract(&self, bytes: u64) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Share {
    /// The share of a Function that holds nothing; `gauge` shows the bytes.
    pub(crate) fn new(buffer: &Arc<Buffer>, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { buffer: Arc::clone(buffer), held: Amount::default(), gauge })
    }

    /// Room for one request, if the Function then holds no more than half of what was free.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Result<Held, ShareTaken> {
        // Added first and compared then: what two add in one moment both may see, and be refused;
        // that both overlook it is impossible.
        let (own_requests, own_bytes) = self.held.add(bytes);
        let (all_requests, all_bytes) = self.buffer.held.add(bytes);
        self.gauge.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        let held = Held { share: Arc::clone(self), bytes };
        let BufferBounds { requests, bytes: most_bytes } = self.buffer.bounds;
        let fits = |own: u64, all: u64, most: u64, added: u64| 2 * own + all <= most + added;
        let fits = fits(own_requests, all_requests, u64::from(requests), 1)
            && fits(own_bytes, all_bytes, most_bytes, bytes);
        if fits { Ok(held) } else { Err(ShareTaken) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.held.subtract(self.bytes);
        self.share.buffer.held.subtract(self.bytes);
        self.share.gauge.dec_by(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buffer(requests: u32, bytes: u64) -> Arc<Buffer> {
        Buffer::new(BufferBounds { requests, bytes })
    }

    fn share(buffer: &Arc<Buffer>) -> Arc<Share> {
        Share::new(buffer, Gauge::default())
    }

    /// Holds as much as it is given.
    fn flood(share: &Arc<Share>, bytes: u64) -> Vec<Held> {
        std::iter::from_fn(|| share.hold(bytes).ok()).collect()
    }

    #[test]
    fn a_flood_takes_a_third_and_leaves_others_theirs() {
        let buffer = buffer(100_000, 1000);
        let (first, second, third) = (share(&buffer), share(&buffer), share(&buffer));
        let a = flood(&first, 10);
        assert_eq!(a.len(), 33);
        let b = flood(&second, 10);
        assert_eq!(b.len(), 22);
        assert!(first.hold(10).is_err(), "above its share by now");
        let c = flood(&third, 10);
        assert_eq!(c.len(), 15);
        drop(a);
        assert_eq!(flood(&first, 10).len(), 21, "what is left of those who were there");
        drop((b, c));
        assert_eq!(first.gauge.get() + second.gauge.get() + third.gauge.get(), 0);
        assert_eq!(flood(&first, 10).len(), 33, "nothing is lost");
    }

    #[test]
    fn requests_are_bounded_as_bytes_are() {
        let buffer = buffer(10, 1 << 40);
        let (first, second) = (share(&buffer), share(&buffer));
        let a = flood(&first, 1);
        assert_eq!((a.len(), flood(&second, 1).len()), (3, 2));
    }

    proptest! {
        /// Whatever comes and goes: never more than all is held, and each that floods leaves two
        /// thirds of what it found, less than a request.
        #[test]
        fn nobody_is_left_with_nothing(
            steps in prop::collection::vec((0usize..6, 1u64..40, any::<bool>()), 1..300),
        ) {
            let buffer = buffer(10_000, 2000);
            let shares: Vec<Arc<Share>> = (0..6).map(|_| share(&buffer)).collect();
            let mut held: Vec<Vec<Held>> = (0..6).map(|_| Vec::new()).collect();
            for (who, bytes, enters) in steps {
                if enters {
                    let before = shares[who].held.bytes.load(Ordering::Relaxed);
                    let free = 2000 - buffer.held.bytes.load(Ordering::Relaxed);
                    let result = shares[who].hold(bytes);
                    prop_assert_eq!(result.is_ok(), 2 * (before + bytes) <= free);
                    held[who].extend(result);
                } else {
                    held[who].pop();
                }
                let all: u64 = held.iter().flatten().map(|held| held.bytes).sum();
                prop_assert!(all <= 2000);
                prop_assert_eq!(all, buffer.held.bytes.load(Ordering::Relaxed));
                let gauges: i64 = shares.iter().map(|share| share.gauge.get()).sum();
                prop_assert_eq!(i64::try_from(all).unwrap(), gauges);
                let left = (0..6).fold(2000, |left, _| (left - 40 / 2) * 2 / 3);
                prop_assert!(2000 - all >= left, "{} left of {left}", 2000 - all);
            }
        }
    }
}
