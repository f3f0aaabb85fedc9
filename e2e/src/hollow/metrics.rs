//! Reads what Rouse's processes count of themselves.

use std::net::SocketAddr;

use anyhow::Context;

use crate::http::Caller;

/// All series of a process at one moment.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Reads them from an admin port.
    pub async fn fetch(admin: SocketAddr) -> anyhow::Result<Self> {
        let answer = Caller::new(admin).get("admin", "/metrics").await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        let text = String::from_utf8(answer.body.to_vec()).context("metrics are text")?;
        Ok(Self { text })
    }

    /// The sum of the series `name` whose labels have all of these values.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        self.text
            .lines()
            .filter_map(|line| {
                let (series, rest) = line.strip_prefix(name)?.rsplit_once(' ').map(split)?;
                let labels = match series {
                    "" => "",
                    _ => series.strip_prefix('{')?,
                };
                wanted.iter().all(|wanted| labels.contains(wanted.as_str())).then_some(rest)
            })
            .filter_map(|value| value.parse::<f64>().ok())
            .sum()
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
