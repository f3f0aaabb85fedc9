//! The counts of one Function, by revision. Pure but for the gates that it asks what requests used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rouse_core::usage::{Count, Used};
use tokio::time::Instant;

use crate::admission::Gate;

/// A count of a revision that has been idle for so long is over. By then it was told long ago.
const IDLE: Duration = Duration::from_hours(1);

/// The number of the next count of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The counts of one Function.
#[derive(Debug)]
pub(super) struct FunctionCounts {
    /// Kept until they have told all.
    gates: Vec<Arc<Gate>>,
    warm: BTreeMap<Arc<str>, Warm>,
    /// The pods that are warm are counted up to here.
    warm_until: Instant,
    counts: BTreeMap<Arc<str>, OfRevision>,
}

/// The warm pods of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Warm {
    pods: u32,
    bytes: u64,
}

#[derive(Debug)]
struct OfRevision {
    number: u64,
    used: Used,
    /// What of it was shown and told.
    shown: Used,
    /// Pods are warm, or requests in flight.
    active: bool,
    /// When something was last used.
    last: Instant,
}

impl FunctionCounts {
    pub(super) const fn new(now: Instant) -> Self {
        Self { gates: Vec::new(), warm: BTreeMap::new(), warm_until: now, counts: BTreeMap::new() }
    }

    pub(super) fn watch(&mut self, gate: &Arc<Gate>) {
        if !self.gates.iter().any(|known| Arc::ptr_eq(known, gate)) {
            self.gates.push(Arc::clone(gate));
        }
    }

    /// Says which pods are warm from `now` on.
    pub(super) fn keep_warm<'a>(
        &mut self,
        pods: impl Iterator<Item = (&'a Arc<str>, u64)>,
        now: Instant,
    ) {
        let mut warm: BTreeMap<Arc<str>, Warm> = BTreeMap::new();
        for (revision, bytes) in pods {
            let of = warm.entry(Arc::clone(revision)).or_default();
            of.pods += 1;
            of.bytes += bytes;
        }
        if warm != self.warm {
            self.count_warm(now);
            self.warm = warm;
        }
    }

    fn count_warm(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.warm_until).as_nanos();
        self.warm_until = now;
        for (revision, Warm { pods, bytes }) in std::mem::take(&mut self.warm) {
            let used = Used {
                pod_nanos: nanos * u128::from(pods),
                pod_byte_nanos: nanos * u128::from(bytes),
                ..Used::default()
            };
            self.add(&revision, &used, now);
            self.warm.insert(revision, Warm { pods, bytes });
        }
    }

    fn add(&mut self, revision: &Arc<str>, used: &Used, now: Instant) {
        let count = self.counts.entry(Arc::clone(revision)).or_insert_with(|| OfRevision {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            used: Used::default(),
            shown: Used::default(),
            active: false,
            last: now,
        });
        count.used.add(used);
        count.last = now;
    }

    /// Gathers what was used up to `now`, and shows to `show` what came since it was last shown;
    /// whether there is news.
    pub(super) fn gather(&mut self, now: Instant, show: impl Fn(&Arc<str>, &Used)) -> bool {
        self.count_warm(now);
        let mut serving = false;
        for gate in std::mem::take(&mut self.gates) {
            // Where nobody else has it, this is all that comes of it.
            let last = Arc::strong_count(&gate) == 1;
            for (revision, used) in gate.take_used() {
                self.add(&revision, &used, now);
            }
            serving |= gate.is_serving();
            if !last {
                self.gates.push(gate);
            }
        }
        let mut news = false;
        for (revision, of) in &mut self.counts {
            let active = self.warm.contains_key(revision) || (serving && of.last == now);
            news |= of.used != of.shown || active != of.active;
            of.active = active;
            show(revision, &of.used.less(&of.shown));
            of.shown = of.used;
        }
        news
    }

    /// Ends the counts of revisions that have been idle for long; answers with these revisions.
    pub(super) fn drop_idle(&mut self, now: Instant) -> Vec<Arc<str>> {
        let idle = |of: &OfRevision| !of.active && now.saturating_duration_since(of.last) > IDLE;
        let over: Vec<Arc<str>> = self
            .counts
            .iter()
            .filter(|(_, of)| idle(of))
            .map(|(revision, _)| Arc::clone(revision))
            .collect();
        for revision in &over {
            self.counts.remove(revision);
        }
        over
    }

    pub(super) fn revisions(&self) -> Vec<Arc<str>> {
        self.counts.keys().cloned().collect()
    }

    /// What is told of it.
    pub(super) fn told(&self) -> Vec<Count> {
        let told = |(revision, of): (&Arc<str>, &OfRevision)| Count {
            number: of.number,
            revision: revision.to_string(),
            active: of.active,
            sums: of.used.sums(),
        };
        self.counts.iter().map(told).collect()
    }
}
