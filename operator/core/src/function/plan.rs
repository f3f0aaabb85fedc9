//! Decides what shall become of a Function's children, from what was observed of them. What the
//! status says of it is decided in `status`, after the writes have been tried.

use std::collections::{BTreeMap, BTreeSet};

use rouse_crds::v1alpha1::FunctionStatus;
use serde_json::{Value, json};

use super::code::{Code, pushed};
use super::drift::covers;
use super::names::revision_child;
use super::render::{
    Made, Owner, RenderError, render_deployment, render_record, render_service, render_template,
};
use super::runtime::Runtimes;
use super::{ValidatedFunction, revision_hash};
use crate::report::FunctionReport;

/// Records of former revisions that are kept, so that a Function that is changed back runs what it
/// ran before.
pub const KEPT_RECORDS: usize = 10;

/// What there is of a Function in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed<'a> {
    /// The status as it was last written.
    pub status: Option<&'a FunctionStatus>,
    /// What bears the name of the Function's Service.
    pub service: SeenService,
    /// The children of each revision, by the revision's hash.
    pub revisions: BTreeMap<String, SeenRevision>,
    /// What the owner among the activators says; none before the first report.
    pub report: Option<&'a FunctionReport>,
    /// Whether that owner is still the owner and still there to correct what it said.
    pub report_live: bool,
    /// The code that stands in the Function, where [`needs_code`] says that it is needed.
    pub code: Option<&'a Code>,
}

/// What is the same for all Functions.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Host of the activators' Service.
    pub activator_host: &'a str,
    /// What code is run in.
    pub runtimes: &'a Runtimes,
}

/// What bears the name of the Function's Service.
#[derive(Clone, Debug, Default)]
pub enum SeenService {
    /// Nothing.
    #[default]
    Absent,
    /// The Function's own Service.
    Ours(SeenChild),
    /// The Service of an earlier Function of that name, which will be collected.
    Predecessor,
    /// Somebody else's Service.
    Foreign,
}

/// The children of one revision.
#[derive(Clone, Debug, Default)]
pub struct SeenRevision {
    /// Its `ControllerRevision`.
    pub record: Option<SeenRecord>,
    /// Its Deployment.
    pub deployment: Option<SeenDeployment>,
}

/// What all children have.
#[derive(Clone, Debug, Default)]
pub struct SeenChild {
    /// UID.
    pub uid: String,
    /// Version, for deletions that must not overtake a change.
    pub resource_version: String,
    /// Whether it is being deleted.
    pub leaving: bool,
    /// The whole object.
    pub body: Value,
}

/// A `ControllerRevision`.
#[derive(Clone, Debug, Default)]
pub struct SeenRecord {
    /// What all children have.
    pub child: SeenChild,
    /// Its number; newer revisions have greater ones.
    pub number: i64,
    /// The pod template that was rendered when the revision was made.
    pub template: Value,
}

/// A Deployment.
#[derive(Clone, Debug, Default)]
pub struct SeenDeployment {
    /// What all children have.
    pub child: SeenChild,
    /// Whether it asks for no pods and has none.
    pub at_zero: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What to do with the Service.
    pub service: Option<Write>,
    /// What to do for the revisions that may run, the newest first.
    pub revisions: Vec<RevisionStep>,
    /// What goes.
    pub deletions: Vec<Deletion>,
    /// What the status is made of.
    pub outlook: Outlook,
}

