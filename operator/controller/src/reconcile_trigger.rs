//! The status of Triggers. Whether a Trigger gets its hosts depends on all the others, so they are
//! judged together, and only those whose status changes are written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::Lookup;
use rouse_core::function::FunctionKey;
use rouse_core::function::status::{Trouble, condition};
use rouse_core::report::Routed;
use rouse_core::source::{SourceHealth, SourcePod, kind_of, trouble_of_source};
use rouse_core::trigger::{
    HttpClaim, Problem, TriggerKey, Verdicts, decide_claims, event_problems,
};
use rouse_crds::v1alpha1::{ConditionType, Exposure, Function, Trigger, TriggerStatus};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::delay;
use crate::context::{Context, Shared};
use crate::error::{Class, Error, chain};
use crate::index::{ObjectKey, version};
use crate::propagation::{Wait, is_ready};
use crate::status::write_trigger_status;

/// Changes that come together are judged together.
const GATHER: Duration = Duration::from_millis(50);
/// How long a source pod may be away before Triggers say so: it is started anew when other Secrets
/// are to be mounted.
const AWAY_GRACE: Duration = Duration::from_secs(10);
/// Statuses that are written at once.
const WRITES: usize = 8;
/// Problems that a message lists; a Trigger with sixteen hosts and paths could have hundreds.
const LISTED: usize = 5;

/// Failed writes in a row, and when the next is due.
type Failures = HashMap<String, (u32, Instant)>;

/// What is remembered of Triggers between passes, by their UIDs. It may be lost.
#[derive(Default)]
struct Memory {
    failures: Failures,
    admissions: HashMap<String, Admission>,
    /// By namespace, since when its source pod is not ready.
    away: HashMap<String, Instant>,
}

/// A Trigger that gets all it asks for, and is not ready yet.
#[derive(Clone, Copy)]
struct Admission {
    generation: Option<i64>,
    since: Instant,
    /// How far routes must go to hold it. Another Trigger may have had to go for it.
    needed: Routed,
}

/// The Functions as Triggers see them.
type Functions = HashMap<FunctionKey, Target>;

#[derive(Clone, Copy)]
struct Target {
    exposure: Exposure,
    version: u64,
}

/// Keeps the status of all Triggers right. Never ends.
pub(crate) async fn run(context: Shared) {
    let mut claims = context.claims.subscribe();
    context.triggers.ready().await;
    context.residents.deployments.ready().await;
    let mut functions_ready = context.functions_ready.subscribe();
    // The sender lives as long as the context.
    let _ = functions_ready.wait_for(|ready| *ready).await;
    let mut routes = context.reports.routes.progress();
    let mut memory = Memory::default();
    loop {
        claims.mark_unchanged();
        routes.mark_unchanged();
        let started = Instant::now();
        let look_at = write_all(&context, &mut memory).await;
        context.metrics.reconciled("Trigger", "pass", started.elapsed());
        let retry = memory.failures.values().map(|(_, at)| *at).chain(look_at).min();
        tokio::select! {
            changed = claims.changed() => if changed.is_err() { return },
            changed = routes.changed(), if look_at.is_some() => if changed.is_err() { return },
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
        }
        sleep(GATHER).await;
    }
}

