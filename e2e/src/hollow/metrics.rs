//! Reads what processes count of themselves.

use std::net::SocketAddr;

use anyhow::Context;

use crate::http::Caller;

/// All series of a process at one moment.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

/// One series, and its value.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    labels: &'a str,
    /// Its value.
    pub value: f64,
}

impl<'a> Series<'a> {
    /// The value of a label, as it is written.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let labels = self.labels.strip_prefix('{')?.strip_suffix('}')?;
        labels.split("\",").find_map(|label| {
            let value = label.strip_prefix(name)?.strip_prefix("=\"")?;
            Some(value.strip_suffix('"').unwrap_or(value))
        })
    }
}

impl Metrics {
    /// Those that `text` tells of.
    pub const fn of(text: String) -> Self {
        Self { text }
    }

    /// Reads them from an admin port.
    pub async fn fetch(admin: SocketAddr) -> anyhow::Result<Self> {
        let answer = Caller::new(admin).get("admin", "/metrics").await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        let text = String::from_utf8(answer.body.to_vec()).context("metrics are text")?;
        Ok(Self::of(text))
    }

    /// The series `name`.
    pub fn series<'a>(&'a self, name: &str) -> impl Iterator<Item = Series<'a>> {
        self.text.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ').map(split)?;
            let is_named = labels.is_empty() || labels.starts_with('{');
            Some(Series { labels, value: value.parse().ok().filter(|_| is_named)? })
        })
    }

    /// The sum of the series `name` whose labels have all of these values.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |series: &Series<'_>| {
            labels.iter().all(|(label, value)| series.label(label) == Some(*value))
        };
        self.series(name).filter(wanted).map(|series| series.value).sum()
    }
}

/// Series and value of a sample; an exemplar may follow the value.
fn split<'a>((before, last): (&'a str, &'a str)) -> (&'a str, &'a str) {
    match before.split_once(" # ") {
        Some((sample, _)) => sample.rsplit_once(' ').unwrap_or((sample, "")),
        None => (before, last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_labels_and_exemplars_are_left_out() {
        let text = "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"4\"} 5 # {trace_id=\"z\"} 9 1.5\n\
                    a_total_more{x=\"1\"} 7\nb 2\n";
        let metrics = Metrics { text: text.to_owned() };
        assert!((metrics.sum("a_total", &[("x", "1")]) - 8.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a_total", &[("x", "1"), ("y", "2")]) - 3.0).abs() < f64::EPSILON);
        assert!((metrics.sum("b", &[]) - 2.0).abs() < f64::EPSILON);
    }
}
