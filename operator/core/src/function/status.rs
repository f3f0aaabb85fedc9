//! What the status of a Function says, from what was found and what became of the writes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use rouse_crds::v1alpha1::{ConditionType, Exposure, FunctionStatus, LastError, Usage};

use super::names::FunctionKey;
use super::plan::{NameHolder, Outlook};
use crate::history::History;
use crate::report::FunctionReport;

/// Longest message of a condition, in characters. The API allows more; nobody reads it.
const MAX_MESSAGE: usize = 2000;

/// What keeps a Function from being in force as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word: the reason of the conditions.
    pub reason: &'static str,
    /// What is wrong and what can be done.
    pub message: String,
    /// Whether it goes by itself.
    pub passing: bool,
}

/// All that the status is made of.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Namespace and name.
    pub key: &'a FunctionKey,
    /// Generation of the spec that was looked at.
    pub generation: Option<i64>,
    /// Who may call the Function by its hosts.
    pub exposure: Exposure,
    /// Domain below which public Functions are reached from outside.
    pub public_domain: Option<&'a str>,
    /// The status as it was last written.
    pub previous: Option<&'a FunctionStatus>,
    /// What the plan found; none where the spec is not valid.
    pub outlook: Option<&'a Outlook>,
    /// What is wrong.
    pub trouble: Option<&'a Trouble>,
    /// What keeps callers from the Function though nothing is wrong with it: activators that have
    /// no route for it yet.
    pub unrouted: Option<&'a Trouble>,
    /// What the owner among the activators says; none before the first report, when the status
    /// goes on to say what it said.
    pub report: Option<&'a FunctionReport>,
    /// Whether it is to learn from its idle times.
    pub learns: bool,
    /// What the Function used, as it shall be told.
    pub usage: Option<&'a Usage>,
    /// The wall clock.
    pub now: Timestamp,
}

/// Why the plan alone, before any write, keeps the Function from being in force.
pub fn trouble_of(outlook: &Outlook, key: &FunctionKey) -> Option<Trouble> {
    if let Some(error) = &outlook.template_error {
        let message = error.to_string();
        return Some(Trouble { reason: error.reason(), message, passing: false });
    }
    match outlook.name {
        NameHolder::Function => None,
        NameHolder::Predecessor => Some(Trouble {
            reason: "PredecessorLeaving",
            message: format!("the Service of an earlier Function {} is being removed", key.name),
            passing: true,
        }),
        NameHolder::Stranger => Some(Trouble {
            reason: "NameTaken",
            message: format!(
                "there is a Service {} that does not belong to this Function, and it is left as it \
                 is: delete it or give the Function another name",
                key.name
            ),
            passing: false,
        }),
    }
}

/// The status that `situation` calls for.
pub fn compute(situation: &Situation<'_>) -> FunctionStatus {
    let previous = situation.previous.cloned().unwrap_or_default();
    let pods = Pods::of(situation.report, &previous);
    let last_error = match situation.report {
        Some(report) => report.last_error.clone(),
        None => previous.last_error.clone(),
    };
    let (latest_created, latest_ready) = match situation.outlook {
        Some(outlook) => (outlook.created(), outlook.latest_ready.clone()),
        None => (previous.latest_created.clone(), previous.latest_ready.clone()),
    };
    let verdict = judge(situation, latest_ready.as_deref(), pods, last_error.as_ref());
    let has_name = situation.outlook.is_none_or(|outlook| outlook.name == NameHolder::Function);
    let public = situation.public_domain.filter(|_| situation.exposure == Exposure::Public);
    let history = history_of(situation.report, &previous);
    FunctionStatus {
        observed_generation: situation.generation,
        conditions: build_conditions(&verdict, pods, situation, &previous.conditions),
        url: has_name.then(|| format!("http://{}", situation.key.cluster_host())),
        public_url: public
            .map(|domain| format!("http://{}.{domain}", situation.key.cluster_host())),
        latest_created,
        latest_ready,
        replicas: pods.ready,
        desired_replicas: pods.desired,
        last_activation: situation
            .report
            .and_then(|report| report.last_activation.clone())
            .or(previous.last_activation),
        activations: history.activations,
        decisions: history.decisions,
        usage: situation.usage.cloned(),
        last_error,
        // A new owner may have nothing to tell yet.
        learned: situation
            .report
            .and_then(|report| report.learned.clone())
            .or(previous.learned)
            .filter(|_| situation.learns),
    }
}

fn history_of(report: Option<&FunctionReport>, previous: &FunctionStatus) -> History {
    let before = History {
        activations: previous.activations.clone(),
        decisions: previous.decisions.clone(),
    };
    match report {
        Some(report) => report.history.after(&before),
        None => before,
    }
}

impl Outlook {
    /// The newest revision that has a Deployment.
    fn created(&self) -> Option<String> {
        if self.newest_runs {
            return Some(self.newest.clone());
        }
        self.former.clone().or_else(|| self.latest_ready.clone())
    }
}

#[derive(Clone, Copy)]
struct Pods {
    ready: u32,
    desired: u32,
}

