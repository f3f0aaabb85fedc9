use super::*;
use crate::simulation::cases::{Case, Figures, Whose, burst, fewest_pods, load_step, median};

const BURST: Case = Case {
    start: Duration::from_millis(400),
    service: Duration::from_millis(100),
    limit: 10,
    bounds: (0, 40),
};

struct Fixed(u32);

impl Scaler for Fixed {
    fn decide(&mut self, _: &View, _: Moment) -> (u32, Option<Moment>) {
        (self.0, None)
    }

    fn alarm(&self) -> u32 {
        u32::MAX
    }
}

#[test]
fn requests_wait_for_a_slot_and_pods_for_their_start() {
    let plant = Plant {
        start: Duration::from_secs(1),
        service: Duration::from_secs(2),
        slots: 1,
        pods: 1,
        ends: Duration::from_secs(20),
    };
    let arrivals = [Duration::ZERO; 3];
    let run = run(plant, &arrivals, &mut Fixed(2), 1);
    let took: Vec<u64> = run.requests.iter().map(|(_, took)| took.as_secs()).collect();
    assert_eq!((took[0], took[2]), (2, 4));
    assert!((2..=3).contains(&took[1]) && run.started == 1 && run.last == 2);
}

#[test]
fn a_burst_of_short_requests_starts_few_pods_whether_it_was_seen_before_or_not() {
    let floor = BURST.start + BURST.service;
    let time = floor + Duration::from_millis(1500);
    let fewest = fewest_pods(&BURST, 200, time, 1).unwrap();
    assert_eq!(fewest, 2);
    for (seed, knows) in [(1, true), (2, false), (3, true), (4, false)] {
        let Figures { started, p99_millis, .. } = burst(&BURST, 200, knows, seed);
        assert!(2 * started <= 3 * fewest, "{started} pods with seed {seed}");
        assert!(p99_millis <= time.as_secs_f64() * 1000.0, "{p99_millis} ms with seed {seed}");
    }
}

#[test]
fn a_burst_of_long_requests_gets_a_slot_for_each() {
    let long = Case { service: Duration::from_secs(20), ..BURST };
    for (knows, within) in [(true, 20.5), (false, 21.5)] {
        let run = burst(&long, 200, knows, 1);
        assert!((20..=24).contains(&run.started), "{run:?}");
        assert!(run.p99_millis <= within * 1000.0, "{run:?}");
    }
}

#[test]
fn a_step_of_the_load_is_met_three_times_sooner_than_on_a_tick() {
    for (limit, max) in [(1, 100), (5, 100), (10, 100)] {
        let case = Case {
            start: Duration::from_millis(300),
            service: Duration::from_millis(20),
            limit,
            bounds: (1, max),
        };
        let [ours, tick, panic] = Whose::ALL.map(|whose| {
            let runs: Vec<Figures> =
                (1..=9).map(|seed| load_step(&case, 500.0, whose, seed)).collect();
            median(&runs)
        });
        println!("limit {limit}\n  {ours:?}\n  {tick:?}\n  {panic:?}");
        assert!(3.0 * ours.recovered <= tick.recovered, "{ours:?} {tick:?}");
        assert!(3.0 * ours.recovered <= panic.recovered, "{ours:?} {panic:?}");
        assert!(ours.turns <= 4, "{ours:?}");
    }
}