/// Judges all Triggers and writes what changed; when to look again at those that wait for routes.
async fn write_all(context: &Context, memory: &mut Memory) -> Option<Instant> {
    let triggers = context.triggers.all();
    let functions = see_functions(context);
    let claims: Vec<HttpClaim> =
        triggers.iter().filter_map(|trigger| HttpClaim::of(trigger)).collect();
    let keys: BTreeSet<FunctionKey> = functions.keys().cloned().collect();
    let mut verdicts = decide_claims(&claims, &keys, &context.config.host_policy);
    for trigger in &triggers {
        let problems = event_problems(trigger, &keys);
        if !problems.is_empty() {
            verdicts.problems.entry(key(trigger)).or_default().extend(problems);
        }
    }
    let present: BTreeSet<String> = triggers.iter().map(|trigger| uid(trigger)).collect();
    memory.failures.retain(|uid, _| present.contains(uid));
    memory.admissions.retain(|uid, _| present.contains(uid));
    let mut look_at = see_pods(context, &triggers, &mut memory.away);
    let mut due = Vec::new();
    for trigger in triggers {
        let failed = memory.failures.get(&uid(&trigger));
        let is_due = failed.is_none_or(|(_, at)| *at <= Instant::now());
        if trigger.metadata.deletion_timestamp.is_some() || !is_due {
            continue;
        }
        let wait = await_routes(context, &mut memory.admissions, &trigger, (&verdicts, &functions));
        let source = source_trouble(context, &memory.away, &trigger);
        let trouble = wait.as_ref().map(|wait| &wait.trouble).or(source.as_ref());
        let status = compute_status(&trigger, &verdicts, &functions, trouble);
        if let Some(wait) = wait {
            let again = wait.again();
            look_at = Some(look_at.map_or(again, |at| at.min(again)));
            if wait.holds(&status.conditions) {
                continue;
            }
        }
        due.push(write_one(context, trigger, status));
    }
    let mut outcomes = futures::stream::iter(due).buffer_unordered(WRITES);
    while let Some((trigger, outcome)) = outcomes.next().await {
        note_outcome(context, &mut memory.failures, &trigger, outcome);
    }
    look_at
}

fn see_functions(context: &Context) -> Functions {
    let functions = context.functions.state();
    let target = |function: &Arc<Function>| {
        let ObjectKey { namespace, name } = ObjectKey::of(&function.metadata);
        let version = version(&function.metadata).unwrap_or_default();
        (FunctionKey { namespace, name }, Target { exposure: function.spec.exposure, version })
    };
    functions.iter().map(target).collect()
}

/// What `trigger` waits for; none where it may not have what it asks for. Once it is ready it waits
/// no more, until its spec changes or it loses what it had.
fn await_routes(
    context: &Context,
    admissions: &mut HashMap<String, Admission>,
    trigger: &Trigger,
    (verdicts, functions): (&Verdicts, &Functions),
) -> Option<Wait> {
    let uid = uid(trigger);
    let generation = trigger.metadata.generation;
    if verdicts.problems.contains_key(&key(trigger)) || is_ready(conditions(trigger), generation) {
        admissions.remove(&uid);
        return None;
    }
    let known = admissions.get(&uid).filter(|admission| admission.generation == generation);
    let admission = known.copied().unwrap_or_else(|| {
        let triggers = version(&trigger.metadata).unwrap_or_default();
        let triggers = context.triggers.newest().max(triggers);
        let functions = functions.get(&function_of(trigger)).map_or(0, |target| target.version);
        let needed = Routed { functions, triggers };
        Admission { generation, since: Instant::now(), needed }
    });
    admissions.insert(uid, admission);
    let reach = context.reports.routes.reach(admission.needed);
    Wait::of(&reach, "Trigger", admission.since)
}

/// Notes since when the source pods are away that Triggers need; when to look again at those that
/// were ready a moment ago.
fn see_pods(
    context: &Context,
    triggers: &[Arc<Trigger>],
    away: &mut HashMap<String, Instant>,
) -> Option<Instant> {
    let now = Instant::now();
    let sources = triggers.iter().filter(|trigger| kind_of(trigger).is_some());
    let namespaces: BTreeSet<String> = sources.map(|trigger| key(trigger).namespace).collect();
    let is_away = |namespace: &String| !context.residents.is_available(namespace);
    away.retain(|namespace, _| namespaces.contains(namespace) && is_away(namespace));
    for namespace in namespaces.into_iter().filter(is_away) {
        away.entry(namespace).or_insert(now);
    }
    away.values().map(|since| *since + AWAY_GRACE).filter(|at| *at > now).min()
}

