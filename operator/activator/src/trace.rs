//! The trace that a request belongs to (W3C Trace Context): passed on as it came, begun here where
//! there is none. Rouse puts no span between caller and Function, so a parent stays the parent. Pure, but for the
//! random numbers.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::{BufMut, Bytes};
use fastrand::Rng;
use http::header::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of `VERSION-TRACE-PARENT-FLAGS`.
const LENGTH: usize = 55;

/// Where the trace id stands in it.
const TRACE_ID: std::ops::Range<usize> = 3..35;

/// Where the parent's id stands in it.
const PARENT_ID: std::ops::Range<usize> = 36..52;

thread_local! {
    /// Seeded by the system, not by the clock: two activators must not make the same ids.
    static RANDOM: RefCell<Rng> =
        RefCell::new(Rng::with_seed(RandomState::new().build_hasher().finish()));
}

/// Gives a request that belongs to no trace one of its own, and one without an id its trace's id.
pub(crate) fn settle(headers: &mut HeaderMap) {
    if !is_told(headers) {
        Trace::begin().apply(headers);
    } else if !headers.contains_key(X_REQUEST_ID)
        && let Some(id) = trace_id(headers)
    {
        headers.insert(X_REQUEST_ID, id);
    }
}

/// The id of the trace that a settled request belongs to.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(TRACEPARENT)?.as_bytes().get(TRACE_ID)?;
    HeaderValue::from_bytes(id).ok()
}

fn is_told(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    is_valid(value.as_bytes())
}

/// Whether `value` names a trace. Versions to come may have more after the flags, and no other
/// difference.
fn is_valid(value: &[u8]) -> bool {
    let Some((fixed, rest)) = value.split_at_checked(LENGTH) else { return false };
    let dash = |at: usize| fixed.get(at) == Some(&b'-');
    let hex = |range: std::ops::Range<usize>| {
        let digits = fixed.get(range).unwrap_or_default();
        digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |range| fixed.get(range).is_none_or(|id: &[u8]| id.iter().all(|b| *b == b'0'));
    let later = !fixed.starts_with(b"00") && !fixed.starts_with(b"ff") && rest.starts_with(b"-");
    (rest.is_empty() || later)
        && !fixed.starts_with(b"ff")
        && dash(2)
        && dash(35)
        && dash(52)
        && hex(0..2)
        && hex(TRACE_ID)
        && hex(PARENT_ID)
        && hex(53..55)
        && !zero(TRACE_ID)
        && !zero(PARENT_ID)
}

/// Bytes of the lines that [`Trace::write`] writes, and some more.
pub(crate) const ROOM: usize = 128;

/// Whether a header of this name tells of a trace.
pub(crate) fn is_told_in(name: &HeaderName) -> bool {
    [&TRACEPARENT, &TRACESTATE, &X_REQUEST_ID].contains(&name)
}

/// A new trace.
#[derive(Debug)]
pub(crate) struct Trace([u8; LENGTH]);

impl Trace {
    /// Draws one. It says that it is recorded: those who record traces do so unless they are told
    /// not to, and those who keep few of them decide by the id.
    pub(crate) fn begin() -> Self {
        let draw = |random: &mut Rng| (random.u128(1..), random.u64(1..));
        let (trace, parent) = RANDOM.with_borrow_mut(draw);
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        write_hex(&mut text[TRACE_ID], &trace.to_be_bytes());
        write_hex(&mut text[PARENT_ID], &parent.to_be_bytes());
        Self(text)
    }

    /// What `traceparent` says of it.
    pub(crate) const fn parent(&self) -> &[u8] {
        &self.0
    }

    /// Puts it among the headers of a request that belongs to no other.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        // It speaks of a trace that nobody can find.
        headers.remove(TRACESTATE);
        let text = Bytes::copy_from_slice(&self.0);
        headers.insert(TRACEPARENT, value(text.clone()));
        headers.entry(X_REQUEST_ID).or_insert_with(|| value(text.slice(TRACE_ID)));
    }

    /// Writes the lines that tell of it.
    pub(crate) fn write(&self, head: &mut Vec<u8>) {
        head.put_slice(b"traceparent: ");
        head.put_slice(&self.0);
        head.put_slice(b"\r\nx-request-id: ");
        head.put_slice(&self.0[TRACE_ID]);
        head.put_slice(b"\r\n");
    }
}

fn value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half % 16)];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte / 16), digit(*byte)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn settled(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        settle(&mut headers);
        headers
    }

    #[test]
    fn what_is_told_is_passed_on() {
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more";
        for told in [TOLD, later] {
            let headers = settled(&[("traceparent", told), ("tracestate", "a=b")]);
            assert_eq!(headers["traceparent"], told);
            assert_eq!(headers["tracestate"], "a=b");
            assert_eq!(headers["x-request-id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        }
        let headers = settled(&[("traceparent", TOLD), ("x-request-id", "mine")]);
        assert_eq!(headers["x-request-id"], "mine");
        let headers = settled(&[("x-request-id", "mine")]);
        assert_eq!(headers["x-request-id"], "mine");
        assert!(is_valid(headers["traceparent"].as_bytes()));
    }

    #[test]
    fn what_is_no_trace_is_replaced() {
        for wrong in [
            "",
            "nonsense",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let headers = settled(&[("traceparent", wrong), ("tracestate", "a=b")]);
            assert_ne!(headers["traceparent"], wrong);
            assert!(!headers.contains_key("tracestate"), "{wrong}");
        }
        let twice = settled(&[("traceparent", TOLD), ("traceparent", TOLD)]);
        assert_eq!(twice.get_all("traceparent").iter().count(), 1);
        assert_ne!(twice["traceparent"], TOLD);
    }

    #[test]
    fn each_new_trace_is_another() {
        let ids: std::collections::HashSet<HeaderValue> = (0..1000)
            .map(|_| {
                let headers = settled(&[]);
                let value = headers["traceparent"].as_bytes();
                assert!(is_valid(value) && value.starts_with(b"00-") && value.ends_with(b"-01"));
                assert_eq!(headers["x-request-id"].as_bytes(), &value[TRACE_ID]);
                headers["x-request-id"].clone()
            })
            .collect();
        assert_eq!(ids.len(), 1000);
    }
}
