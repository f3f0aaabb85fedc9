//! The status of Triggers. Whether a Trigger gets its hosts depends on all the others, so they are
//! judged together, and only those whose status changes are written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::runtime::reflector::Lookup;
use rouse_core::function::FunctionKey;
use rouse_core::function::status::condition;
use rouse_core::trigger::{HttpClaim, Problem, TriggerKey, Verdicts, decide_claims};
use rouse_crds::v1alpha1::{ConditionType, Exposure, Trigger, TriggerStatus};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::delay;
use crate::context::{Context, Shared};
use crate::error::{Class, Error, chain};
use crate::index::ObjectKey;
use crate::status::write_trigger_status;

/// Changes that come together are judged together.
const GATHER: Duration = Duration::from_millis(50);
/// Statuses that are written at once.
const WRITES: usize = 8;
/// Problems that a message lists; a Trigger with sixteen hosts and paths could have hundreds.
const LISTED: usize = 5;

/// Failed writes in a row, and when the next is due.
type Failures = HashMap<String, (u32, Instant)>;

/// Keeps the status of all Triggers right. Never ends.
pub(crate) async fn run(context: Shared) {
    let mut claims = context.claims.subscribe();
    context.triggers.ready().await;
    let mut functions_ready = context.functions_ready.subscribe();
    // The sender lives as long as the context.
    let _ = functions_ready.wait_for(|ready| *ready).await;
    let mut failures = Failures::new();
    loop {
        claims.mark_unchanged();
        let started = Instant::now();
        write_all(&context, &mut failures).await;
        context.metrics.reconciled("Trigger", "pass", started.elapsed());
        let retry = failures.values().map(|(_, at)| *at).min();
        tokio::select! {
            changed = claims.changed() => if changed.is_err() { return },
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
        }
        sleep(GATHER).await;
    }
}

async fn write_all(context: &Context, failures: &mut Failures) {
    let triggers = context.triggers.all();
    let functions: HashMap<FunctionKey, Exposure> = context
        .functions
        .state()
        .iter()
        .map(|function| {
            let ObjectKey { namespace, name } = ObjectKey::of(&function.metadata);
            (FunctionKey { namespace, name }, function.spec.exposure)
        })
        .collect();
    let claims: Vec<HttpClaim> =
        triggers.iter().filter_map(|trigger| HttpClaim::of(trigger)).collect();
    let keys: BTreeSet<FunctionKey> = functions.keys().cloned().collect();
    let verdicts = decide_claims(&claims, &keys, &context.config.host_policy);
    let present: BTreeSet<String> = triggers.iter().map(|trigger| uid(trigger)).collect();
    failures.retain(|uid, _| present.contains(uid));
    let due: Vec<_> = triggers
        .into_iter()
        .filter(|trigger| trigger.metadata.deletion_timestamp.is_none())
        .filter(|trigger| failures.get(&uid(trigger)).is_none_or(|(_, at)| *at <= Instant::now()))
        .map(|trigger| {
            let status = compute_status(&trigger, &verdicts, &functions, Timestamp::now());
            write_one(context, trigger, status)
        })
        .collect();
    let mut outcomes = futures::stream::iter(due).buffer_unordered(WRITES);
    while let Some((trigger, outcome)) = outcomes.next().await {
        note_outcome(context, failures, &trigger, outcome);
    }
}

async fn write_one(
    context: &Context,
    trigger: Arc<Trigger>,
    status: TriggerStatus,
) -> (Arc<Trigger>, Result<bool, Error>) {
    let outcome = write_trigger_status(context, &trigger, &status).await;
    (trigger, outcome)
}

fn note_outcome(
    context: &Context,
    failures: &mut Failures,
    trigger: &Trigger,
    outcome: Result<bool, Error>,
) {
    let uid = uid(trigger);
    match outcome {
        Err(error) if error.class() == Class::Leaving => {
            failures.remove(&uid);
        }
        Ok(wrote) => {
            failures.remove(&uid);
            if wrote {
                context.metrics.reconciled("Trigger", "ok", Duration::ZERO);
            }
        }
        Err(error) => {
            let count = failures.get(&uid).map_or(1, |(count, _)| count.saturating_add(1));
            let wait = delay(error.class(), count, &uid);
            let trigger = ObjectKey::of(&trigger.metadata);
            let (reason, error) = (error.reason(), chain(&error));
            tracing::warn!(%trigger, reason, error, "status of a Trigger not written");
            context.metrics.reconciled("Trigger", reason, Duration::ZERO);
            failures.insert(uid, (count, Instant::now() + wait));
        }
    }
}

fn uid(trigger: &Trigger) -> String {
    trigger.metadata.uid.clone().unwrap_or_default()
}

