//! A model of a Function with several pods: requests that come, wait and are served, pods that take
//! time to start. Whatever scales it is given what the activator would see, so that policies can be
//! compared by what their callers and their owners feel. Events in order of time; chance comes from
//! a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::chance::Chance;
use crate::scaling::{Moment, Traffic};

/// What is modelled.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// How long a start takes; each up to a tenth more or less.
    pub start: Duration,
    /// How long a pod has a request.
    pub service: Duration,
    /// Requests that a pod serves at once.
    pub slots: u32,
    /// Pods that there are in the beginning.
    pub pods: u32,
    /// When it ends.
    pub ends: Moment,
}

/// What a policy sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Most of both since it was last asked.
    pub peak: u32,
    /// When the last request left, if there is none.
    pub idle_since: Option<Moment>,
    /// Pods that serve.
    pub ready: u32,
    /// Pods on their way.
    pub starting: u32,
    /// What went through.
    pub traffic: Traffic,
}

/// A policy.
pub trait Scaler {
    /// How many pods there shall be, and when to be asked again.
    fn decide(&mut self, view: &View, now: Moment) -> (u32, Option<Moment>);

    /// The load above which to be asked at once.
    fn alarm(&self) -> u32;

    /// Takes in that a start took so long.
    fn started(&mut self, _took: Duration) {}
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// When each request came and how long it took, waiting included; in the order of arrival.
    pub requests: Vec<(Moment, Duration)>,
    /// Pods that were started.
    pub started: u32,
    /// Most pods at once.
    pub most: u32,
    /// Pods at the end.
    pub last: u32,
    /// Time that pods were there or on their way, all together.
    pub pod_time: Duration,
    /// How often the number turned from rising to falling or back.
    pub turns: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Served { pod: usize, request: usize },
    Ready { pod: usize },
    Ask { number: u64 },
}

#[derive(Debug)]
struct Pod {
    asked_at: Moment,
    ready: bool,
    going: bool,
    gone: bool,
    in_flight: u32,
}

/// Lets `plant` live under `scaler`, with requests at `arrivals`.
pub fn run(plant: Plant, arrivals: &[Moment], scaler: &mut dyn Scaler, seed: u64) -> Run {
    let mut world = World::new(plant, arrivals, seed);
    for (number, at) in arrivals.iter().enumerate() {
        world.at(*at, Event::Arrival, number);
    }
    world.begin();
    world.ask(scaler);
    while let Some(Reverse((at, _, event))) = world.events.pop() {
        if at > plant.ends {
            break;
        }
        world.pass(at);
        let asked = match event {
            Event::Arrival => {
                world.arrive();
                world.load() > scaler.alarm()
            }
            Event::Served { pod, request } => {
                world.serve(pod, request);
                false
            }
            Event::Ready { pod } => {
                let took = world.open(pod);
                took.is_some_and(|took| {
                    scaler.started(took);
                    true
                })
            }
            Event::Ask { number } => number == world.asks,
        };
        if asked {
            world.ask(scaler);
        }
    }
    world.finish()
}

struct World<'a> {
    plant: Plant,
    arrivals: &'a [Moment],
    chance: Chance,
    now: Moment,
    events: BinaryHeap<Reverse<(Moment, usize, Event)>>,
    order: usize,
    came: usize,
    waiting: VecDeque<usize>,
    pods: Vec<Pod>,
    begun: Vec<Moment>,
    run: Run,
    peak: u32,
    in_flight: u32,
    idle_since: Option<Moment>,
    traffic: Traffic,
    /// When the requests in flight began, all together.
    begun_sum: Duration,
    asks: u64,
    desired: u32,
    rising: Option<bool>,
}

impl<'a> World<'a> {
    fn new(plant: Plant, arrivals: &'a [Moment], seed: u64) -> Self {
        Self {
            plant,
            arrivals,
            chance: Chance::new(seed, 7),
            now: Moment::ZERO,
            events: BinaryHeap::new(),
            order: arrivals.len(),
            came: 0,
            waiting: VecDeque::new(),
            pods: Vec::new(),
            begun: vec![Moment::ZERO; arrivals.len()],
            run: Run { requests: Vec::with_capacity(arrivals.len()), ..Run::default() },
            peak: 0,
            in_flight: 0,
            idle_since: None,
            traffic: Traffic::default(),
            begun_sum: Duration::ZERO,
            asks: 0,
            desired: plant.pods,
            rising: None,
        }
    }

    fn at(&mut self, at: Moment, event: Event, order: usize) {
        self.events.push(Reverse((at, order, event)));
    }

    fn later(&mut self, at: Moment, event: Event) {
        self.order += 1;
        self.at(at, event, self.order);
    }

    fn begin(&mut self) {
        for _ in 0..self.plant.pods {
            let ready = Pod {
                asked_at: Moment::ZERO,
                ready: true,
                going: false,
                gone: false,
                in_flight: 0,
            };
            self.pods.push(ready);
        }
        self.run.most = self.plant.pods;
    }

