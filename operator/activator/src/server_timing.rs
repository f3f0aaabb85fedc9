//! What the wait of a request was made of, told in the header `Server-Timing` of its answer. Pure.

use std::fmt::Write as _;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::pod::Start;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The moments of a request that waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    /// It came.
    pub arrived: Instant,
    /// It had a slot.
    pub granted: Instant,
    /// It was given to a connection of the pod.
    pub sent: Instant,
    /// The head of the answer was there.
    pub answered: Instant,
}

/// Adds to `headers` what the wait was made of: each phase with the milliseconds since the request
/// came. A phase of the pod's start that was over by then is left out.
pub(crate) fn append(headers: &mut HeaderMap, moments: &Moments, start: &Start) {
    let phases = [
        ("rouse-wait", Some(moments.granted)),
        ("rouse-scale", start.scaled),
        ("rouse-created", start.created),
        ("rouse-scheduled", start.scheduled),
        ("rouse-address", start.addressed),
        ("rouse-listen", start.listening),
        ("rouse-send", Some(moments.sent)),
        ("rouse-first-byte", Some(moments.answered)),
    ];
    let mut text = String::with_capacity(192);
    for (name, at) in phases {
        if let Some(since) = at.and_then(|at| at.checked_duration_since(moments.arrived)) {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string can't fail.
            let _ = write!(text, "{comma}{name};dur={:.1}", since.as_secs_f64() * 1000.0);
        }
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(SERVER_TIMING, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn phases_are_told_from_the_arrival_on_and_earlier_ones_left_out() {
        let arrived = Instant::now() + Duration::from_secs(10);
        let at = |millis| arrived + Duration::from_millis(millis);
        let start = Start {
            scaled: Some(arrived - Duration::from_millis(1)),
            created: Some(at(20)),
            scheduled: Some(at(25)),
            addressed: None,
            listening: Some(at(400)),
        };
        let sent = arrived + Duration::from_micros(401_250);
        let moments = Moments { arrived, granted: at(401), sent, answered: at(409) };
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_TIMING, HeaderValue::from_static("db;dur=3"));
        append(&mut headers, &moments, &start);
        let values: Vec<_> = headers.get_all(SERVER_TIMING).into_iter().collect();
        assert_eq!(values[0], "db;dur=3");
        assert_eq!(
            values[1],
            "rouse-wait;dur=401.0, rouse-created;dur=20.0, rouse-scheduled;dur=25.0, \
             rouse-listen;dur=400.0, rouse-send;dur=401.2, rouse-first-byte;dur=409.0"
        );
    }
}
