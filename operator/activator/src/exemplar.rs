//! The trace that a request belongs to, as its header `traceparent` says (W3C Trace Context): told
//! with measurements, so that one can be followed from a histogram to a request, and with wakings.

use std::fmt;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::HeaderName;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Hexadecimal digits of the ids of a trace and of a span.
const DIGITS: usize = 32;
const SPAN_DIGITS: usize = 16;

/// The id of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; DIGITS]);

/// Where in a trace that somebody records a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The trace.
    pub trace: TraceId,
    /// The span that called.
    span: [u8; SPAN_DIGITS],
}

impl Caller {
    /// Whoever made a request with these headers, if somebody records its trace.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::of_parent(headers.get(TRACEPARENT)?.as_bytes())
    }

    /// Whoever a `traceparent` of this value names, if somebody records its trace.
    pub(crate) fn of_parent(value: &[u8]) -> Option<Self> {
        // 00-TRACE-PARENT-FLAGS; later versions may add to it.
        let (version, rest) = value.split_first_chunk::<3>()?;
        let (trace, rest) = rest.split_first_chunk::<DIGITS>()?;
        let (parent, rest) = rest.split_first_chunk::<18>()?;
        let (flags, _) = rest.split_first_chunk::<2>()?;
        let lower =
            |bytes: &[u8]| bytes.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
        let [b'0'..=b'9' | b'a'..=b'f', b'0'..=b'9' | b'a'..=b'f', b'-'] = version else {
            return None;
        };
        let well_formed = parent[0] == b'-' && lower(&parent[1..17]) && parent[17] == b'-';
        let sampled =
            lower(flags) && u8::from_str_radix(str::from_utf8(flags).ok()?, 16).ok()? & 1 == 1;
        let named = lower(trace) && trace.iter().any(|digit| *digit != b'0');
        let span = parent.get(1..)?.first_chunk::<SPAN_DIGITS>()?;
        (well_formed && sampled && named).then_some(Self { trace: TraceId(*trace), span: *span })
    }

    /// The span's id, in hexadecimal digits.
    pub fn span(&self) -> &str {
        str::from_utf8(&self.span).unwrap_or_default()
    }
}

impl TraceId {
    /// The id, in hexadecimal digits.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl EncodeLabelValue for TraceId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// What stands beside a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TraceLabel {
    trace_id: TraceId,
}

/// A histogram that tells of each class a trace that is in it.
pub(crate) type TracedHistogram = HistogramWithExemplars<TraceLabel>;

/// Takes `seconds` into `histogram`.
pub(crate) fn observe(histogram: &TracedHistogram, seconds: f64, trace: Option<TraceId>) {
    let label = trace.map(|trace_id| TraceLabel { trace_id });
    histogram.observe(seconds, label, trace.map(|_| SystemTime::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, http::HeaderValue::from_static(value));
        Caller::of(&headers).map(|caller| format!("{} {}", caller.trace.as_str(), caller.span()))
    }

    #[test]
    fn only_a_trace_that_is_recorded_is_told() {
        let told = Some("4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7".to_owned());
        assert_eq!(of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), told);
        assert_eq!(of("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more"), told);
        for odd in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "\"} 1",
            "",
        ] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }
}
