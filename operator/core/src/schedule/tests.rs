//! Ticks beside an oracle that looks at each minute, and timetables through changes of leader,
//! clocks that step, and days that are too long or too short.

mod world;

use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use proptest::prelude::*;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::parse(text, zone, time("2026-01-01T00:00:00Z")).unwrap()
}

/// The ticks after `from` up to `to`.
fn ticks(schedule: &Schedule, from: &str, to: &str) -> Vec<Timestamp> {
    let next = |tick: &Timestamp| schedule.next(*tick);
    std::iter::successors(schedule.next(time(from)), next)
        .take_while(|tick| *tick <= time(to))
        .collect()
}

fn texts(ticks: &[Timestamp]) -> Vec<String> {
    ticks.iter().map(ToString::to_string).collect()
}

#[test]
fn a_time_that_the_clock_skips_comes_when_the_gap_is_over() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    // On 2026-03-29 the clock goes from 02:00 to 03:00, which is 01:00 UTC.
    assert_eq!(
        texts(&ticks(&daily, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z")),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
}

#[test]
fn a_time_that_comes_twice_counts_once() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    // On 2026-10-25 the clock goes back from 03:00 to 02:00, which is 01:00 UTC.
    assert_eq!(
        texts(&ticks(&daily, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z")),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
}

#[test]
fn what_comes_all_the_time_follows_real_time() {
    let half_hours = schedule("*/30 * * * *", "Europe/Berlin");
    for day in ["2026-03-29", "2026-10-25"] {
        let ticks = ticks(&half_hours, &format!("{day}T00:00:00Z"), &format!("{day}T04:00:00Z"));
        let gaps = ticks.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_mins());
        assert_eq!((ticks.len(), gaps.collect::<Vec<_>>()), (8, vec![30; 7]), "{day}");
    }
}

#[test]
fn periods_are_counted_from_when_the_trigger_was_made() {
    let schedule = Schedule::parse("@every 90s", "UTC", time("2026-01-01T00:00:07Z")).unwrap();
    assert_eq!(schedule.next(time("2025-01-01T00:00:00Z")), Some(time("2026-01-01T00:01:37Z")));
    assert_eq!(schedule.next(time("2026-01-01T00:01:36Z")), Some(time("2026-01-01T00:01:37Z")));
    assert_eq!(schedule.next(time("2026-01-01T00:01:37Z")), Some(time("2026-01-01T00:03:07Z")));
}

#[test]
fn seconds_names_and_nicknames_are_known() {
    let first = |text: &str| {
        schedule(text, "Asia/Kolkata").next(time("2026-01-01T00:00:00Z")).unwrap().to_string()
    };
    assert_eq!(first("*/15 * * * * *"), "2026-01-01T00:00:15Z");
    assert_eq!(first("@daily"), "2026-01-01T18:30:00Z");
    assert_eq!(first("0 9 * jan mon-fri"), "2026-01-01T03:30:00Z");
    assert_eq!(first("0 12 L * *"), "2026-01-31T06:30:00Z");
}

#[test]
fn mistakes_are_told() {
    let parse = |text: &str, zone: &str| {
        Schedule::parse(text, zone, time("2026-01-01T00:00:00Z")).unwrap_err().to_string()
    };
    assert!(parse("* * *", "UTC").contains("is not a pattern of cron"));
    assert!(parse("61 * * * *", "UTC").contains("is not a pattern of cron"));
    assert!(parse("* * * * * * 2027", "UTC").contains("is not a pattern of cron"));
    assert!(parse("@every 0s", "UTC").contains("between 1s and 8784h"));
    assert!(parse("@every soon", "UTC").contains("between 1s and 8784h"));
    assert!(parse("* * * * *", "Mars/Phobos").contains("no time zone \"Mars/Phobos\""));
    assert!(parse("0 0 30 2 *", "UTC").contains("never comes"));
}

#[test]
fn ids_follow_from_the_trigger_and_the_time_alone() {
    let at = time("2026-01-01T00:00:00Z");
    assert_eq!(tick_id("a-uid", at), "42ae550de1f8419eebda896001855164");
    assert_eq!(tick_id("a-uid", at), tick_id("a-uid", time("2026-01-01T01:00:00+01:00")));
    assert_ne!(tick_id("a-uid", at), tick_id("b-uid", at));
    assert_ne!(tick_id("a-uid", at), tick_id("a-uid", time("2026-01-01T00:00:01Z")));
}

/// The ticks of a daily time, found by looking for it on each day.
fn daily(
    zone: &TimeZone,
    (hour, minute): (i8, i8),
    from: Timestamp,
    to: Timestamp,
) -> Vec<Timestamp> {
    let mut day = from.to_zoned(zone.clone()).date();
    let last = to.to_zoned(zone.clone()).date();
    let mut ticks = Vec::new();
    while day <= last {
        let mut at: DateTime = day.at(hour, minute, 0, 0);
        // The first moment after a gap.
        while matches!(zone.to_ambiguous_zoned(at).offset(), AmbiguousOffset::Gap { .. }) {
            at = at.checked_add(SignedDuration::from_mins(1)).unwrap();
        }
        ticks.push(zone.to_ambiguous_zoned(at).earlier().unwrap().timestamp());
        day = day.tomorrow().unwrap();
    }
    ticks.retain(|tick| *tick > from && *tick <= to);
    ticks
}

/// The ticks of minutes that `matches`, found by looking at each.
fn minutes(
    zone: &TimeZone,
    matches: impl Fn(DateTime) -> bool,
    from: Timestamp,
    to: Timestamp,
) -> Vec<Timestamp> {
    let next = |at: &Timestamp| at.checked_add(SignedDuration::from_mins(1)).ok();
    std::iter::successors(Some(from), next)
        .skip(1)
        .take_while(|at| *at <= to)
        .filter(|at| matches(at.to_zoned(zone.clone()).datetime()))
        .collect()
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    // Its clock goes by half an hour.
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Santiago",
];

/// Spans in which the clocks of these zones change.
const CHANGES: [(&str, &str); 4] = [
    ("2026-03-06T00:00:00Z", "2026-03-10T00:00:00Z"),
    ("2026-03-27T00:00:00Z", "2026-04-06T00:00:00Z"),
    ("2026-09-04T00:00:00Z", "2026-09-08T00:00:00Z"),
    ("2026-10-02T00:00:00Z", "2026-11-03T00:00:00Z"),
];

#[test]
fn ticks_are_those_that_the_clocks_on_the_wall_show() {
    let (from, to) = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    for name in ZONES {
        let zone = find_zone(name).unwrap();
        for (hour, minute) in [(0, 0), (1, 45), (2, 0), (2, 30), (23, 59)] {
            let pattern = schedule(&format!("{minute} {hour} * * *"), name);
            let oracle = daily(&zone, (hour, minute), time(from), time(to));
            assert_eq!(texts(&ticks(&pattern, from, to)), texts(&oracle), "{name} {hour}:{minute}");
        }
        for (from, to) in CHANGES {
            let quarters = minutes(&zone, |at| at.minute() % 15 == 0, time(from), time(to));
            assert_eq!(ticks(&schedule("*/15 * * * *", name), from, to), quarters, "{name}");
            let nights = |at: DateTime| (1..=3).contains(&at.hour()) && at.minute() % 10 == 5;
            let nights = minutes(&zone, nights, time(from), time(to));
            assert_eq!(ticks(&schedule("5-59/10 1-3 * * *", name), from, to), nights, "{name}");
        }
    }
}

proptest! {
    /// Patterns are written by strangers.
    #[test]
    fn no_pattern_breaks_it(text in "[-0-9*/,?LW#+@a-zA-Z ]{0,40}", at in 0..4_000_000_000_i64) {
        if let Ok(schedule) = Schedule::parse(&text, "Europe/Berlin", Timestamp::UNIX_EPOCH) {
            let at = Timestamp::from_second(at).unwrap();
            prop_assert!(schedule.next(at).is_none_or(|next| next > at));
        }
    }

    /// So are fields that look right.
    #[test]
    fn ticks_only_go_forward(
        fields in proptest::collection::vec("(\\*|[0-9]{1,2}(-[0-9]{1,2})?)(/[1-9][0-9]?)?", 5..=6),
        at in 1_700_000_000..1_900_000_000_i64,
    ) {
        let text = fields.join(" ");
        if let Ok(schedule) = Schedule::parse(&text, "America/New_York", Timestamp::UNIX_EPOCH) {
            let mut at = Timestamp::from_second(at).unwrap();
            for _ in 0..20 {
                let Some(next) = schedule.next(at) else { break };
                prop_assert!(next > at, "{text}: {next} after {at}");
                at = next;
            }
        }
    }
}

fn timetable(rules: Rules) -> Timetable {
    let schedule = schedule("@every 10s", "UTC");
    Timetable::new(schedule, rules, time("2026-01-01T00:00:00Z"))
}

const PLAIN: Rules = Rules { overlap: Overlap::Allow, deadline: None, latest_only: false };

fn seconds(ticks: &[Timestamp]) -> Vec<i64> {
    let from = time("2026-01-01T00:00:00Z");
    ticks.iter().map(|tick| tick.duration_since(from).as_secs()).collect()
}

fn at(secs: u64) -> Timestamp {
    time("2026-01-01T00:00:00Z") + Duration::from_secs(secs)
}

#[test]
fn missed_ticks_are_caught_up_and_progress_stops_at_the_first_that_is_not_done() {
    let mut timetable = timetable(PLAIN);
    assert_eq!(seconds(&timetable.take_due(at(35)).start), [10, 20, 30]);
    assert_eq!(timetable.take_due(at(35)), Due::default());
    timetable.settle(at(10));
    timetable.settle(at(30));
    assert!(timetable.settled() >= at(10) && timetable.settled() < at(20));
    timetable.settle(at(20));
    assert_eq!((timetable.settled(), timetable.next_at()), (at(30), Some(at(40))));
    assert_eq!(timetable.take_due(at(15)), Due::default(), "the clock went back");
}

#[test]
fn only_so_many_run_and_the_rest_waits() {
    let mut timetable = timetable(PLAIN);
    assert_eq!(timetable.take_due(at(100_000)).start.len(), 100);
    assert_eq!(timetable.take_due(at(100_000)), Due::default());
    timetable.settle(at(10));
    assert_eq!(seconds(&timetable.take_due(at(100_000)).start), [1010]);
}

#[test]
fn late_ticks_and_all_but_the_latest_can_be_skipped() {
    let mut late = timetable(Rules { deadline: Some(Duration::from_secs(12)), ..PLAIN });
    let due = late.take_due(at(35));
    assert_eq!((seconds(&due.start), due.skipped), (vec![30], 2));
    let mut latest = timetable(Rules { latest_only: true, ..PLAIN });
    let due = latest.take_due(at(35));
    assert_eq!((seconds(&due.start), due.skipped), (vec![30], 2));
    assert_eq!(seconds(&latest.take_due(at(40)).start), [40], "beside the other");
}

#[test]
fn a_tick_that_runs_holds_off_the_next_or_gives_way() {
    let mut forbid = timetable(Rules { overlap: Overlap::Forbid, ..PLAIN });
    assert_eq!(seconds(&forbid.take_due(at(10)).start), [10]);
    let due = forbid.take_due(at(25));
    assert_eq!((seconds(&due.start), due.skipped), (vec![], 1));
    forbid.settle(at(10));
    assert_eq!(seconds(&forbid.take_due(at(30)).start), [30]);
    let mut replace = timetable(Rules { overlap: Overlap::Replace, ..PLAIN });
    assert_eq!(seconds(&replace.take_due(at(10)).start), [10]);
    let due = replace.take_due(at(20));
    assert_eq!((seconds(&due.start), seconds(&due.replaced)), (vec![20], vec![10]));
    replace.settle(at(20));
    assert_eq!(replace.settled(), at(20));
}