/// What to do for a revision. The record is written after the Deployment, and only if that was not
/// refused, so that no record keeps a template that the API server does not take.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionStep {
    /// Hash of the revision.
    pub revision: String,
    /// What to do with its Deployment.
    pub deployment: Option<Write>,
    /// What to do with its record.
    pub record: Option<Write>,
}

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChildKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` `ControllerRevision`.
    ControllerRevision,
    /// `v1` Service.
    Service,
    /// `v1` `ServiceAccount`: of what runs sources.
    ServiceAccount,
    /// `rbac.authorization.k8s.io/v1` `RoleBinding`: of what runs sources.
    RoleBinding,
}

impl ChildKind {
    /// The kind's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ControllerRevision => "ControllerRevision",
            Self::Service => "Service",
            Self::ServiceAccount => "ServiceAccount",
            Self::RoleBinding => "RoleBinding",
        }
    }
}

/// A child to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Kind of the child.
    pub kind: ChildKind,
    /// Name of the child, in the Function's namespace.
    pub name: String,
    /// How.
    pub verb: Verb,
    /// The object as it is sent; for `Apply` with the UID of the object that is meant.
    pub body: Value,
}

/// How a child is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST: never touches what is there.
    Create,
    /// Server-side apply to the object of the same UID.
    Apply,
}

/// A child to delete, if it is still as it was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Kind of the child.
    pub kind: ChildKind,
    /// Name of the child, in the Function's namespace.
    pub name: String,
    /// UID that it must have.
    pub uid: String,
    /// Version that it must have.
    pub resource_version: String,
}

/// What the plan found, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The revision that the spec makes.
    pub newest: String,
    /// Whether that revision has a Deployment. Whoever creates it sets this.
    pub newest_runs: bool,
    /// The revision that takes the traffic; none before the first has answered.
    pub latest_ready: Option<String>,
    /// The revision that counts as the newest while that one has no Deployment.
    pub former: Option<String>,
    /// Why the newest revision can't be rendered.
    pub template_error: Option<RenderError>,
    /// Who has the name of the Function's Service.
    pub name: NameHolder,
}

/// Who has the name of the Function's Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameHolder {
    /// The Function, or it will have it after the plan's writes.
    Function,
    /// An earlier Function of that name, for a little while.
    Predecessor,
    /// Somebody else.
    Stranger,
}

/// Whether the record of the newest revision of `function` is to be made, and keeps code.
pub fn needs_code(function: &ValidatedFunction, observed: &Observed<'_>) -> bool {
    pushed(function).is_some() && !has_record(observed, &revision_hash(&function.workload))
}

/// Decides what to do for `function`.
pub fn decide(function: &ValidatedFunction, observed: &Observed<'_>, site: Site<'_>) -> Plan {
    let owner = Owner::of(function);
    let newest = revision_hash(&function.workload);
    let latest_ready = decide_latest_ready(observed);
    let mut revisions = Vec::with_capacity(2);
    let rendered = match stored_template(observed, &newest) {
        Some(template) => Ok(template),
        None => render_template(function, &newest, site.runtimes),
    };
    let template_error = match rendered {
        Ok(template) => {
            revisions.push(RevisionStep {
                deployment: decide_deployment(&owner, observed, &newest, &template),
                record: decide_record(function, observed, &newest, &template),
                revision: newest.clone(),
            });
            None
        }
        Err(error) => Some(error),
    };
    if let Some(serving) = latest_ready.as_ref().filter(|serving| **serving != newest)
        && let Some(template) = stored_template(observed, serving)
    {
        revisions.push(RevisionStep {
            deployment: decide_deployment(&owner, observed, serving, &template),
            record: None,
            revision: serving.clone(),
        });
    }
    let (service, name) = decide_service(&owner, &observed.service, site.activator_host);
    let newest_runs = runs(observed, &newest);
    let former = if newest_runs { None } else { decide_former(observed) };
    let kept = [Some(newest.as_str()), latest_ready.as_deref(), former.as_deref()];
    let kept: BTreeSet<&str> = kept.into_iter().flatten().collect();
    let deletions = decide_deletions(&owner, observed, latest_ready.as_deref(), &kept);
    Plan {
        service,
        revisions,
        deletions,
        outlook: Outlook { newest, newest_runs, latest_ready, former, template_error, name },
    }
}

/// The revision that takes the traffic: what the owner says, as long as we know it, else what it
/// was.
fn decide_latest_ready(observed: &Observed<'_>) -> Option<String> {
    let known = |revision: &&String| {
        observed
            .revisions
            .get(*revision)
            .is_some_and(|seen| seen.record.is_some() || has_deployment(seen))
    };
    let reported = observed.report.and_then(|report| report.serving.as_ref()).filter(known);
    let before = || {
        let status = observed.status?;
        status.latest_ready.as_ref().filter(known)
    };
    reported.or_else(before).cloned()
}

fn has_deployment(seen: &SeenRevision) -> bool {
    seen.deployment.as_ref().is_some_and(|deployment| !deployment.child.leaving)
}

fn runs(observed: &Observed<'_>, revision: &str) -> bool {
    observed.revisions.get(revision).is_some_and(has_deployment)
}

/// What `latestCreated` goes on to say while the newest revision has no Deployment.
fn decide_former(observed: &Observed<'_>) -> Option<String> {
    observed.status?.latest_created.clone().filter(|former| runs(observed, former))
}

fn has_record(observed: &Observed<'_>, revision: &str) -> bool {
    observed.revisions.get(revision).is_some_and(|seen| seen.record.is_some())
}

fn stored_template(observed: &Observed<'_>, revision: &str) -> Option<Value> {
    let record = observed.revisions.get(revision)?.record.as_ref()?;
    Some(record.template.clone())
}

fn decide_deployment(
    owner: &Owner,
    observed: &Observed<'_>,
    revision: &str,
    template: &Value,
) -> Option<Write> {
    let body = render_deployment(owner, revision, template);
    let seen = observed.revisions.get(revision).and_then(|seen| seen.deployment.as_ref());
    let name = revision_child(&owner.key.name, revision);
    let Some(seen) = seen else {
        return Some(create(ChildKind::Deployment, name, at_zero(body)));
    };
    put_right(ChildKind::Deployment, name, &seen.child, body)
}

/// Without replicas the API server would start a pod.
fn at_zero(mut deployment: Value) -> Value {
    if let Some(Value::Object(spec)) = deployment.get_mut("spec") {
        spec.insert("replicas".into(), json!(0));
    }
    deployment
}

fn decide_record(
    function: &ValidatedFunction,
    observed: &Observed<'_>,
    revision: &str,
    template: &Value,
) -> Option<Write> {
    if has_record(observed, revision) {
        return None;
    }
    let code = observed.code.filter(|code| pushed(function) == Some(&*code.digest));
    if pushed(function).is_some() && code.is_none() {
        // A record without its code would be so for ever.
        return None;
    }
    let numbers = observed.revisions.values().filter_map(|seen| Some(seen.record.as_ref()?.number));
    let number = numbers.max().unwrap_or_default().saturating_add(1);
    let workload = serde_json::to_value(&function.workload).unwrap_or_default();
    let owner = Owner::of(function);
    let made = Made { workload: &workload, template, code };
    let body = render_record(&owner, revision, made, number);
    let name = revision_child(&owner.key.name, revision);
    Some(create(ChildKind::ControllerRevision, name, body))
}

fn decide_service(
    owner: &Owner,
    seen: &SeenService,
    activator_host: &str,
) -> (Option<Write>, NameHolder) {
    let body = render_service(owner, activator_host);
    let name = owner.key.name.to_string();
    match seen {
        SeenService::Absent => (Some(create(ChildKind::Service, name, body)), NameHolder::Function),
        SeenService::Ours(seen) => {
            (put_right(ChildKind::Service, name, seen, body), NameHolder::Function)
        }
        SeenService::Predecessor => (None, NameHolder::Predecessor),
        SeenService::Foreign => (None, NameHolder::Stranger),
    }
}

pub(crate) fn create(kind: ChildKind, name: String, body: Value) -> Write {
    Write { kind, name, verb: Verb::Create, body }
}

/// An apply, if `seen` lacks anything of `body`. What is being deleted is left to go.
pub(crate) fn put_right(
    kind: ChildKind,
    name: String,
    seen: &SeenChild,
    mut body: Value,
) -> Option<Write> {
    if seen.leaving || covers(&seen.body, &body) {
        return None;
    }
    if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
        metadata.insert("uid".into(), json!(seen.uid));
    }
    Some(Write { kind, name, verb: Verb::Apply, body })
}

fn decide_deletions(
    owner: &Owner,
    observed: &Observed<'_>,
    latest_ready: Option<&str>,
    kept: &BTreeSet<&str>,
) -> Vec<Deletion> {
    let mut deletions = Vec::new();
    for (revision, seen) in &observed.revisions {
        if let Some(deployment) = &seen.deployment
            && !kept.contains(revision.as_str())
            && !deployment.child.leaving
            && deployment.at_zero
            && is_drained(observed, latest_ready, revision)
        {
            deletions.push(delete(owner, ChildKind::Deployment, revision, &deployment.child));
        }
    }
    let mut records: Vec<_> = observed
        .revisions
        .iter()
        .filter_map(|(revision, seen)| Some((seen.record.as_ref()?, revision, seen)))
        .collect();
    records.sort_by_key(|(record, ..)| std::cmp::Reverse(record.number));
    for (record, revision, seen) in records.into_iter().skip(KEPT_RECORDS) {
        let in_use = kept.contains(revision.as_str()) || seen.deployment.is_some();
        if !in_use && !record.child.leaving {
            deletions.push(delete(owner, ChildKind::ControllerRevision, revision, &record.child));
        }
    }
    deletions
}

/// Whether the owner, who is there to say otherwise, sends the revision no requests and awaits no
/// answers from it.
fn is_drained(observed: &Observed<'_>, latest_ready: Option<&str>, revision: &str) -> bool {
    let Some(report) = observed.report.filter(|_| observed.report_live) else {
        return false;
    };
    report.serving.as_deref() == latest_ready
        && report.serving.as_deref() != Some(revision)
        && report
            .revisions
            .get(revision)
            .is_none_or(|pods| pods.desired == 0 && pods.ready == 0 && pods.in_flight == 0)
}

fn delete(owner: &Owner, kind: ChildKind, revision: &str, seen: &SeenChild) -> Deletion {
    Deletion {
        kind,
        name: revision_child(&owner.key.name, revision),
        uid: seen.uid.clone(),
        resource_version: seen.resource_version.clone(),
    }
}

#[cfg(test)]
mod tests;
