//! Reads all that there is of a Function from the stores. It asks the API server for nothing but the
//! code of a new revision, which no store keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use rouse_core::function::ValidatedFunction;
use rouse_core::function::code::{Code, pushed};
use rouse_core::function::plan::{Observed, SeenDeployment, SeenRecord, SeenRevision, SeenService};
use rouse_core::report::FunctionReport;
use rouse_crds::v1alpha1::{Function, FunctionStatus};

use crate::context::{Children, Context};
use crate::error::Error;
use crate::index::{ObjectKey, controlling_function};
use crate::objects::Service;

/// All that there is of a Function.
pub(crate) struct Fetched {
    pub status: Option<FunctionStatus>,
    pub report: Option<Arc<FunctionReport>>,
    report_live: bool,
    service: SeenService,
    revisions: BTreeMap<String, SeenRevision>,
}

impl Fetched {
    /// The same, as the plan wants it, but for code.
    pub fn observed(&self) -> Observed<'_> {
        Observed {
            status: self.status.as_ref(),
            service: self.service.clone(),
            revisions: self.revisions.clone(),
            report: self.report.as_deref(),
            report_live: self.report_live,
            code: None,
        }
    }
}

/// Reads what there is of `function`.
pub(crate) fn fetch(context: &Context, function: &Function) -> Fetched {
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let key = ObjectKey::of(&function.metadata);
    let (report, report_live) = match context.reports.get(uid) {
        Some(held) => (Some(held.report), held.live),
        None => (None, false),
    };
    let service = context.children.services.get(&key);
    Fetched {
        status: function.status.clone(),
        report,
        report_live,
        service: see_service(service.as_deref(), &key, uid),
        revisions: see_revisions(&context.children, uid, &key.name),
    }
}

/// Reads the code of `function`, which is to be the one that was `validated`.
pub(crate) async fn fetch_code(
    context: &Context,
    function: &Function,
    validated: &ValidatedFunction,
) -> Result<Code, Error> {
    let key = &validated.key;
    let api: Api<Function> = Api::namespaced(context.client.clone(), &key.namespace);
    let there = api.get_opt(&key.name).await.map_err(Error::Code)?;
    let same = there.filter(|there| there.metadata.uid == function.metadata.uid);
    let source = same.and_then(|there| there.spec.source);
    let code = source.and_then(|source| Code::of(&source).ok().flatten());
    // It was changed since: the watch is about to tell.
    code.filter(|code| pushed(validated) == Some(&*code.digest)).ok_or(Error::CodeChanged)
}

fn see_service(service: Option<&Service>, key: &ObjectKey, uid: &str) -> SeenService {
    let Some(service) = service else { return SeenService::Absent };
    match controlling_function(&service.metadata) {
        Some(owner) if owner.uid == uid => SeenService::Ours(service.seen()),
        Some(owner) if owner.name == *key.name => SeenService::Predecessor,
        _ => SeenService::Foreign,
    }
}

fn see_revisions(children: &Children, uid: &str, function: &str) -> BTreeMap<String, SeenRevision> {
    let mut revisions: BTreeMap<String, SeenRevision> = BTreeMap::new();
    for deployment in children.deployments.owned_by(uid) {
        if let Some(revision) = revision_of(&deployment.metadata, function) {
            let at_zero = deployment.at_zero();
            revisions.entry(revision).or_default().deployment =
                Some(SeenDeployment { child: deployment.seen(), at_zero });
        }
    }
    for record in children.records.owned_by(uid) {
        if let Some(revision) = revision_of(&record.metadata, function) {
            let template = record.data.value().get_mut("template").map(serde_json::Value::take);
            revisions.entry(revision).or_default().record = Some(SeenRecord {
                child: record.seen(),
                number: record.revision,
                template: template.unwrap_or_default(),
            });
        }
    }
    revisions
}

/// The revision that a child is named for. Its label may have been lost, and is put right then.
fn revision_of(child: &ObjectMeta, function: &str) -> Option<String> {
    let rest = child.name.as_deref()?.strip_prefix(function)?;
    rest.strip_prefix('-').map(str::to_owned)
}
