//! How long to wait before something is tried again: a pure function of who tries and how often it
//! failed, so that it needs no source of chance and two objects still do not retry in step.

use std::time::Duration;

use crate::error::Class;

/// First wait after an error that may pass soon.
const BASE: Duration = Duration::from_millis(500);
/// First wait after a conflict, which is mostly over when the watch has caught up.
const CONFLICT_BASE: Duration = Duration::from_millis(100);
/// Longest wait.
const MOST: Duration = Duration::from_mins(5);

/// The wait before the attempt after the `failures`-th failure, from 1 on, of the object with the
/// UID `uid`: doubling, with a quarter of it spread over the objects.
pub(crate) fn delay(class: Class, failures: u32, uid: &str) -> Duration {
    let base = if class == Class::Conflict { CONFLICT_BASE } else { BASE };
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let full = base.saturating_mul(doubled).min(MOST);
    full.mul_f64(0.75 + 0.25 * fraction(uid, failures))
}

/// From 0 to 1, the same for the same input (FNV-1a).
fn fraction(uid: &str, failures: u32) -> f64 {
    let bytes = uid.bytes().chain(failures.to_le_bytes());
    let hash = bytes
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    f64::from(hash) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let delays: Vec<_> = (1..=40).map(|n| delay(Class::Transient, n, "uid")).collect();
        assert!(delays[0] >= BASE.mul_f64(0.75) && delays[0] <= BASE);
        assert!(delays.windows(2).take(9).all(|pair| pair[0] < pair[1]), "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= MOST));
        assert!(delays[39] >= MOST.mul_f64(0.75));
    }

    #[test]
    fn objects_do_not_retry_in_step() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|i| delay(Class::Transient, 3, &format!("uid-{i}"))).collect();
        assert!(delays.len() > 90);
        assert_eq!(delay(Class::Transient, 3, "a"), delay(Class::Transient, 3, "a"));
    }
}
