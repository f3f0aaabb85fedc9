//! The stretches of idle time in which a Function is kept warm: where the chance that a request
//! comes is worth the memory.
//!
//! The chance is counted: of the idle times that lasted so long, how many ended then. Each spreads
//! over its neighbours, so that regular requests give narrow stretches and irregular ones a smooth
//! chance. What others teach counts as two idle times more, and a fixed time stands in where
//! neither the Function nor others have any experience.
//!
//! No Function shall fare worse than with that fixed time. So one that remembers little of its own gets
//! no more memory than with it, even if nobody calls any more; and one that knows itself is kept
//! through the idle times that the fixed time would have bridged, where that needs not much more.

use std::iter;
use std::sync::LazyLock;
use std::time::Duration;

use super::economy::Stakes;
use super::history::{Ended, History, IdleTime, OCTAVES};
use super::population::Prior;
use super::{LINGER, WORTH_LEAVING};

/// Parts of a doubling that are told apart: one is 1.1 % long.
const PARTS: f64 = 64.0;
const CELLS: usize = 16 * 64;
/// Own idle times that weigh as much as what is known of others.
const OTHERS: f64 = 2.0;
/// Idle times of others that weigh as much as the fixed time: what one Function teaches.
const UNTAUGHT: f64 = 16.0;
/// How much better than needed the chance is held to be where nothing is known: twice, so that two
/// idle times that say otherwise are believed.
const TRUST: f64 = 2.0;
/// Own idle times from which on a Function knows itself: what is known of it before is hearsay.
const KNOWS_ITSELF: u32 = 3;
/// How much more memory than the fixed time needs is taken at most to bridge what it bridges.
const BRIDGING: f64 = 1.5;
/// How much more is asked of the chances, step by step, until the plan needs no more than that.
const STRICTER: f64 = 1.1;
const STEPS: usize = 60;

/// Where each cell begins, in seconds.
static EDGES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    (0..=CELLS).map(|cell| LINGER.as_secs_f64() * (float(cell) / PARTS).exp2()).collect()
});

/// Stretches of idle time, in milliseconds, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarmTimes(Box<[(u32, u32)]>);

/// What habit says of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habit {
    /// Whether the Function is kept warm then.
    pub warm: bool,
    /// The idle time at which that changes.
    pub until: Option<Duration>,
}

impl WarmTimes {
    /// Plans from what the Function did and what `prior` says of others. A stretch begins `lead`
    /// earlier, so that the pod is up in time. One that is `scheduled` is not expected to be called
    /// besides until it is.
    pub fn plan(
        history: &History,
        prior: Option<&Prior>,
        scheduled: bool,
        stakes: Stakes,
        lead: Duration,
    ) -> Self {
        let (threshold, fixed) = (stakes.chance(), stakes.unknown());
        let chances = chances(history, prior, scheduled, stakes);
        let plan = |threshold| Self::where_likely(&chances, threshold, lead);
        let mut times: Vec<f64> = history.times().map(IdleTime::seconds).collect();
        let needs = |plan: &Self, times: &[f64]| times.iter().map(|time| plan.within(*time)).sum();
        let most = |times: &[f64]| times.iter().map(|time| time.min(fixed)).sum::<f64>();
        if history.len() >= KNOWS_ITSELF {
            let bridging = plan(bridged(history, &chances, fixed).fold(threshold, f64::min));
            let needed: f64 = needs(&bridging, &times);
            return if needed <= BRIDGING * most(&times) { bridging } else { plan(threshold) };
        }
        // Nobody may call any more.
        times.push(f64::INFINITY);
        iter::successors(Some(threshold), |last| Some(last * STRICTER))
            .take(STEPS)
            .map(plan)
            .find(|plan| needs(plan, &times) <= most(&times))
            .unwrap_or_else(|| Self([(0, millis(fixed))].into()))
    }

    /// The stretches in which the chances reach the threshold.
    fn where_likely(chances: &[f64], threshold: f64, lead: Duration) -> Self {
        let mut stretches = Stretches { all: Vec::new(), last: (0.0, LINGER.as_secs_f64()) };
        for (chance, edges) in chances.iter().zip(EDGES.windows(2)) {
            if let &[begins, ends] = edges
                && *chance >= threshold
            {
                stretches.add(begins - lead.as_secs_f64(), ends);
            }
        }
        stretches.finish()
    }

    /// Seconds of an idle time in which they keep a pod.
    pub(super) fn within(&self, idle: f64) -> f64 {
        let seconds = |millis: u32| f64::from(millis) / 1000.0;
        self.0.iter().map(|&(from, to)| (idle.min(seconds(to)) - seconds(from)).max(0.0)).sum()
    }

    /// What they say of an idle time.
    pub fn at(&self, idle: Duration) -> Habit {
        for &(from, to) in &self.0 {
            let [from, to] = [from, to].map(|millis| Duration::from_millis(millis.into()));
            if idle < from {
                return Habit { warm: false, until: Some(from) };
            }
            if idle < to {
                return Habit { warm: true, until: Some(to) };
            }
        }
        Habit { warm: false, until: None }
    }

