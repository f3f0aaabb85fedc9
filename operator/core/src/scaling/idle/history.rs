//! The idle times of one Function: the last 128, as 16 bits each. What an activator keeps of a
//! Function across restarts and hand-overs.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use super::LINGER;

/// Idle times that are kept.
pub const MOST: usize = 128;
/// Form of the bytes.
const VERSION: u8 = 1;
/// Parts of a doubling that an idle time is rounded to: a thousandth.
const PARTS: f64 = 1024.0;
/// Doublings of [`LINGER`] that are told apart: up to 36 hours.
pub(super) const OCTAVES: f64 = 16.0;
const KNOWN: u16 = 1 << 15;
const LENGTH: u16 = (1 << 14) - 1;
/// Bytes before the idle times: the version, and how many were ever noted.
const HEAD: usize = 5;

/// How an idle time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By a request.
    Called,
    /// By a request that was known beforehand: others might have come later.
    Known,
}

/// An idle time, rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTime(u16);

impl IdleTime {
    /// The idle time.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits before"
    )]
    pub fn new(idle: Duration, ended: Ended) -> Self {
        let doublings = (idle.as_secs_f64() / LINGER.as_secs_f64()).max(1.0).log2();
        let length = (doublings * PARTS).round().clamp(0.0, f64::from(LENGTH)) as u16;
        Self(length | if ended == Ended::Known { KNOWN } else { 0 })
    }

    /// How it ended.
    pub const fn ended(self) -> Ended {
        if self.0 & KNOWN == 0 { Ended::Called } else { Ended::Known }
    }

    /// How long it was, in seconds.
    pub(super) fn seconds(self) -> f64 {
        LINGER.as_secs_f64() * self.doublings().exp2()
    }

    /// How often [`LINGER`] must be doubled to reach it.
    pub(super) fn doublings(self) -> f64 {
        f64::from(self.0 & LENGTH) / PARTS
    }
}

/// The idle times of a Function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    times: VecDeque<IdleTime>,
    noted: u32,
}

/// Why bytes are no history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHistory {
    /// Another version of Rouse wrote them.
    #[error("reading idle times: version {0} is not known here")]
    Version(u8),
    /// They are no base64.
    #[error("reading idle times: this is not base64")]
    Text,
    /// They are broken off.
    #[error("reading idle times: {0} bytes are not a whole history")]
    Length(usize),
}

impl History {
    /// Adds the newest; the oldest goes.
    pub fn push(&mut self, time: IdleTime) {
        if self.times.len() == MOST {
            self.times.pop_front();
        }
        self.times.push_back(time);
        self.noted = self.noted.saturating_add(1);
    }

    /// Idle times that are kept.
    pub fn len(&self) -> u32 {
        u32::try_from(self.times.len()).unwrap_or(u32::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Idle times that ever were.
    pub const fn noted(&self) -> u32 {
        self.noted
    }

    pub(super) fn times(&self) -> impl Iterator<Item = IdleTime> {
        self.times.iter().copied()
    }

    /// The history as bytes: 5, and 2 for each idle time.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + 2 * self.times.len());
        bytes.push(VERSION);
        bytes.extend(self.noted.to_le_bytes());
        bytes.extend(self.times.iter().flat_map(|time| time.0.to_le_bytes()));
        bytes
    }

    /// The history as text, of 348 characters at most.
    pub fn to_text(&self) -> String {
        STANDARD_NO_PAD.encode(self.to_bytes())
    }

    /// The history that was written as `text`.
    pub fn from_text(text: &str) -> Result<Self, NoHistory> {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| NoHistory::Text)?;
        Self::from_bytes(&bytes)
    }

    /// The history that `bytes` hold.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoHistory> {
        let whole = NoHistory::Length(bytes.len());
        let (&version, rest) = bytes.split_first().ok_or(whole)?;
        if version != VERSION {
            return Err(NoHistory::Version(version));
        }
        let (noted, times) = rest.split_first_chunk::<4>().ok_or(whole)?;
        let (times, []) = times.as_chunks::<2>() else { return Err(whole) };
        if times.len() > MOST {
            return Err(whole);
        }
        let times = times.iter().map(|time| IdleTime(u16::from_le_bytes(*time) & (KNOWN | LENGTH)));
        Ok(Self { times: times.collect(), noted: u32::from_le_bytes(*noted) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn called(seconds: f64) -> IdleTime {
        IdleTime::new(Duration::from_secs_f64(seconds), Ended::Called)
    }

    #[test]
    fn an_idle_time_is_kept_to_a_thousandth() {
        for seconds in [2.0, 5.0, 59.9, 300.0, 3600.0, 86_400.0] {
            let kept = called(seconds).seconds();
            assert!((kept / seconds - 1.0).abs() < 0.001, "{seconds}: {kept}");
        }
        assert_eq!(called(0.1), called(2.0));
        assert_eq!(called(1e9), called(1e8));
        assert_eq!(IdleTime::new(Duration::from_secs(9), Ended::Known).ended(), Ended::Known);
    }

    #[test]
    fn what_is_kept_is_small() {
        let mut history = History::default();
        (0..1000).for_each(|i| history.push(called(f64::from(i))));
        assert_eq!((history.len(), history.noted()), (128, 1000));
        assert_eq!(history.to_bytes().len(), 261);
        assert_eq!(history.to_text().len(), 348);
    }

    #[test]
    fn bytes_of_others_are_refused() {
        assert_eq!(History::from_bytes(&[]), Err(NoHistory::Length(0)));
        assert_eq!(History::from_bytes(&[9, 0, 0, 0, 0]), Err(NoHistory::Version(9)));
        assert_eq!(History::from_bytes(&[1, 0, 0, 0]), Err(NoHistory::Length(4)));
        assert_eq!(History::from_bytes(&[1, 0, 0, 0, 0, 7]), Err(NoHistory::Length(6)));
        assert_eq!(History::from_bytes(&[1; 263]), Err(NoHistory::Length(263)));
        assert_eq!(History::from_text("not base64!"), Err(NoHistory::Text));
        assert_eq!(History::from_text(""), Err(NoHistory::Length(0)));
    }

    proptest! {
        #[test]
        fn bytes_give_the_history_back(times in prop::collection::vec((0.0..1e6, any::<bool>()), 0..200)) {
            let mut history = History::default();
            for (seconds, known) in times {
                let ended = if known { Ended::Known } else { Ended::Called };
                history.push(IdleTime::new(Duration::from_secs_f64(seconds), ended));
            }
            prop_assert_eq!(History::from_bytes(&history.to_bytes()), Ok(history.clone()));
            prop_assert_eq!(History::from_text(&history.to_text()), Ok(history));
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,400}") {
            drop(History::from_text(&text));
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(history) = History::from_bytes(&bytes) {
                prop_assert!(history.times().all(|time| time.doublings() <= OCTAVES));
            }
        }
    }
}
