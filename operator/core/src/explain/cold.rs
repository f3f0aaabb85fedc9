//! What cold starts were made of, which part of them is the longest, and what would shorten it.

use rouse_crds::v1alpha1::{Activation, FunctionSpec};
use serde::Serialize;

/// A part of a cold start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// From the request to the acknowledged scale.
    Scale,
    /// Until the pod is there as an object.
    Create,
    /// Until it has a node.
    Schedule,
    /// Until its address is known: its sandbox, volumes and network.
    Sandbox,
    /// Until it answers: the pull of its image, and the start of its program.
    Listen,
    /// Until the first byte of the answer goes back.
    Answer,
}

impl Phase {
    /// All, in their order.
    pub const ALL: [Self; 6] =
        [Self::Scale, Self::Create, Self::Schedule, Self::Sandbox, Self::Listen, Self::Answer];

    /// Its name, as the head of a column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scale => "SCALE",
            Self::Create => "CREATE",
            Self::Schedule => "SCHEDULE",
            Self::Sandbox => "SANDBOX",
            Self::Listen => "LISTEN",
            Self::Answer => "ANSWER",
        }
    }
}

/// How long each phase took, in milliseconds and in the order of [`Phase::ALL`]. A phase whose end
/// was not seen is none, and its time is the next one's.
pub fn phases(activation: &Activation) -> [Option<u32>; 6] {
    let ends = [
        activation.scaled_millis,
        activation.created_millis,
        activation.scheduled_millis,
        activation.addressed_millis,
        activation.listening_millis,
        activation.first_byte_millis,
    ];
    let mut former = 0;
    ends.map(|end| {
        let took = end?.saturating_sub(former);
        // The watch may be faster than the answer to the write.
        former = former.max(end?);
        Some(took)
    })
}

/// All of it, in milliseconds.
pub fn total(activation: &Activation) -> Option<u32> {
    activation.first_byte_millis.or(activation.listening_millis)
}

/// What some cold starts have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Medians of the phases, in the order of [`Phase::ALL`].
    pub medians: [Option<u32>; 6],
    /// Median of all of it.
    pub total: Option<u32>,
    /// The phase with the greatest median.
    pub longest: Option<Phase>,
}

/// What `activations` have in common.
pub fn summarise(activations: &[Activation]) -> Summary {
    let of = |index: usize| {
        let times = activations.iter().filter_map(|one| phases(one).get(index).copied().flatten());
        median(times.collect())
    };
    let medians = [of(0), of(1), of(2), of(3), of(4), of(5)];
    let timed =
        Phase::ALL.into_iter().zip(medians).filter_map(|(phase, time)| Some((phase, time?)));
    // The earlier of two that take as long.
    let longest = timed.rev().max_by_key(|(_, time)| *time).map(|(phase, _)| phase);
    Summary { medians, total: median(activations.iter().filter_map(total).collect()), longest }
}

fn median(mut times: Vec<u32>) -> Option<u32> {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied()
}

/// What would shorten `phase`, for a Function of this spec.
pub fn advice(phase: Phase, spec: &FunctionSpec) -> String {
    match phase {
        Phase::Scale => "the API server took long to acknowledge the scale: see its load, and whether \
             Rouse's requests wait behind others (API priority and fairness)"
            .to_owned(),
        Phase::Create => "the cluster took long to make the pod: see the load of \
             kube-controller-manager, and admission webhooks for pods"
            .to_owned(),
        Phase::Schedule => "the pod waited for a node: keep nodes with room (smaller \
             spec.resources.requests, or pods of low priority that make way), and see whether nodes \
             are added on demand"
            .to_owned(),
        Phase::Sandbox => "the node took long before the container: volumes are slow to mount (take \
             what spec.template or a ServiceAccount token adds out), and so is a network plugin with \
             few addresses to give"
            .to_owned(),
        Phase::Listen => format!(
            "the image was pulled or the program took long to answer. {}; a program that opens port \
             {} first and loads the rest after answers sooner",
            spec.image.as_deref().map_or_else(pulling_runtime, pulling),
            spec.port
        ),
        Phase::Answer => "the first request took long though the pod answered: the program does on its \
             first request what it could do as it starts, or the request is that long"
            .to_owned(),
    }
}

fn pulling(image: &str) -> String {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    let floats = !name.contains('@') && matches!(name.split_once(':'), None | Some((_, "latest")));
    if floats {
        format!(
            "The image {image} has no fixed tag, so nodes ask the registry at each start: give it a \
             tag or digest, keep it small, and pull it to the nodes beforehand"
        )
    } else {
        "Where a node has not got the image, pull it there beforehand and keep it small".to_owned()
    }
}

fn pulling_runtime() -> String {
    "Where a node has not got the runtime's image, pull it there beforehand, and keep small what the \
     code imports as it starts"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn activation(ends: [Option<u32>; 6]) -> Activation {
        Activation {
            requested_at: Time(Timestamp::UNIX_EPOCH),
            revision: "r".into(),
            scaled_millis: ends[0],
            created_millis: ends[1],
            scheduled_millis: ends[2],
            addressed_millis: ends[3],
            listening_millis: ends[4],
            first_byte_millis: ends[5],
        }
    }

    fn spec(image: &str) -> FunctionSpec {
        serde_json::from_value(json!({"image": image})).unwrap()
    }

    #[test]
    fn a_phase_is_what_lies_between_two_moments() {
        let seen = activation([Some(10), Some(8), Some(20), None, Some(320), Some(322)]);
        let took = [Some(10), Some(0), Some(10), None, Some(300), Some(2)];
        assert_eq!((phases(&seen), total(&seen)), (took, Some(322)));
    }

    #[test]
    fn the_longest_phase_is_that_of_the_medians() {
        let starts = [
            activation([Some(10), Some(20), Some(25), Some(225), Some(300), Some(305)]),
            activation([Some(10), Some(20), Some(25), Some(205), Some(260), Some(262)]),
            activation([Some(10), Some(20), Some(9025), Some(9325), Some(9400), Some(9405)]),
        ];
        let summary = summarise(&starts);
        let medians = [Some(10), Some(10), Some(5), Some(200), Some(75), Some(5)];
        assert_eq!((summary.medians, summary.total), (medians, Some(305)));
        assert_eq!(summary.longest, Some(Phase::Sandbox), "one odd start does not change it");
        let none = summarise(&[]);
        assert_eq!((none.total, none.longest), (None, None));
    }

    #[test]
    fn advice_looks_at_the_image() {
        for floating in ["a", "a:latest", "r.example:5000/a"] {
            assert!(advice(Phase::Listen, &spec(floating)).contains("no fixed tag"), "{floating}");
        }
        for fixed in ["a:1", "r.example:5000/a:1", "a@sha256:00"] {
            assert!(!advice(Phase::Listen, &spec(fixed)).contains("no fixed tag"), "{fixed}");
        }
        for phase in Phase::ALL {
            assert!(!advice(phase, &spec("a:1")).is_empty());
        }
    }

    proptest! {
        #[test]
        fn phases_make_up_all_of_it(ends in prop::array::uniform6(prop::option::of(0u32..10_000))) {
            let seen = activation(ends);
            let sum: u32 = phases(&seen).into_iter().flatten().sum();
            prop_assert_eq!(sum, ends.into_iter().flatten().max().unwrap_or_default());
        }
    }
}