    /// The end of the last stretch that is over at an idle time.
    pub fn left_before(&self, idle: Duration) -> Duration {
        let ends = self.0.iter().map(|&(_, to)| Duration::from_millis(to.into()));
        ends.take_while(|to| *to <= idle).last().unwrap_or_default()
    }
}

/// The chance per second that a request comes, by cell.
fn chances(history: &History, prior: Option<&Prior>, scheduled: bool, stakes: Stakes) -> Vec<f64> {
    let counted = Counted::new(history);
    let mut lasting = f64::from(history.len());
    let of_cell = |(cell, edges): (usize, &[f64])| {
        let &[begins, ends] = edges else { return 0.0 };
        let width = ends - begins;
        let unknown = if scheduled { 0.0 } else { untaught(stakes, begins, ends) };
        let (calls, lasted) =
            prior.map_or((0.0, 0.0), |prior| prior.at(scheduled, float(cell) / PARTS, 2.0));
        let taught = (calls + UNTAUGHT * unknown) / (lasted + UNTAUGHT);
        let unseen = lasting < 1.0 && ends <= stakes.unknown();
        let others = if unseen { taught.max(unknown) } else { taught };
        let chance = (counted.called[cell] / width + OTHERS * others) / (lasting + OTHERS);
        lasting = (lasting - counted.called[cell] - counted.known[cell]).max(0.0);
        chance
    };
    EDGES.windows(2).enumerate().map(of_cell).collect()
}

/// The chances at the ends of the idle times that a fixed time would have bridged.
fn bridged(history: &History, chances: &[f64], fixed: f64) -> impl Iterator<Item = f64> {
    history
        .times()
        .filter(move |time| time.ended() == Ended::Called && time.seconds() <= fixed)
        .map(|time| chances[cell(time.doublings() * PARTS)])
}

/// The chance per second that is assumed without any experience: good enough for as long as the
/// fixed time, then falling as for requests that may come in any order of magnitude of time.
fn untaught(stakes: Stakes, begins: f64, ends: f64) -> f64 {
    let (good, fixed) = (TRUST * stakes.chance(), stakes.unknown());
    if ends <= fixed { good } else { good * fixed / begins / 5.0 }
}

/// Idle times by cell.
struct Counted {
    called: Vec<f64>,
    known: Vec<f64>,
}

impl Counted {
    fn new(history: &History) -> Self {
        let mut known = vec![0.0; CELLS];
        let mut called: Vec<f64> = Vec::with_capacity(CELLS);
        for time in history.times() {
            let place = time.doublings() * PARTS;
            match time.ended() {
                Ended::Called => called.push(place),
                Ended::Known => known[cell(place)] += 1.0,
            }
        }
        called.sort_by(f64::total_cmp);
        Self { called: spread(&called), known }
    }
}

/// Spreads each of the sorted `places` evenly as far as its neighbours are: the k-th nearest, with
/// k growing as the root of their number. One alone spreads over a doubling on each side.
fn spread(places: &[f64]) -> Vec<f64> {
    let neighbours = ((places.len() / 4).isqrt()).max(1);
    let mut steps = vec![0.0; CELLS + 1];
    for (i, place) in places.iter().enumerate() {
        let first = i.saturating_sub(neighbours);
        let groups = places[first..].windows(neighbours + 1).take(i - first + 1);
        let reach = groups
            .filter_map(|group| Some((place - group.first()?).max(group.last()? - place)))
            .fold(PARTS, f64::min)
            .max(1.0);
        let (from, to) = (cell(place - reach), cell(place + reach));
        let share = 1.0 / float(to - from + 1);
        steps[from] += share;
        steps[to + 1] -= share;
    }
    let mut sum = 0.0;
    steps
        .iter()
        .take(CELLS)
        .map(|step| {
            sum += step;
            f64::max(sum, 0.0)
        })
        .collect()
}

/// Stretches as they grow; those that are hardly apart become one.
struct Stretches {
    all: Vec<(u32, u32)>,
    last: (f64, f64),
}

impl Stretches {
    fn add(&mut self, from: f64, to: f64) {
        if from - self.last.1 < WORTH_LEAVING.as_secs_f64() {
            self.last.1 = to;
        } else {
            self.all.push((millis(self.last.0), millis(self.last.1)));
            self.last = (from, to);
        }
    }

    fn finish(mut self) -> WarmTimes {
        self.all.push((millis(self.last.0), millis(self.last.1)));
        WarmTimes(self.all.into())
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few days at most, never negative"
)]
fn millis(seconds: f64) -> u32 {
    (seconds.max(0.0) * 1000.0) as u32
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn cell(place: f64) -> usize {
    (place.clamp(0.0, OCTAVES * PARTS) as usize).min(CELLS - 1)
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn float(number: usize) -> f64 {
    number as f64
}
