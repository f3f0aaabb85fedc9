//! The form of every benchmark's result: phases as a table, bars with limits, raw figures.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

/// The result of a benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of the benchmark.
    pub bench: &'static str,
    /// What must hold.
    pub bars: Vec<Bar>,
    /// The raw figures, run by run.
    pub runs: Vec<Value>,
    /// Tables and notes for people.
    #[serde(skip)]
    pub text: String,
}

/// A figure that must not pass its limit.
#[derive(Debug, Serialize)]
pub struct Bar {
    /// What is measured.
    pub name: String,
    /// What came out.
    pub value: f64,
    /// What it may be at most, or at least.
    pub limit: f64,
    /// Unit of both.
    pub unit: &'static str,
    /// Whether it holds.
    pub holds: bool,
    #[serde(skip)]
    bound: &'static str,
}

impl Bar {
    /// A bar that holds when `value` is at most `limit`.
    pub fn at_most(name: impl Into<String>, value: f64, limit: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, limit, unit, holds: value <= limit, bound: "most" }
    }

    /// A bar that holds when `value` is at least `limit`.
    pub fn at_least(name: impl Into<String>, value: f64, limit: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, limit, unit, holds: value >= limit, bound: "least" }
    }
}

/// A row of the table: the distribution of one figure.
#[derive(Debug)]
pub struct Row {
    /// What is measured.
    pub name: String,
    /// All values, in milliseconds.
    pub millis: Vec<f64>,
}

impl Report {
    /// A report in which nothing stands yet.
    pub const fn new(bench: &'static str) -> Self {
        Self { bench, bars: Vec::new(), runs: Vec::new(), text: String::new() }
    }

    /// Adds a line for people.
    pub fn say(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Whether every bar holds.
    pub fn holds(&self) -> bool {
        self.bars.iter().all(|bar| bar.holds)
    }

    /// The result for people.
    pub fn table(&self) -> String {
        let mut text = self.text.clone();
        for bar in &self.bars {
            let Bar { name, value, limit, unit, holds, bound } = bar;
            let verdict = if *holds { "holds" } else { "DOES NOT HOLD" };
            let _ = writeln!(
                text,
                "bar: {name}: {value:.2} {unit} of at {bound} {limit} {unit}: {verdict}"
            );
        }
        text
    }
}

/// A table of distributions.
pub fn distributions(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<58} {:>5} {:>8} {:>8} {:>8} {:>8}\n",
        "milliseconds", "n", "min", "p50", "p90", "max"
    );
    for row in rows {
        let at = |share| quantile(&row.millis, share);
        let _ = writeln!(
            text,
            "{:<58} {:>5} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
            row.name,
            row.millis.len(),
            at(0.0),
            at(0.5),
            at(0.9),
            at(1.0)
        );
    }
    text
}

/// Bytes in MiB.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The value below which `share` of `values` lie, interpolated between neighbours; not a number
/// without values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    #[allow(clippy::cast_precision_loss, reason = "far fewer values than 2^52")]
    let place = share.clamp(0.0, 1.0) * last as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=last")]
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    let (Some(low_value), Some(high_value)) = (sorted.get(low), sorted.get(high)) else {
        return f64::NAN;
    };
    low_value + (high_value - low_value) * place.fract()
}

/// The median of `values`, and the least and the most of them, as text.
pub fn spread(values: &[f64]) -> String {
    let at = |share| quantile(values, share);
    format!("{:.2} [{:.2}-{:.2}]", at(0.5), at(0.0), at(1.0))
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        for (share, value) in [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0)] {
            assert!((quantile(&values, share) - value).abs() < 1e-9);
        }
        assert!(quantile(&[], 0.5).is_nan());
    }
}