    fn load(&self) -> u32 {
        self.in_flight + u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    fn there(&self) -> u32 {
        u32::try_from(self.pods.iter().filter(|pod| !pod.gone).count()).unwrap_or(u32::MAX)
    }

    fn pass(&mut self, to: Moment) {
        self.run.pod_time += to.saturating_sub(self.now) * self.there();
        self.now = to;
    }

    fn arrive(&mut self) {
        self.run.requests.push((self.now, Duration::MAX));
        self.waiting.push_back(self.came);
        self.came += 1;
        self.traffic.arrived += 1;
        self.idle_since = None;
        self.pump();
        self.peak = self.peak.max(self.load());
    }

    /// To the pod with the fewest requests.
    fn pump(&mut self) {
        while let Some(&request) = self.waiting.front() {
            let slots = self.plant.slots;
            let free = |(_, pod): &(usize, &mut Pod)| {
                pod.ready && !pod.going && !pod.gone && pod.in_flight < slots
            };
            let pods = self.pods.iter_mut().enumerate();
            let Some((index, pod)) = pods.filter(free).min_by_key(|(_, pod)| pod.in_flight) else {
                return;
            };
            pod.in_flight += 1;
            self.waiting.pop_front();
            self.in_flight += 1;
            self.begun[request] = self.now;
            self.begun_sum += self.now;
            let served = Event::Served { pod: index, request };
            self.later(self.now + self.plant.service, served);
        }
    }

    fn serve(&mut self, pod: usize, request: usize) {
        self.in_flight -= 1;
        self.begun_sum -= self.begun[request];
        self.traffic.served += 1;
        self.traffic.served_time += self.now.saturating_sub(self.begun[request]);
        self.run.requests[request].1 = self.now.saturating_sub(self.arrivals[request]);
        let pod = &mut self.pods[pod];
        pod.in_flight -= 1;
        if pod.going && pod.in_flight == 0 {
            pod.gone = true;
        }
        self.pump();
        if self.load() == 0 {
            self.idle_since = Some(self.now);
        }
    }

    fn open(&mut self, index: usize) -> Option<Duration> {
        let pod = &mut self.pods[index];
        if pod.gone {
            return None;
        }
        pod.ready = true;
        let took = self.now.saturating_sub(pod.asked_at);
        self.pump();
        Some(took)
    }

    fn ask(&mut self, scaler: &mut dyn Scaler) {
        let count = |ready: bool| {
            let pods = self.pods.iter().filter(|pod| !pod.gone && !pod.going);
            u32::try_from(pods.filter(|pod| pod.ready == ready).count()).unwrap_or(u32::MAX)
        };
        let age = (self.now * self.in_flight).saturating_sub(self.begun_sum);
        let view = View {
            in_flight: self.in_flight,
            waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
            peak: self.peak.max(self.load()),
            idle_since: self.idle_since,
            ready: count(true),
            starting: count(false),
            traffic: Traffic { age, ..self.traffic },
        };
        self.peak = self.load();
        let (desired, again_at) = scaler.decide(&view, self.now);
        self.asks += 1;
        if let Some(at) = again_at {
            self.later(at, Event::Ask { number: self.asks });
        }
        self.scale(desired);
    }

    fn scale(&mut self, desired: u32) {
        let rises = desired > self.desired;
        if desired != self.desired {
            self.run.turns += u32::from(self.rising.is_some_and(|rising| rising != rises));
            self.rising = Some(rises);
            self.desired = desired;
        }
        let mut have = self.pods.iter().filter(|pod| !pod.gone && !pod.going).count();
        let desired = usize::try_from(desired).unwrap_or(usize::MAX);
        while have > desired {
            let staying = self.pods.iter_mut().filter(|pod| !pod.gone && !pod.going);
            let Some(pod) = staying.min_by_key(|pod| (pod.ready, pod.in_flight)) else { break };
            pod.going = true;
            pod.gone = pod.in_flight == 0;
            have -= 1;
        }
        // Who was to go and still serves is taken back first.
        for pod in self.pods.iter_mut().filter(|pod| pod.going && !pod.gone) {
            if have < desired {
                pod.going = false;
                have += 1;
            }
        }
        while have < desired {
            let spread = 0.9 + 0.2 * self.chance.share();
            self.pods.push(Pod {
                asked_at: self.now,
                ready: false,
                going: false,
                gone: false,
                in_flight: 0,
            });
            let pod = self.pods.len() - 1;
            self.later(self.now + self.plant.start.mul_f64(spread), Event::Ready { pod });
            self.run.started += 1;
            have += 1;
        }
        self.run.most = self.run.most.max(self.there());
        self.pump();
    }

    fn finish(mut self) -> Run {
        self.pass(self.plant.ends.max(self.now));
        self.run.last = self.there();
        self.run
    }
}

#[cfg(test)]
mod tests;