/// What keeps the events of a source from its Function; none where `trigger` has no source.
fn source_trouble(
    context: &Context,
    away: &HashMap<String, Instant>,
    trigger: &Trigger,
) -> Option<Trouble> {
    kind_of(trigger)?;
    let namespace = key(trigger).namespace;
    let is_away = away.get(&namespace).is_some_and(|since| since.elapsed() >= AWAY_GRACE);
    let pod = match context.residents.refused(&namespace) {
        Some(trouble) => SourcePod::Refused(trouble),
        None if is_away => SourcePod::Away,
        None => SourcePod::There,
    };
    let told = trigger.status.as_ref().and_then(|status| status.source.as_ref());
    let health = told.map(SourceHealth::of);
    trouble_of_source(health.as_ref(), trigger.metadata.generation, &pod)
}

fn conditions(trigger: &Trigger) -> &[Condition] {
    trigger.status.as_ref().map_or(&[][..], |status| &status.conditions)
}

fn key(trigger: &Trigger) -> TriggerKey {
    let namespace = trigger.namespace().unwrap_or_default().into_owned();
    TriggerKey { namespace, name: trigger.name().unwrap_or_default().into_owned() }
}

fn function_of(trigger: &Trigger) -> FunctionKey {
    FunctionKey::new(&trigger.namespace().unwrap_or_default(), &trigger.spec.function)
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
            let (class, wait) = (error.class(), delay(error.class(), count, &uid));
            let trigger = ObjectKey::of(&trigger.metadata);
            let (reason, error) = (error.reason(), chain(&error));
            if class == Class::Conflict {
                tracing::info!(%trigger, error, "status of a Trigger written again: somebody was faster");
            } else {
                tracing::warn!(%trigger, reason, error, "status of a Trigger not written");
            }
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
    functions: &Functions,
    trouble: Option<&Trouble>,
) -> TriggerStatus {
    let (previous, now) = (conditions(trigger), Timestamp::now());
    let generation = trigger.metadata.generation;
    let make = |kind, truth, reason: &str, message: &str| {
        condition(kind, truth, (reason, message), (generation, now), previous)
    };
    let not_ready = |kind, reason: &str, message: &str| {
        vec![make(ConditionType::Ready, false, reason, message), make(kind, true, reason, message)]
    };
    let problems = verdicts.problems.get(&key(trigger));
    let conditions = if let Some((first, problems)) = first_of(problems) {
        // A Function that is applied later mends the one problem; the others need somebody.
        let waits = problems.iter().all(|p| matches!(p, Problem::FunctionMissing(_)));
        let kind = if waits { ConditionType::Reconciling } else { ConditionType::Stalled };
        not_ready(kind, first.reason(), &list(problems))
    } else if let Some(Trouble { reason, message, passing }) = trouble {
        let kind = if *passing { ConditionType::Reconciling } else { ConditionType::Stalled };
        not_ready(kind, reason, message)
    } else {
        let function = function_of(trigger);
        let (reason, message) = if trigger.spec.schedule.is_some() {
            ("Scheduled", format!("the schedule calls the Function {}", function.name))
        } else if let Some(kind) = kind_of(trigger) {
            let kind = kind.name();
            ("Connected", format!("the events of {kind} reach the Function {}", function.name))
        } else {
            ("Admitted", admitted_message(&function, functions.get(&function).copied()))
        };
        vec![make(ConditionType::Ready, true, reason, &message)]
    };
    // The progress of a schedule has a writer of its own.
    TriggerStatus { observed_generation: generation, conditions, schedule: None, source: None }
}

fn first_of(problems: Option<&BTreeSet<Problem>>) -> Option<(&Problem, &BTreeSet<Problem>)> {
    problems.and_then(|problems| problems.first().map(|first| (first, problems)))
}

fn admitted_message(function: &FunctionKey, target: Option<Target>) -> String {
    let reach = match target.map(|target| target.exposure) {
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
        let target = Target { exposure, version: 1 };
        let functions = HashMap::from([(FunctionKey::new("shop", "hello"), target)]);
        let status = compute_status(&trigger(), &verdicts(problems), &functions, None);
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
