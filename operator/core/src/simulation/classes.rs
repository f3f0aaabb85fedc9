//! Classes of functions by how they are called, so that a policy can be judged by each and not by the
//! busiest alone.

use serde::Serialize;

use super::replay::Outcome;
use super::trace::{Trace, TracedFunction};

/// Minutes with calls from which on there is something to tell a pattern by.
const FEW: usize = 5;
/// Gaps that vary less than this, by their deviation relative to their mean, are a period.
const REGULAR: f64 = 0.35;
/// A function that is called in this share of the minutes is never without calls for long.
const STEADY: f64 = 0.5;

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// In fewer minutes than a pattern could be told by.
    Rare,
    /// At gaps that are alike.
    Periodic,
    /// At gaps that differ.
    Bursty,
    /// In most minutes.
    Steady,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rare, Self::Periodic, Self::Bursty, Self::Steady];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rare => "rare",
            Self::Periodic => "periodic",
            Self::Bursty => "bursty",
            Self::Steady => "steady",
        }
    }

    /// That of `function` in a trace of so many minutes.
    pub fn of(function: &TracedFunction, minutes: u32) -> Self {
        let busy = function.calls.len();
        if busy < FEW {
            return Self::Rare;
        }
        if float(busy) >= STEADY * f64::from(minutes) {
            return Self::Steady;
        }
        let pairs = function.calls.windows(2);
        let gaps: Vec<f64> = pairs
            .filter_map(|pair| match pair {
                [(earlier, _), (later, _)] => Some(f64::from(later - earlier)),
                _ => None,
            })
            .collect();
        let mean = gaps.iter().sum::<f64>() / float(gaps.len());
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / float(gaps.len());
        if variance.sqrt() <= REGULAR * mean { Self::Periodic } else { Self::Bursty }
    }
}

/// What became of the functions of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ByClass {
    /// The class.
    pub class: Class,
    /// Functions of it that were called.
    pub functions: usize,
    /// Requests that found no pod.
    pub cold: u64,
    /// Memory that was warm without a request, in GB-seconds.
    pub waste: f64,
}

/// What became of each class.
pub fn by_class(trace: &Trace, outcomes: &[Outcome]) -> Vec<ByClass> {
    let with_class: Vec<(Class, &Outcome)> = trace
        .functions
        .iter()
        .map(|function| Class::of(function, trace.minutes))
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.calls > 0)
        .collect();
    let one = |class| {
        let own = with_class.iter().filter(|(of, _)| *of == class).map(|(_, outcome)| *outcome);
        ByClass {
            class,
            functions: own.clone().count(),
            cold: own.clone().map(|outcome| outcome.cold).sum(),
            waste: own.map(|outcome| outcome.waste).sum(),
        }
    };
    Class::ALL.map(one).to_vec()
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(minutes: impl IntoIterator<Item = u32>) -> Class {
        let calls = minutes.into_iter().map(|minute| (minute, 1)).collect();
        let function = TracedFunction { name: String::new(), timer: false, memory: 1.0, calls };
        Class::of(&function, 480)
    }

    #[test]
    fn a_class_follows_from_the_minutes_with_calls() {
        assert_eq!(class([1, 9, 400]), Class::Rare);
        assert_eq!(class((0..480).step_by(15)), Class::Periodic);
        assert_eq!(class((0..480).filter(|minute| minute % 60 < 5)), Class::Bursty);
        assert_eq!(class(0..300), Class::Steady);
        assert_eq!(class([]), Class::Rare);
    }
}
