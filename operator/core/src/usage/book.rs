//! Sums up what activators counted, into the status of a Function. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rouse_crds::v1alpha1::{DayUsage, RevisionUsage, Usage, UsageMark, UsageSums};

use super::{Count, Process};

/// Most revisions, days and marks of a status, as its schema has it.
const MOST_REVISIONS: usize = 10;
const MOST_DAYS: usize = 32;
const MOST_MARKS: usize = 1024;

/// What is known of a process that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may still count.
    Alive,
    /// It has ended, and told all before.
    Ended,
    /// It has ended without a last word.
    Broken,
}

/// What one process said last of a Function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The process.
    pub process: &'a Process,
    /// What it counted.
    pub counts: &'a [Count],
}

/// The usage of a Function after `words`, from what its status says. `standing` tells of any process.
/// None while there is nothing to tell.
pub fn settle(
    before: Option<&Usage>,
    words: &[Word<'_>],
    standing: impl Fn(&str) -> Standing,
    now: Timestamp,
) -> Option<Usage> {
    let mut usage = match before {
        Some(before) => before.clone(),
        None if words.iter().any(|word| !word.counts.is_empty()) => begin(now),
        None => return None,
    };
    for word in words {
        add_word(&mut usage, word, now);
    }
    let heard: BTreeMap<&str, &Word<'_>> =
        words.iter().map(|word| (word.process.as_str(), word)).collect();
    let mut broken: Vec<String> = Vec::new();
    usage.marks.retain(|mark| {
        let said = heard.get(mark.process.as_str());
        let over = said.is_some_and(|word| !word.counts.iter().any(|c| c.number == mark.count));
        match standing(&mark.process) {
            Standing::Alive => !over,
            // The mark outlives the word: who can't tell whether a write went through settles again.
            _ if said.is_some() => true,
            Standing::Ended => false,
            Standing::Broken => {
                if mark.active && !broken.contains(&mark.process) {
                    broken.push(mark.process.clone());
                }
                false
            }
        }
    });
    usage.gaps = usage.gaps.saturating_add(u32::try_from(broken.len()).unwrap_or(u32::MAX));
    if before.is_none_or(|before| *before != usage) {
        usage.updated_at = Time(now);
    }
    Some(usage)
}

fn begin(now: Timestamp) -> Usage {
    Usage {
        since: Time(now),
        updated_at: Time(now),
        total: UsageSums::default(),
        revisions: Vec::new(),
        days: Vec::new(),
        gaps: 0,
        marks: Vec::new(),
    }
}

fn add_word(usage: &mut Usage, word: &Word<'_>, now: Timestamp) {
    for count in word.counts {
        let mark = usage
            .marks
            .iter()
            .position(|mark| mark.count == count.number && mark.process == word.process.as_str());
        let more = match mark {
            Some(index) => {
                let mark = &mut usage.marks[index];
                let more = less(&count.sums, &mark.sums);
                mark.sums = plus(&mark.sums, &more);
                mark.active = count.active;
                more
            }
            // It comes in when there is room: without a mark it would be counted again and again.
            None if usage.marks.len() >= MOST_MARKS => continue,
            None => {
                usage.marks.push(UsageMark {
                    process: word.process.as_str().to_owned(),
                    count: count.number,
                    active: count.active,
                    sums: count.sums,
                });
                count.sums
            }
        };
        if more != UsageSums::default() {
            add(usage, &count.revision, &more, now);
        }
    }
}

fn add(usage: &mut Usage, revision: &str, more: &UsageSums, now: Timestamp) {
    usage.total = plus(&usage.total, more);
    let known = usage.revisions.iter().position(|of| of.revision == revision);
    let mut of = match known {
        Some(index) => usage.revisions.remove(index),
        None => RevisionUsage { revision: revision.to_owned(), sums: UsageSums::default() },
    };
    of.sums = plus(&of.sums, more);
    usage.revisions.insert(0, of);
    usage.revisions.truncate(MOST_REVISIONS);
    let today = day_of(now);
    match usage.days.first_mut().filter(|latest| latest.day >= today) {
        Some(latest) => latest.sums = plus(&latest.sums, more),
        None => usage.days.insert(0, DayUsage { day: today, sums: *more }),
    }
    usage.days.truncate(MOST_DAYS);
}

/// The day of UTC that a moment is on.
pub fn day_of(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::UTC).date().to_string()
}

/// The sums of the days since `day`, and whether the books go back that far.
pub fn since(usage: &Usage, day: &str) -> (UsageSums, bool) {
    let days = usage.days.iter().filter(|of| *of.day >= *day);
    let sums = days.fold(UsageSums::default(), |sums, of| plus(&sums, &of.sums));
    let kept_all = usage.days.len() < MOST_DAYS;
    let reaches = usage.days.last().is_some_and(|oldest| *oldest.day <= *day);
    (sums, kept_all || reaches)
}

/// The sum of both.
pub fn plus(one: &UsageSums, other: &UsageSums) -> UsageSums {
    combine(one, other, u64::saturating_add)
}

fn less(one: &UsageSums, other: &UsageSums) -> UsageSums {
    combine(one, other, u64::saturating_sub)
}

fn combine(one: &UsageSums, other: &UsageSums, with: fn(u64, u64) -> u64) -> UsageSums {
    let UsageSums { requests, billed_millis, billed_mib_millis, pod_millis, pod_mib_millis } = *one;
    UsageSums {
        requests: with(requests, other.requests),
        billed_millis: with(billed_millis, other.billed_millis),
        billed_mib_millis: with(billed_mib_millis, other.billed_mib_millis),
        pod_millis: with(pod_millis, other.pod_millis),
        pod_mib_millis: with(pod_mib_millis, other.pod_mib_millis),
    }
}

#[cfg(test)]
mod tests;
