//! What usage costs, at given prices. Pure.

use rouse_crds::v1alpha1::UsageSums;

/// MiB-milliseconds of a GB-second.
const GB_SECOND: f64 = 1024.0 * 1000.0;

/// Prices, in any currency.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    /// Of a million requests.
    pub million_requests: f64,
    /// Of a GB-second of requests.
    pub gb_second: f64,
    /// Of a GB-second of pods that are kept warm, busy or idle.
    pub warm_gb_second: f64,
}

/// Figures for people.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Time of requests, in seconds.
    pub billed_seconds: f64,
    /// GB-seconds of requests.
    pub gb_seconds: f64,
    /// Time of pods, in seconds.
    pub pod_seconds: f64,
    /// GB-seconds of pods.
    pub pod_gb_seconds: f64,
    /// What it costs.
    pub cost: f64,
}

impl Prices {
    /// What `sums` are and cost.
    #[allow(clippy::cast_precision_loss, reason = "nobody pays that exactly")]
    pub fn figures(&self, sums: &UsageSums) -> Figures {
        let gb_seconds = sums.billed_mib_millis as f64 / GB_SECOND;
        let pod_gb_seconds = sums.pod_mib_millis as f64 / GB_SECOND;
        Figures {
            billed_seconds: sums.billed_millis as f64 / 1000.0,
            gb_seconds,
            pod_seconds: sums.pod_millis as f64 / 1000.0,
            pod_gb_seconds,
            cost: sums.requests as f64 / 1e6 * self.million_requests
                + gb_seconds * self.gb_second
                + pod_gb_seconds * self.warm_gb_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_costs_what_the_prices_say() {
        let sums = UsageSums {
            requests: 2_000_000,
            billed_millis: 8_000,
            billed_mib_millis: 1_024_000 * 10,
            pod_millis: 60_000,
            pod_mib_millis: 1_024_000 * 100,
        };
        let prices = Prices { million_requests: 0.2, gb_second: 0.01, warm_gb_second: 0.001 };
        let figures = prices.figures(&sums);
        assert!((figures.gb_seconds - 10.0).abs() < 1e-9);
        assert!((figures.pod_gb_seconds - 100.0).abs() < 1e-9);
        assert!((figures.cost - (0.4 + 0.1 + 0.1)).abs() < 1e-9);
        assert!(Prices::default().figures(&sums).cost.abs() < 1e-9);
    }
}
