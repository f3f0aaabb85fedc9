//! Wakings as spans of the traces whose requests caused them: what is told of each, and the bounded
//! queue in which they wait to be sent. Who takes them out sends them; nothing here does IO.

use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rouse_core::explain::cold::{self, Phase};
use rouse_core::function::FunctionKey;
use rouse_crds::v1alpha1::Activation;
use tokio::sync::mpsc;

use crate::exemplar::Caller;

/// Wakings that wait to be sent: as many as a thousand Functions that wake at once. More than that
/// are counted and forgotten; the metrics and the status of their Functions tell of them.
const MOST_WAITING: usize = 1024;

/// A waking whose request belongs to a trace that somebody records.
#[derive(Clone, Debug)]
pub struct Waking {
    /// Namespace and name of the Function.
    pub key: FunctionKey,
    /// Where in the trace the request came from.
    pub caller: Caller,
    /// What happened.
    pub activation: Activation,
}

/// A part of a waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub phase: Phase,
    /// When it began.
    pub begins: Timestamp,
    /// When it ended.
    pub ends: Timestamp,
}

impl Waking {
    /// When the request came.
    pub const fn begins(&self) -> Timestamp {
        self.activation.requested_at.0
    }

    /// When the first byte of its answer went back.
    pub fn ends(&self) -> Timestamp {
        self.after(cold::total(&self.activation).unwrap_or_default())
    }

    /// Its parts, one after the other. One whose end was not seen is part of the next.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        let times = Phase::ALL.into_iter().zip(cold::phases(&self.activation));
        times.filter_map(|(phase, took)| Some((phase, took?))).scan(0, |millis, (phase, took)| {
            let begins = self.after(*millis);
            *millis += took;
            Some(Part { phase, begins, ends: self.after(*millis) })
        })
    }

    fn after(&self, millis: u32) -> Timestamp {
        let begins = self.begins();
        begins.checked_add(SignedDuration::from_millis(millis.into())).unwrap_or(begins)
    }
}

/// What became of a waking that should be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent.
    Sent,
    /// It could not be sent.
    Failed,
    /// There was no place in the queue.
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Where wakings are told.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: Option<mpsc::Sender<Box<Waking>>>,
    outcomes: Family<OutcomeLabel, Counter>,
}

/// The other end: who sends them.
pub type Wakings = mpsc::Receiver<Box<Waking>>;

impl Spans {
    /// Tells nobody until [`Spans::open`] is called.
    pub fn register(registry: &mut Registry) -> Self {
        let outcomes = Family::default();
        registry.register(
            "rouse_trace_wakings",
            "Wakings to be sent as spans to a collector, by what became of them",
            outcomes.clone(),
        );
        Self { queue: None, outcomes }
    }

    /// Begins to tell; answers with the end to take them from.
    pub fn open(&mut self) -> Wakings {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        self.queue = Some(sender);
        receiver
    }

    /// Counts what became of so many.
    pub fn note(&self, outcome: Outcome, count: usize) {
        let outcome = match outcome {
            Outcome::Sent => "sent",
            Outcome::Failed => "failed",
            Outcome::Dropped => "dropped",
        };
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.outcomes.get_or_create(&OutcomeLabel { outcome }).inc_by(count);
    }

    /// Tells of a waking, if somebody listens.
    pub fn tell(&self, waking: impl FnOnce() -> Waking) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(Box::new(waking())).is_err() {
            self.note(Outcome::Dropped, 1);
        }
    }
}

/// What a span of each part is called.
pub const fn name_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Scale => "rouse.activation.scale",
        Phase::Create => "rouse.activation.create",
        Phase::Schedule => "rouse.activation.schedule",
        Phase::Sandbox => "rouse.activation.sandbox",
        Phase::Listen => "rouse.activation.listen",
        Phase::Answer => "rouse.activation.answer",
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn caller() -> Caller {
        let mut headers = http::HeaderMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", parent.parse().unwrap());
        Caller::of(&headers).unwrap()
    }

    fn example(caller: Caller) -> Waking {
        let activation = Activation {
            requested_at: Time(Timestamp::UNIX_EPOCH),
            revision: "r".into(),
            scaled_millis: Some(7),
            created_millis: Some(12),
            scheduled_millis: None,
            addressed_millis: Some(290),
            listening_millis: Some(301),
            first_byte_millis: Some(303),
        };
        Waking { key: FunctionKey::new("shop", "f"), caller, activation }
    }

    #[test]
    fn parts_follow_one_another_and_make_up_the_whole() {
        let waking = example(caller());
        let parts: Vec<Part> = waking.parts().collect();
        let phases: Vec<Phase> = parts.iter().map(|part| part.phase).collect();
        let seen = [Phase::Scale, Phase::Create, Phase::Sandbox, Phase::Listen, Phase::Answer];
        assert_eq!(phases, seen);
        assert_eq!(parts[0].begins, waking.begins());
        assert!(parts.windows(2).all(|pair| pair[0].ends == pair[1].begins));
        assert_eq!(parts[4].ends, waking.ends());
        assert_eq!(waking.ends(), Timestamp::from_millisecond(303).unwrap());
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let mut spans = Spans::register(&mut Registry::default());
        spans.tell(|| panic!("nobody listens"));
        let mut wakings = spans.open();
        (0..MOST_WAITING + 3).for_each(|_| spans.tell(|| example(caller())));
        let count = |outcome| spans.outcomes.get_or_create(&OutcomeLabel { outcome }).get();
        assert_eq!(count("dropped"), 3);
        assert!(wakings.try_recv().is_ok());
        drop(wakings);
        spans.tell(|| example(caller()));
        assert_eq!(count("dropped"), 4);
    }
}
