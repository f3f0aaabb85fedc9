use super::*;
use crate::simulation::chance::Chance;
use crate::simulation::trace::Trace;

const DAY: f64 = 86_400.0;
const FIXED: Named = Named::Fixed("fixed-10m", Duration::from_mins(10));
const OURS: Named = Named::Learned(Economy::Balanced);

/// Calls of one class for some weeks, from a seed.
type Calls = fn(&mut Chance, &mut f64) -> f64;

fn times(seed: u64, days: f64, pause: Calls) -> Vec<f64> {
    let mut chance = Chance::new(seed, 0);
    let mut state = 0.0;
    let mut times = vec![chance.share() * 600.0];
    while let Some(last) = times.last().filter(|last| **last < days * DAY) {
        let next = last + pause(&mut chance, &mut state);
        times.push(next);
    }
    times
}

fn outcome(times: &[f64], named: Named, days: f64) -> Outcome {
    let scheduled = matches!(named, Named::Scheduled(_));
    let ends = Duration::from_secs_f64(days * DAY);
    replay_alone(times.iter().copied(), scheduled, named, ends)
}

/// A cold start in memory, by what the default holds it worth.
fn cost(outcome: &Outcome) -> f64 {
    let price = 1.0 / Economy::Balanced.chance_per_second();
    f64::from(u32::try_from(outcome.cold).unwrap()) * price + outcome.waste
}

const CLASSES: [(&str, f64, Calls); 10] = [
    ("rare", 60.0, |chance, _| 3600.0 + chance.share() * 18_000.0),
    ("rare, without pattern", 60.0, |chance, _| chance.pause(7200.0)),
    ("every 5 minutes", 7.0, |_, _| 300.0),
    ("every half hour, not to the second", 30.0, |chance, _| 1790.0 + chance.share() * 20.0),
    ("every hour", 30.0, |_, _| 3600.0),
    ("every quarter of an hour, by the minute", 20.0, |chance, _| 840.0 + chance.share() * 120.0),
    ("bursts", 30.0, |chance, left| {
        if *left < 1.0 {
            *left = 5.0 + chance.share() * 25.0;
            return chance.pause(2400.0);
        }
        *left -= 1.0;
        chance.pause(8.0)
    }),
    ("bursts in working hours", 30.0, |chance, left| {
        *left += 1.0;
        if *left > 200.0 {
            *left = 0.0;
            return 50_000.0 + chance.pause(7200.0);
        }
        chance.pause(150.0)
    }),
    ("steady", 3.0, |chance, _| chance.pause(20.0)),
    ("steady, slower", 5.0, |chance, _| chance.pause(60.0)),
];

#[test]
fn no_class_of_functions_fares_worse_than_with_a_fixed_time() {
    for (class, days, pause) in CLASSES {
        for seed in 1..=5 {
            let times = times(seed, days, pause);
            let (ours, fixed) = (outcome(&times, OURS, days), outcome(&times, FIXED, days));
            let told = format!("{class}, seed {seed}: {ours:?} instead of {fixed:?}");
            assert_eq!(ours.calls, fixed.calls);
            assert!(cost(&ours) <= cost(&fixed) * 1.01, "{told}");
            assert!(ours.cold <= fixed.cold || ours.waste <= fixed.waste, "{told}");
        }
    }
}

#[test]
fn a_period_is_learned_and_its_memory_saved() {
    for (period, days) in [(300.0, 2.0), (1200.0, 4.0), (3600.0, 10.0)] {
        let times: Vec<f64> = (0..).map(|tick| 7.0 + f64::from(tick) * period).take(200).collect();
        let (ours, fixed) = (outcome(&times, OURS, days), outcome(&times, FIXED, days));
        assert!(ours.cold <= 8, "{period}: {ours:?}");
        assert!(ours.waste < 0.4 * fixed.waste, "{period}: {ours:?} {fixed:?}");
    }
}

#[test]
fn a_schedule_needs_no_learning() {
    for period in [45.0, 300.0, 3600.0] {
        let times: Vec<f64> = (0..).map(|tick| 7.0 + f64::from(tick) * period).take(200).collect();
        let known = outcome(&times, Named::Scheduled(Economy::Balanced), 1.0);
        assert_eq!(known.cold, 1, "{period}: {known:?}");
        let ticks = f64::from(u32::try_from(known.calls).unwrap());
        let least = ticks * LEAD.as_secs_f64().min(period);
        assert!(known.waste < least + 0.02 * DAY, "{period}: {known:?}");
    }
}

#[test]
fn a_replay_follows_from_its_seed() {
    let trace = Trace {
        minutes: 300,
        functions: (0..20_u32)
            .map(|index| TracedFunction {
                name: format!("f{index}"),
                timer: index % 3 == 0,
                memory: 64.0 + f64::from(index),
                calls: (0..300)
                    .filter(|minute| minute % (3 + index) == 0)
                    .map(|minute| (minute, 1))
                    .collect(),
            })
            .collect(),
    };
    for named in Named::all(Economy::Balanced) {
        let outcomes = replay(&trace, named, 5);
        assert_eq!(outcomes, replay(&trace, named, 5), "{named:?}");
        assert_eq!(outcomes.len(), 20);
        for (outcome, function) in outcomes.iter().zip(&trace.functions) {
            assert_eq!(outcome.calls, function.calls.len() as u64, "{named:?}");
            assert!(outcome.cold >= 1 && outcome.cold <= outcome.calls, "{named:?}");
            let most = 300.0 * 60.0 * function.memory / MB_A_GB;
            assert!((0.0..=most).contains(&outcome.waste), "{named:?} {outcome:?}");
        }
    }
    assert_ne!(replay(&trace, OURS, 5), replay(&trace, OURS, 6));
}

#[test]
fn a_fixed_time_is_counted_to_the_second() {
    let times = [0.0, 100.0, 701.0, 1300.5];
    let outcome = outcome(&times, FIXED, 1.0);
    assert_eq!((outcome.calls, outcome.cold), (4, 2));
    assert!((outcome.waste - (100.0 + 600.0 + 599.5 + 600.0)).abs() < 1e-6, "{outcome:?}");
}
