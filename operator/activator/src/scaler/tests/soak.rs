//! Everything at once, by seeds: load that comes and goes, changes of the Function, failing writes;
//! in half of the runs also pods that die and people who scale by hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::plant::{Behaviour, World, settings};
use super::unavailable;
use crate::admission::Refusal;

/// A small generator of numbers (xorshift; Marsaglia, "Xorshift RNGs", 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What a run has asked of the cluster.
struct Run {
    world: World,
    chance: Chance,
    wild: bool,
    revisions: u64,
    /// Whether a revision was made that can't start.
    broken: bool,
    calls: JoinSet<Result<(Arc<str>, Duration), Refusal>>,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let [limit, min, max] = [chance.below(4), chance.below(4) / 3, 1 + chance.below(6)];
        let number = |n: u64| u32::try_from(n).unwrap();
        let world = World::new(settings(number(limit), number(min), number(max))).await;
        let wild = seed % 2 == 1;
        Self { world, chance, wild, revisions: 1, broken: false, calls: JoinSet::new() }
    }

    fn step(&mut self) {
        match self.chance.below(if self.wild { 13 } else { 10 }) {
            0..5 => {
                while let Some(call) = self.calls.try_join_next() {
                    call.unwrap().expect("a request fails");
                }
                // No more than what a single slot serves before a request's time is up.
                let room = 20_u64.saturating_sub(self.calls.len() as u64);
                for _ in 0..self.chance.below(8).min(room) {
                    let service = Duration::from_millis(1 + self.chance.below(2000));
                    let (gate, plant) = (Arc::clone(&self.world.gate), self.world.plant.clone());
                    self.calls.spawn(super::plant::call(gate, plant, service));
                }
            }
            5 => self.change(Behaviour::Starts),
            6 if !self.broken => {
                self.broken = true;
                self.change(Behaviour::Crashes);
                self.change(Behaviour::Starts);
            }
            7 => self.world.plant.fail_scales([unavailable()]),
            10 => self.world.plant.kill_one(),
            11 => {
                let revision = format!("r{}", 1 + self.chance.below(self.revisions));
                let replicas = u32::try_from(self.chance.below(5)).unwrap();
                self.world.plant.scale_by_hand(&revision, replicas);
            }
            12 => self.world.plant.restart_one(),
            _ => {}
        }
    }

    fn change(&mut self, behaviour: Behaviour) {
        let served = self.world.reports.latest(super::plant::UID).and_then(|report| report.serving);
        self.revisions += 1;
        let next = format!("r{}", self.revisions);
        self.world.plant.create(&next, behaviour);
        self.world.plant.status(served.as_deref().or(Some("r1")), &next);
    }

    async fn finish(mut self, seed: u64) {
        while let Some(call) = self.calls.join_next().await {
            if let Err(refusal) = call.unwrap() {
                panic!("seed {seed}: {refusal}");
            }
        }
        let newest = format!("r{}", self.revisions);
        let call = self.world.call(Duration::from_millis(1)).await;
        assert!(call.is_ok(), "seed {seed}: {call:?}");
        let serves = |w: &World| w.report().serving.as_deref() == Some(&*newest);
        self.world.until("the newest serves", serves).await;
        let min = self.world.observed.borrow().function.settings.policy.scaling.min;
        // Corrections of what people wrote by hand take their time.
        let asleep = async {
            while self.world.plant.replicas() != min || self.world.plant.pods() != min as usize {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let slept = timeout(Duration::from_mins(20), asleep).await;
        assert!(slept.is_ok(), "seed {seed}: {:?}", self.world.report());
        let load = self.world.gate.take_load();
        assert_eq!((load.in_flight, load.waiting), (0, 0), "seed {seed}");
        if !self.wild {
            assert_eq!(self.world.plant.cut(), (0, 0), "seed {seed}: requests cut off or astray");
        }
        self.world.running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_every_request_is_served_and_the_function_sleeps_in_the_end() {
    let seeds = std::env::var("ROUSE_SOAK_SEEDS").map_or(20, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let mut run = Run::new(seed).await;
        let end = Instant::now() + Duration::from_mins(2);
        while Instant::now() < end {
            run.step();
            sleep(Duration::from_millis(run.chance.below(1500))).await;
        }
        run.finish(seed).await;
    }
}