/// The status that the verdicts call for.
fn compute_status(
    trigger: &Trigger,
    verdicts: &Verdicts,
    functions: &HashMap<FunctionKey, Exposure>,
    now: Timestamp,
) -> TriggerStatus {
    let previous = trigger.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = trigger.metadata.generation;
    let make = |kind, truth, reason: &str, message: &str| {
        condition(kind, truth, (reason, message), (generation, now), previous)
    };
    let namespace = trigger.namespace().unwrap_or_default().into_owned();
    let function = FunctionKey::new(&namespace, &trigger.spec.function);
    let name = trigger.name().unwrap_or_default().into_owned();
    let problems = verdicts.problems.get(&TriggerKey { namespace, name });
    let conditions = match problems.and_then(|problems| problems.first().map(|p| (p, problems))) {
        None => {
            let message = admitted_message(&function, functions.get(&function).copied());
            vec![make(ConditionType::Ready, true, "Admitted", &message)]
        }
        Some((first, problems)) => {
            let message = list(problems);
            // A Function that is applied later mends the one problem; the others need somebody.
            let waits = problems.iter().all(|p| matches!(p, Problem::FunctionMissing(_)));
            let kind = if waits { ConditionType::Reconciling } else { ConditionType::Stalled };
            vec![
                make(ConditionType::Ready, false, first.reason(), &message),
                make(kind, true, first.reason(), &message),
            ]
        }
    };
    TriggerStatus { observed_generation: generation, conditions }
}

fn admitted_message(function: &FunctionKey, exposure: Option<Exposure>) -> String {
    let reach = match exposure {
        Some(Exposure::ClusterLocal) => ", from inside the cluster only (its exposure)",
        _ => "",
    };
    format!("requests for all hosts reach the Function {}{reach}", function.name)
}

fn list(problems: &BTreeSet<Problem>) -> String {
    let mut text: Vec<String> = problems.iter().take(LISTED).map(ToString::to_string).collect();
    if problems.len() > LISTED {
        text.push(format!("and {} more", problems.len() - LISTED));
    }
    text.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn trigger() -> Trigger {
        serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1",
            "kind": "Trigger",
            "metadata": {"name": "t", "namespace": "shop", "generation": 3},
            "spec": {"function": "hello", "http": {"hosts": ["a.example.com"]}},
        }))
        .unwrap()
    }

    fn verdicts(problems: &[Problem]) -> Verdicts {
        let mut verdicts = Verdicts::default();
        if !problems.is_empty() {
            let key = TriggerKey { namespace: "shop".into(), name: "t".into() };
            verdicts.problems.insert(key, problems.iter().cloned().collect());
        }
        verdicts
    }

    fn summary(problems: &[Problem], exposure: Exposure) -> Vec<String> {
        let functions = HashMap::from([(FunctionKey::new("shop", "hello"), exposure)]);
        let status =
            compute_status(&trigger(), &verdicts(problems), &functions, Timestamp::UNIX_EPOCH);
        assert_eq!(status.observed_generation, Some(3));
        let text = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            format!("{}={}/{}: {}", c.type_, c.status, c.reason, c.message)
        };
        status.conditions.iter().map(text).collect()
    }

    #[test]
    fn a_trigger_that_gets_everything_is_ready() {
        assert_eq!(
            summary(&[], Exposure::Public),
            ["Ready=True/Admitted: requests for all hosts reach the Function hello"]
        );
        let local = summary(&[], Exposure::ClusterLocal);
        assert!(local[0].contains("from inside the cluster only"), "{local:?}");
    }

    #[test]
    fn a_missing_function_is_waited_for() {
        let conditions = summary(&[Problem::FunctionMissing("hello".into())], Exposure::Public);
        assert!(conditions[0].starts_with("Ready=False/FunctionMissing: "), "{conditions:?}");
        assert!(conditions[1].starts_with("Reconciling=True/FunctionMissing: "));
    }

    #[test]
    fn a_host_that_it_may_not_have_stalls_it() {
        let problems = [
            Problem::FunctionMissing("hello".into()),
            Problem::HostNotPermitted("a.example.com".into()),
        ];
        let conditions = summary(&problems, Exposure::Public);
        assert!(conditions[0].starts_with("Ready=False/"), "{conditions:?}");
        assert!(conditions[1].starts_with("Stalled=True/"), "{conditions:?}");
        assert!(conditions[1].contains("; "), "both problems are told: {conditions:?}");
    }

    #[test]
    fn many_problems_are_not_all_listed() {
        let problems: Vec<_> =
            (0..9).map(|i| Problem::HostNotPermitted(format!("{i}.example.com"))).collect();
        assert!(summary(&problems, Exposure::Public)[0].ends_with("; and 4 more"));
    }
}
