//! Policies of others, as far as they are published, for comparison.

/// Whose policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// Knative's autoscaler: to zero once a window of 60 s was empty, looked at every 2 s.
    Knative,
    /// The hybrid histogram of "Serverless in the Wild" (USENIX ATC 2020), with the mean of the last
    /// ten idle times in place of its time series.
    Hybrid,
}

/// Knative looks back so many seconds, each so many.
const WINDOW: f64 = 60.0;
const TICK: f64 = 2.0;
/// Idle times longer than so many minutes are out of the histogram's bounds.
const BINS: usize = 240;
/// Below this variation of its counts a histogram says nothing.
const REPRESENTATIVE: f64 = 2.0;
/// Idle times that stand in for a time series.
const SERIES: usize = 10;

/// The idle times of one Function under a rival's policy, and what it plans from them.
#[derive(Clone, Debug)]
pub struct Keeper {
    rival: Rival,
    bins: Vec<u32>,
    counted: f64,
    squares: f64,
    out_of_bounds: f64,
    series: Vec<f64>,
    /// From when to when after a call it is warm, in seconds.
    warm: (f64, f64),
}

impl Keeper {
    /// One that has seen nothing.
    pub fn new(rival: Rival) -> Self {
        let bins = if rival == Rival::Hybrid { vec![0; BINS] } else { Vec::new() };
        Self {
            rival,
            bins,
            counted: 0.0,
            squares: 0.0,
            out_of_bounds: 0.0,
            series: Vec::new(),
            warm: (0.0, 0.0),
        }
    }

    /// Takes in a call, which ended an idle time unless it was the first, and plans.
    pub fn note(&mut self, idle: Option<f64>) {
        if self.rival == Rival::Knative {
            return;
        }
        if let Some(idle) = idle {
            self.count(idle);
        }
        self.warm = self.plan();
    }

    /// How long it is warm in vain between a call and a later moment.
    pub fn wasted(&self, last: f64, until: f64) -> f64 {
        let (from, to) = self.warm_after(last);
        (to.min(until) - from.max(last)).max(0.0)
    }

    /// Whether it is warm at a moment after a call.
    pub fn is_warm(&self, last: f64, at: f64) -> bool {
        let (from, to) = self.warm_after(last);
        (from..=to).contains(&at)
    }

    fn warm_after(&self, last: f64) -> (f64, f64) {
        match self.rival {
            Rival::Knative => (last, ((last + WINDOW) / TICK).ceil() * TICK),
            Rival::Hybrid => (last + self.warm.0, last + self.warm.1),
        }
    }

    fn count(&mut self, idle: f64) {
        if self.series.len() == SERIES {
            self.series.remove(0);
        }
        self.series.push(idle);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "what is too large for a bin is out of bounds"
        )]
        let bin = (idle / 60.0) as usize;
        match self.bins.get_mut(bin) {
            Some(bin) => {
                self.squares += 2.0 * f64::from(*bin) + 1.0;
                *bin += 1;
                self.counted += 1.0;
            }
            None => self.out_of_bounds += 1.0,
        }
    }

    fn plan(&self) -> (f64, f64) {
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let (bins, lengths) = (BINS as f64, self.series.len() as f64);
        if self.out_of_bounds > self.counted {
            let forecast = self.series.iter().sum::<f64>() / lengths;
            return (0.85 * forecast, 1.15 * forecast);
        }
        let mean = self.counted / bins;
        let variance = (self.squares / bins - mean * mean).max(0.0);
        if self.counted < 1.0 || variance.sqrt() / mean < REPRESENTATIVE {
            return (0.0, 240.0 * 60.0);
        }
        let (head, tail) = (self.percentile(0.05), self.percentile(0.99) + 1.0);
        (0.9 * head * 60.0, 1.1 * tail * 60.0)
    }

    /// The bin in which the share of all counts is reached.
    fn percentile(&self, share: f64) -> f64 {
        let mut left = share * self.counted;
        let mut at = 0.0;
        for bin in &self.bins {
            left -= f64::from(*bin);
            if left <= 0.0 {
                break;
            }
            at += 1.0;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knative_sleeps_at_the_first_tick_after_a_minute() {
        let keeper = Keeper::new(Rival::Knative);
        assert!(keeper.is_warm(1.0, 61.9) && !keeper.is_warm(1.0, 62.1));
        assert!((keeper.wasted(1.0, 500.0) - 61.0).abs() < 1e-9);
    }

    #[test]
    fn the_hybrid_histogram_leaves_and_comes_back_for_a_period() {
        let mut keeper = Keeper::new(Rival::Hybrid);
        keeper.note(None);
        assert!(keeper.is_warm(0.0, 4.0 * 3600.0), "nothing is known");
        for _ in 0..20 {
            keeper.note(Some(1800.0));
        }
        assert!(!keeper.is_warm(0.0, 60.0) && keeper.is_warm(0.0, 1800.0));
        assert!(!keeper.is_warm(0.0, 2200.0));
        for _ in 0..30 {
            keeper.note(Some(5.0 * 3600.0));
        }
        assert!(keeper.is_warm(0.0, 5.0 * 3600.0) && !keeper.is_warm(0.0, 3600.0));
    }
}
