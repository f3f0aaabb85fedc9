//! What the requests in one pod use of it. Pure: how much time has passed comes in as an argument.
//!
//! Requests that are in a pod at once share its memory: each has as much as any other. So what all
//! of them use together is the time in which there was any; only the rounding up of each request to
//! a whole millisecond comes on top, shared like the request's last moment.

use super::Used;

/// Nanoseconds of a millisecond.
const MILLI: u64 = 1_000_000;

/// Counts what the requests that this activator sent to one pod use of it. It takes a few
/// instructions and no division, unless others send there too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodMeter {
    requests: u64,
    /// Time of requests.
    billed: u64,
    /// Their shares of the pod's time.
    shared: u64,
}

impl PodMeter {
    /// Counts `nanos` in which `own` requests of this activator and `others` of others were there.
    pub const fn advance(&mut self, nanos: u64, own: u32, others: u32) {
        if own == 0 {
            return;
        }
        self.billed = self.billed.saturating_add(nanos.saturating_mul(own as u64));
        let share = if others == 0 {
            nanos
        } else {
            let all = own as u128 + others as u128;
            // No more than `nanos`.
            #[allow(clippy::cast_possible_truncation)]
            let share = (nanos as u128 * own as u128 / all) as u64;
            share
        };
        self.shared = self.shared.saturating_add(share);
    }

    /// Counts the end of a request that took `nanos`, one of `load` that were there.
    pub const fn end(&mut self, nanos: u64, load: u32) {
        let rest = to_whole_millisecond(nanos);
        self.requests += 1;
        self.billed += rest;
        self.shared += if load > 1 { rest / load as u64 } else { rest };
    }

    /// What was used of a pod of so many bytes since this was last asked.
    pub fn take(&mut self, bytes: u64) -> Used {
        let Self { requests, billed, shared } = std::mem::take(self);
        Used {
            requests,
            billed_nanos: billed.into(),
            billed_byte_nanos: u128::from(shared) * u128::from(bytes),
            ..Used::default()
        }
    }
}

/// What is missing to a whole number of milliseconds, one at least.
const fn to_whole_millisecond(nanos: u64) -> u64 {
    match nanos % MILLI {
        0 if nanos > 0 => 0,
        over => MILLI - over,
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "times are short here")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn each_request_is_rounded_up_to_a_millisecond() {
        let cases =
            [(0, 1), (1, 1), (MILLI, 1), (MILLI + 1, 2), (3 * MILLI / 2, 2), (7 * MILLI, 7)];
        for (nanos, millis) in cases {
            let mut meter = PodMeter::default();
            meter.advance(nanos, 1, 0);
            meter.end(nanos, 1);
            let sums = meter.take(MIB).sums();
            assert_eq!((sums.billed_millis, sums.billed_mib_millis), (millis, millis), "{nanos}");
        }
    }

    #[test]
    fn requests_at_once_share_the_memory() {
        let mut meter = PodMeter::default();
        // One alone for 10 ms, then four for 20 ms, which all end.
        meter.advance(10 * MILLI, 1, 0);
        meter.advance(20 * MILLI, 4, 0);
        for (load, millis) in [(4, 30), (3, 20), (2, 20), (1, 20)] {
            meter.end(millis * MILLI, load);
        }
        let sums = meter.take(100 * MIB).sums();
        assert_eq!((sums.requests, sums.billed_millis, sums.billed_mib_millis), (4, 90, 3000));
        assert_eq!(meter.take(MIB), Used::default(), "it is taken once");
    }

    #[test]
    fn what_others_send_there_has_its_share() {
        let mut meter = PodMeter::default();
        meter.advance(30 * MILLI, 1, 2);
        assert_eq!(meter.take(MIB).sums().billed_mib_millis, 10);
        meter.advance(30 * MILLI, 0, 2);
        assert_eq!(meter.take(MIB), Used::default());
    }

    proptest! {
        /// Requests come and go in one pod as they like. Against each request's own account: its time
        /// rounded up, and the integral of one over the number that were there.
        #[test]
        fn all_shares_together_are_the_time_of_the_pod_and_the_rounding(
            steps in prop::collection::vec((0u64..5_000_000, any::<bool>(), 0usize..8), 1..60),
        ) {
            let mut meter = PodMeter::default();
            let mut running: Vec<(u64, f64)> = Vec::new();
            let (mut busy, mut rounded, mut shares, mut whole) = (0u64, 0f64, 0f64, 0u64);
            let mut ended = 0;
            let mut end = |meter: &mut PodMeter, running: &mut Vec<(u64, f64)>, index: usize| {
                let load = running.len();
                let (nanos, share) = running.remove(index);
                meter.end(nanos, u32::try_from(load).unwrap());
                let rest = nanos.div_ceil(MILLI).max(1) * MILLI - nanos;
                rounded += rest as f64 / load as f64;
                shares += share;
                whole += nanos + rest;
                ended += 1;
            };
            for (nanos, comes, which) in steps {
                let load = running.len();
                meter.advance(nanos, u32::try_from(load).unwrap(), 0);
                busy += if load > 0 { nanos } else { 0 };
                for (time, share) in &mut running {
                    *time += nanos;
                    *share += nanos as f64 / load as f64;
                }
                if comes {
                    running.push((0, 0.0));
                } else if load > 0 {
                    end(&mut meter, &mut running, which % load);
                }
            }
            while !running.is_empty() {
                end(&mut meter, &mut running, 0);
            }
            let used = meter.take(1);
            prop_assert_eq!(used.requests, ended);
            prop_assert_eq!(used.billed_nanos, u128::from(whole));
            prop_assert_eq!(whole % MILLI, 0);
            let all = used.billed_byte_nanos as f64;
            prop_assert!((all - shares - rounded).abs() < 1.0 + ended as f64, "{all}");
            prop_assert!((shares - busy as f64).abs() < 1.0, "the shares make up the whole");
        }
    }
}
