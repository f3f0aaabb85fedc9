//! What a Function allows those who send it events.

use std::time::Duration;

use crate::function::ValidatedFunction;
use crate::scaling::Policy;

/// What a call may take longer than the activator lets it: it always answers.
const MARGIN: Duration = Duration::from_secs(10);

/// What a Function allows those who send it events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Deliveries that may be under way.
    pub in_flight: usize,
    /// How long one may take, until nobody can answer it any more.
    pub limit: Duration,
}

impl Target {
    /// What nobody allows, for there is no Function.
    pub const NONE: Self = Self { in_flight: 0, limit: MARGIN };

    /// What `function` allows: as many deliveries as it may run, and `most` at most.
    pub fn of(function: &ValidatedFunction, most: u32) -> Self {
        let pods = function.scaling.max.max(1);
        let requests = Policy::of(function).per_pod().saturating_mul(pods).min(most);
        Self {
            in_flight: usize::try_from(requests).unwrap_or(1),
            limit: function.timeouts.activation + function.timeouts.request + MARGIN,
        }
    }
}
