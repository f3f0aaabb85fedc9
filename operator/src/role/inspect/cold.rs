//! `rouse cold`: the last cold starts of a Function, phase by phase.

use kube::ResourceExt;
use rouse_core::explain::cold::{Phase, Summary, advice, phases, summarise, total};
use rouse_core::explain::why::clock;
use rouse_crds::v1alpha1::{Activation, Function};
use serde::Serialize;

use crate::cluster::name_of_function;
use crate::output::{Form, Sheet};

/// The answer for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    activations: &'a [Activation],
    phases: [Phase; 6],
    summary: &'a Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// What the last cold starts of `function` were made of.
pub fn explain(function: &Function, form: Form) -> anyhow::Result<String> {
    let known = function.status.as_ref().map(|status| status.activations.as_slice());
    let activations = known.unwrap_or_default();
    let summary = summarise(activations);
    let advice = summary.longest.map(|phase| advice(phase, &function.spec));
    let answer =
        Answer { activations, phases: Phase::ALL, summary: &summary, advice: advice.clone() };
    let names = vec![name_of_function(&function.name_any())];
    Sheet { names, ..sheet(&summary, activations, advice) }.render(form, &answer)
}

fn sheet(summary: &Summary, activations: &[Activation], advice: Option<String>) -> Sheet {
    let mut head = vec!["TIME (UTC)", "REVISION"];
    head.extend(Phase::ALL.map(Phase::name));
    head.push("TOTAL MS");
    let cells = |times: [Option<u32>; 6], total: Option<u32>| {
        let shown = times.into_iter().chain([total]);
        shown.map(|time| time.map_or_else(|| "-".to_owned(), |time| time.to_string()))
    };
    let mut rows: Vec<Vec<String>> = activations
        .iter()
        .map(|one| {
            let first = [clock(one.requested_at.0), one.revision.clone()];
            first.into_iter().chain(cells(phases(one), total(one))).collect()
        })
        .collect();
    let mut notes = Vec::new();
    match (summary.longest, advice) {
        (Some(longest), Some(advice)) => {
            let first = ["MEDIAN".to_owned(), String::new()];
            rows.push(first.into_iter().chain(cells(summary.medians, summary.total)).collect());
            notes.push(format!("Longest: {}: {advice}.", longest.name()));
        }
        _ => notes.push("No request has woken it since that is kept.".to_owned()),
    }
    Sheet { head, rows, notes, ..Sheet::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function(activations: &serde_json::Value) -> Function {
        serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "metadata": {"name": "f"},
            "spec": {"image": "x:1"}, "status": {"activations": activations},
        }))
        .unwrap()
    }

    #[test]
    fn cold_starts_are_a_table_with_the_longest_phase_below() {
        let function = function(&json!([{
            "requestedAt": "2026-11-23T12:00:00Z", "revision": "abc", "scaledMillis": 5,
            "createdMillis": 9, "scheduledMillis": 12, "addressedMillis": 290,
            "listeningMillis": 301, "firstByteMillis": 303}]));
        let table = explain(&function, Form::Table).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        let row: Vec<&str> = lines[1].split_whitespace().collect();
        let wanted = ["2026-11-23", "12:00:00", "abc", "5", "4", "3", "278", "11", "2", "303"];
        assert_eq!(row, wanted);
        assert!(lines[2].starts_with("MEDIAN"));
        assert!(lines[3].starts_with("Longest: SANDBOX: "));
        let told: serde_json::Value =
            serde_json::from_str(&explain(&function, Form::Json).unwrap()).unwrap();
        assert_eq!(told["summary"]["longest"], "sandbox");
    }

    #[test]
    fn a_function_that_was_never_woken_has_no_table() {
        let table = explain(&function(&json!([])), Form::Table).unwrap();
        assert_eq!(table, "No request has woken it since that is kept.\n");
    }
}
