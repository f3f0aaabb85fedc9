//! What came of a replay, in figures: for people, as JSON and to be drawn.

use serde::Serialize;

use super::classes::{ByClass, Class, by_class};
use super::replay::{Named, Outcome, replay};
use super::trace::Trace;

/// One policy on one trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The policy.
    pub policy: &'static str,
    /// Requests.
    pub calls: u64,
    /// Requests that found no pod.
    pub cold: u64,
    /// Their share, in per cent.
    pub cold_percent: f64,
    /// The share of the middle Function, in per cent.
    pub p50_percent: f64,
    /// The share that three of four Functions stay below, in per cent.
    pub p75_percent: f64,
    /// Memory that was warm without a request, in GB-seconds.
    pub waste: f64,
    /// The same, relative to a fixed time of 10 minutes.
    pub relative_waste: f64,
    /// Cold starts and waste by class of functions.
    pub classes: Vec<ByClass>,
}

/// Replays `trace` under all `policies` with each of the seeds: for each figure the median of the
/// seeds. Waste is relative to that of the first policy.
pub fn compare(trace: &Trace, policies: &[Named], seeds: &[u64]) -> Vec<Summary> {
    let mut measure: Vec<f64> = Vec::new();
    let mut summaries = Vec::new();
    for policy in policies {
        let runs: Vec<Summary> = seeds
            .iter()
            .map(|seed| {
                let outcomes = replay(trace, *policy, *seed);
                let classes = by_class(trace, &outcomes);
                Summary { classes, ..summarise(policy.name(), &outcomes) }
            })
            .collect();
        if measure.is_empty() {
            measure = runs.iter().map(|run| run.waste).collect();
        }
        let relative = runs.iter().zip(&measure).map(|(run, waste)| run.waste / waste.max(1e-9));
        let middle = |figure: fn(&Summary) -> f64| median(runs.iter().map(figure).collect());
        let mut colds: Vec<u64> = runs.iter().map(|run| run.cold).collect();
        colds.sort_unstable();
        summaries.push(Summary {
            policy: policy.name(),
            calls: runs.first().map_or(0, |run| run.calls),
            cold: colds.get(colds.len() / 2).copied().unwrap_or_default(),
            cold_percent: middle(|run| run.cold_percent),
            p50_percent: middle(|run| run.p50_percent),
            p75_percent: middle(|run| run.p75_percent),
            waste: middle(|run| run.waste),
            relative_waste: median(relative.collect()),
            classes: middle_classes(&runs),
        });
    }
    summaries
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn summarise(policy: &'static str, outcomes: &[Outcome]) -> Summary {
    let (calls, cold) = outcomes
        .iter()
        .fold((0, 0), |(calls, cold), outcome| (calls + outcome.calls, cold + outcome.cold));
    let share = |cold: u64, calls: u64| 100.0 * cold as f64 / calls.max(1) as f64;
    let mut shares: Vec<f64> = outcomes
        .iter()
        .filter(|outcome| outcome.calls > 0)
        .map(|outcome| share(outcome.cold, outcome.calls))
        .collect();
    shares.sort_by(f64::total_cmp);
    let quantile = |quarters: usize| {
        let index = (shares.len() * quarters / 4).min(shares.len().saturating_sub(1));
        shares.get(index).copied().unwrap_or_default()
    };
    Summary {
        policy,
        calls,
        cold,
        cold_percent: share(cold, calls),
        p50_percent: quantile(2),
        p75_percent: quantile(3),
        waste: outcomes.iter().map(|outcome| outcome.waste).sum(),
        relative_waste: 1.0,
        classes: Vec::new(),
    }
}

/// For each class the median of several runs.
fn middle_classes(runs: &[Summary]) -> Vec<ByClass> {
    let of = |class| runs.iter().flat_map(|run| &run.classes).filter(move |one| one.class == class);
    let one = |class| {
        let mut colds: Vec<u64> = of(class).map(|one| one.cold).collect();
        colds.sort_unstable();
        ByClass {
            class,
            functions: of(class).next().map_or(0, |one| one.functions),
            cold: colds.get(colds.len() / 2).copied().unwrap_or_default(),
            waste: median(of(class).map(|one| one.waste).collect()),
        }
    };
    Class::ALL.map(one).to_vec()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The figures as a table.
pub fn table(summaries: &[Summary]) -> String {
    let mut lines = vec![format!(
        "{:<16} {:>12} {:>10} {:>9} {:>8} {:>8} {:>14} {:>8}\n",
        "POLICY", "REQUESTS", "COLD", "COLD%", "P50%", "P75%", "WASTE GB-S", "WASTE"
    )];
    for summary in summaries {
        let Summary { policy, calls, cold, cold_percent, p50_percent, p75_percent, .. } = summary;
        let Summary { waste, relative_waste, .. } = summary;
        lines.push(format!(
            "{policy:<16} {calls:>12} {cold:>10} {cold_percent:>9.4} {p50_percent:>8.2} \
             {p75_percent:>8.2} {waste:>14.0} {relative_waste:>7.3}x\n"
        ));
    }
    lines.concat()
}

/// Cold starts by class of functions and their waste relative to that of the first policy, as a table.
pub fn table_of_classes(summaries: &[Summary]) -> String {
    let Some(measure) = summaries.first() else { return String::new() };
    let heads = measure.classes.iter().map(|one| {
        format!(" {:>20}", format!("{} ({})", one.class.name(), one.functions).to_uppercase())
    });
    let mut lines = vec![format!("{:<16}{}\n", "POLICY", heads.collect::<String>())];
    for summary in summaries {
        let cells = summary.classes.iter().zip(&measure.classes).map(|(one, measure)| {
            let relative = one.waste / measure.waste.max(1e-9);
            format!(" {:>20}", format!("{} @{relative:.2}x", one.cold))
        });
        lines.push(format!("{:<16}{}\n", summary.policy, cells.collect::<String>()));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_functions_that_were_called() {
        let outcome = |calls, cold| Outcome { calls, cold, waste: 1.0 };
        let outcomes =
            [outcome(10, 1), outcome(10, 2), outcome(10, 3), outcome(1, 1), outcome(0, 0)];
        let summary = summarise("p", &outcomes);
        assert_eq!((summary.calls, summary.cold), (31, 7));
        assert!((summary.p50_percent - 30.0).abs() < 1e-9);
        assert!((summary.p75_percent - 100.0).abs() < 1e-9);
        assert!((summary.waste - 5.0).abs() < 1e-9);
        let table = table(&[summary]);
        assert!(table.lines().all(|line| line.len() == table.lines().next().unwrap().len()));
    }

    #[test]
    fn classes_stand_beside_those_of_the_first_policy() {
        let one = |cold, waste| ByClass { class: Class::Rare, functions: 7, cold, waste };
        let summary = |policy, classes| Summary { policy, classes, ..Summary::default() };
        let all = [summary("fixed", vec![one(9, 10.0)]), summary("rouse", vec![one(4, 5.0)])];
        let table = table_of_classes(&all);
        assert!(table.contains("RARE (7)") && table.contains("4 @0.50x"), "{table}");
    }
}
