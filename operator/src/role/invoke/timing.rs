//! What a caller's wait was made of, read from the header `Server-Timing` of an answer. Pure.

use hyper::HeaderMap;
use serde::Serialize;

use crate::output::Sheet;

/// What the activator's moments are called here.
const MOMENTS: [(&str, &str); 8] = [
    ("rouse-scale", "scale written"),
    ("rouse-created", "pod made"),
    ("rouse-scheduled", "node found"),
    ("rouse-address", "sandbox up"),
    ("rouse-listen", "program listens"),
    ("rouse-wait", "slot free"),
    ("rouse-send", "request sent"),
    ("rouse-first-byte", "answer begins"),
];

/// A part of the wait.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// What was so at its end.
    pub name: &'static str,
    /// How long it took, in milliseconds.
    pub millis: f64,
    /// Milliseconds since the request came, at its end.
    pub at_millis: f64,
}

/// The parts of the wait that `headers` tell of, in the order of time.
pub fn phases(headers: &HeaderMap) -> Vec<Phase> {
    let values = headers.get_all("server-timing").iter().filter_map(|value| value.to_str().ok());
    let metrics = values.flat_map(|value| value.split(','));
    let mut moments: Vec<(usize, f64)> = metrics.filter_map(moment).collect();
    moments.sort_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0)));
    let mut former = 0.0;
    let phase = |(index, at): (usize, f64)| {
        let (_, name) = MOMENTS.get(index)?;
        let millis = at - std::mem::replace(&mut former, at);
        Some(Phase { name, millis, at_millis: at })
    };
    moments.into_iter().filter_map(phase).collect()
}

/// Which moment a metric such as `rouse-wait;dur=1.5` tells of, and when it was.
fn moment(metric: &str) -> Option<(usize, f64)> {
    let mut parts = metric.split(';').map(str::trim);
    let name = parts.next()?;
    let index = MOMENTS.iter().position(|(other, _)| *other == name)?;
    let duration = parts.find_map(|part| part.strip_prefix("dur="))?;
    duration.parse().ok().filter(|at: &f64| at.is_finite() && *at >= 0.0).map(|at| (index, at))
}

/// Whether a pod was started for it.
pub fn is_cold(phases: &[Phase]) -> bool {
    phases.iter().any(|phase| phase.name == "program listens")
}

/// The phases as rows.
pub fn sheet(phases: &[Phase]) -> Sheet {
    let row = |it: &Phase| {
        vec![it.name.to_owned(), format!("{:.1}", it.millis), format!("{:.1}", it.at_millis)]
    };
    Sheet {
        head: vec!["PHASE", "TOOK MS", "AFTER MS"],
        rows: phases.iter().map(row).collect(),
        ..Sheet::default()
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn moments_become_phases_in_the_order_of_time() {
        let mut headers = HeaderMap::new();
        headers.append("server-timing", HeaderValue::from_static("db;dur=3, odd"));
        let told = "rouse-wait;dur=401.0, rouse-created;dur=20.5, rouse-listen;dur=400.0, \
                    rouse-send;dur=401.2, rouse-first-byte;dur=409.0, rouse-scale;dur=x";
        headers.append("server-timing", HeaderValue::from_static(told));
        let phases = phases(&headers);
        let short: Vec<String> =
            phases.iter().map(|it| format!("{} {:.1}", it.name, it.millis)).collect();
        let expected = [
            "pod made 20.5",
            "program listens 379.5",
            "slot free 1.0",
            "request sent 0.2",
            "answer begins 7.8",
        ];
        assert_eq!(short, expected);
        assert!(is_cold(&phases));
        let sum: f64 = phases.iter().map(|phase| phase.millis).sum();
        assert!((sum - 409.0).abs() < 1e-9, "they make up all of it");
        assert!(sheet(&phases).rows[0] == ["pod made", "20.5", "20.5"]);
    }

    #[test]
    fn who_did_not_wait_has_no_phases() {
        assert!(phases(&HeaderMap::new()).is_empty() && !is_cold(&[]));
    }
}