impl Pods {
    fn of(report: Option<&FunctionReport>, previous: &FunctionStatus) -> Self {
        report.map_or(
            Self { ready: previous.replicas, desired: previous.desired_replicas },
            |report| Self {
                ready: report.revisions.values().map(|pods| pods.ready).sum(),
                desired: report.revisions.values().map(|pods| pods.desired).sum(),
            },
        )
    }

    const fn reason(self) -> &'static str {
        match self {
            Self { ready: 1.., .. } => "Serving",
            Self { desired: 1.., .. } => "Waking",
            _ => "Asleep",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self { ready: 1.., .. } => "pods answer requests",
            Self { desired: 1.., .. } => "pods are starting; requests wait for them",
            _ => "no pods run; the next request wakes the Function",
        }
    }
}

/// The verdict on `Ready`, and what follows from it.
struct Verdict {
    ready: bool,
    reason: String,
    message: String,
    reconciling: bool,
    stalled: bool,
}

impl Verdict {
    fn of_trouble(trouble: &Trouble, goes_on: &str) -> Self {
        Self {
            ready: false,
            reason: trouble.reason.to_owned(),
            message: format!("{}{goes_on}", trouble.message),
            reconciling: trouble.passing,
            stalled: !trouble.passing,
        }
    }
}

fn judge(
    situation: &Situation<'_>,
    latest_ready: Option<&str>,
    pods: Pods,
    last_error: Option<&LastError>,
) -> Verdict {
    let candidate = situation.outlook.map(|outlook| outlook.newest.as_str());
    let candidate = candidate.filter(|newest| Some(*newest) != latest_ready);
    let goes_on = latest_ready
        .map_or_else(String::new, |serving| format!("; revision {serving} goes on to serve"));
    let goes_on = if candidate.is_some() { goes_on.as_str() } else { "" };
    if let Some(trouble) = situation.trouble {
        return Verdict::of_trouble(trouble, goes_on);
    }
    let waited_for = candidate.or(latest_ready);
    let failing = last_error.filter(|error| Some(error.revision.as_str()) == waited_for);
    let served_by_waited_for = candidate.is_none() && pods.ready > 0;
    if let Some(error) = failing.filter(|_| !served_by_waited_for) {
        return Verdict {
            ready: false,
            reason: reason_word(&error.reason),
            message: format!("revision {}: {}{goes_on}", error.revision, error.message),
            reconciling: false,
            stalled: true,
        };
    }
    if let Some(unrouted) = situation.unrouted {
        return Verdict::of_trouble(unrouted, goes_on);
    }
    let (message, reconciling) = match (candidate, latest_ready) {
        (Some(new), Some(old)) => {
            (format!("revision {old} serves until revision {new} answers"), true)
        }
        _ => (pods.message().to_owned(), false),
    };
    Verdict { ready: true, reason: pods.reason().to_owned(), message, reconciling, stalled: false }
}

/// Reasons come from the activators; the API server refuses a status with a malformed one.
fn reason_word(reason: &str) -> String {
    let fits = reason.len() <= 64
        && reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.chars().all(|c| c.is_ascii_alphanumeric());
    if fits { reason.to_owned() } else { "StartFailed".to_owned() }
}

fn build_conditions(
    verdict: &Verdict,
    pods: Pods,
    situation: &Situation<'_>,
    previous: &[Condition],
) -> Vec<Condition> {
    let mut conditions = ConditionSet { list: Vec::new(), situation, previous };
    conditions.push(ConditionType::Ready, verdict.ready, &verdict.reason, &verdict.message);
    conditions.push(ConditionType::Active, pods.ready > 0, pods.reason(), pods.message());
    if verdict.reconciling {
        let reason = if verdict.ready { "RevisionStarting" } else { verdict.reason.as_str() };
        conditions.push(ConditionType::Reconciling, true, reason, &verdict.message);
    }
    if verdict.stalled {
        conditions.push(ConditionType::Stalled, true, &verdict.reason, &verdict.message);
    }
    conditions.list
}

struct ConditionSet<'a> {
    list: Vec<Condition>,
    situation: &'a Situation<'a>,
    previous: &'a [Condition],
}

impl ConditionSet<'_> {
    fn push(&mut self, kind: ConditionType, truth: bool, reason: &str, message: &str) {
        let Situation { generation, now, .. } = *self.situation;
        self.list.push(condition(kind, truth, (reason, message), (generation, now), self.previous));
    }
}

/// A condition that keeps the time of its last transition as long as its truth is the same as
/// among `previous`. `of` is the generation that it speaks of and the time of a transition.
pub fn condition(
    kind: ConditionType,
    truth: bool,
    (reason, message): (&str, &str),
    (generation, now): (Option<i64>, Timestamp),
    previous: &[Condition],
) -> Condition {
    let status = if truth { "True" } else { "False" };
    let before = previous.iter().find(|condition| condition.type_ == kind.as_str());
    let since = before.filter(|before| before.status == status);
    Condition {
        type_: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: shorten(message),
        observed_generation: generation,
        last_transition_time: since
            .map_or_else(|| Time(now), |before| before.last_transition_time.clone()),
    }
}

fn shorten(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}...", message.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
