//! Carries plans out: the only writer of Functions' children, and of what runs beside them. What the API
//! server refuses becomes trouble for the status; what fails otherwise becomes an error, and is tried again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::{Api, Resource};
use rouse_core::function::covers;
use rouse_core::function::names::{
    FunctionKey, LABEL_MANAGED_BY, MANAGED_BY, MANAGER_ACTIVATOR, MANAGER_CONTROLLER,
};
use rouse_core::function::plan::{ChildKind, Deletion, Outlook, Plan, RevisionStep, Verb, Write};
use rouse_core::function::status::Trouble;
use rouse_core::resident::{LABEL_COMPONENT, Resident, ResidentPlan};
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{Class, Error, api_status, classify, is_code};
use crate::index::{Index, ObjectKey, controlling_function};
use crate::objects::{Child, Deployment, Kind};

/// What became of a plan.
#[derive(Debug)]
pub(crate) struct Applied {
    /// What the plan found, with what has been created since.
    pub outlook: Outlook,
    /// What the API server refused first.
    pub trouble: Option<Trouble>,
    /// When what was refused is worth another try.
    pub retry_at: Option<Instant>,
}

/// Whose children they are.
#[derive(Clone, Copy)]
enum Whose<'a> {
    /// Those of the Function of this name and UID.
    Function { name: &'a str, uid: &'a str },
    /// Those of what Rouse runs in a namespace.
    Resident(Resident),
}

/// Whose plan it is, and what it may use.
struct Applier<'a> {
    context: &'a Context,
    namespace: &'a str,
    whose: Whose<'a>,
    /// What is remembered of it is kept by this.
    memory_key: &'a str,
    trouble: Option<Trouble>,
    retry_at: Option<Instant>,
}

/// Carries out `plan` for the Function `key` with the UID `uid`.
pub(crate) async fn apply(
    context: &Context,
    key: &FunctionKey,
    uid: &str,
    plan: Plan,
) -> Result<Applied, Error> {
    let Plan { service, revisions, deletions, mut outlook } = plan;
    let mut applier = Applier {
        context,
        namespace: &key.namespace,
        whose: Whose::Function { name: &key.name, uid },
        memory_key: uid,
        trouble: None,
        retry_at: None,
    };
    for RevisionStep { revision, deployment, record } in revisions {
        let is_new = deployment.as_ref().is_some_and(|write| write.verb == Verb::Create);
        let taken = applier.write(deployment).await?;
        if taken {
            outlook.newest_runs |= is_new && revision == outlook.newest;
            applier.write(record).await?;
        }
    }
    applier.write(service).await?;
    for deletion in deletions {
        applier.delete(deletion).await?;
    }
    let Applier { trouble, retry_at, .. } = applier;
    Ok(Applied { outlook, trouble, retry_at })
}

/// Carries out `plan` for a resident of `namespace`; what the API server refused first.
pub(crate) async fn apply_resident(
    context: &Context,
    (resident, namespace): (Resident, &str),
    plan: ResidentPlan,
) -> Result<Option<Trouble>, Error> {
    let ResidentPlan { writes, deletions } = plan;
    let memory_key = format!("{} of {namespace}", resident.name());
    let mut applier = Applier {
        context,
        namespace,
        whose: Whose::Resident(resident),
        memory_key: &memory_key,
        trouble: None,
        retry_at: None,
    };
    for write in writes {
        // The account and its rights come first: a pod without them would only fail.
        if !applier.write(Some(write)).await? {
            break;
        }
    }
    for deletion in deletions {
        applier.delete(deletion).await?;
    }
    Ok(applier.trouble)
}

impl Applier<'_> {
    /// Whether the write was taken, or there was none to do.
    async fn write(&mut self, write: Option<Write>) -> Result<bool, Error> {
        let Some(write) = write else { return Ok(true) };
        let refusal = match self.context.memory.refusal(self.memory_key, &write) {
            Some(refusal) => Some(refusal),
            None => self.try_write(&write).await?,
        };
        let Some(refusal) = refusal else { return Ok(true) };
        // What something changes on its way is tried again when there is another reason to look.
        let Some(trouble) = refusal.trouble else { return Ok(true) };
        self.retry_at = Some(self.retry_at.map_or(refusal.until, |at| at.min(refusal.until)));
        self.trouble.get_or_insert(trouble);
        Ok(false)
    }

    async fn try_write(&self, write: &Write) -> Result<Option<crate::memory::Refusal>, Error> {
        let (children, residents) = (&self.context.children, &self.context.residents);
        let outcome = match write.kind {
            ChildKind::Deployment => self.send(self.deployments(), write).await?,
            ChildKind::ControllerRevision => self.send(&children.records, write).await?,
            ChildKind::Service => self.send(&children.services, write).await?,
            ChildKind::ServiceAccount => self.send(&residents.accounts, write).await?,
            ChildKind::RoleBinding => self.send(&residents.bindings, write).await?,
        };
        let memory = &self.context.memory;
        Ok(match outcome {
            Outcome::Taken => {
                memory.accept(self.memory_key, write);
                None
            }
            Outcome::Changed => Some(memory.refuse(self.memory_key, write, None)),
            Outcome::Refused(trouble) => Some(memory.refuse(self.memory_key, write, Some(trouble))),
        })
    }

    async fn send<K: Kind>(
        &self,
        index: &Index<Child<K>>,
        write: &Write,
    ) -> Result<Outcome, Error> {
        let (doing, sent) = match write.verb {
            Verb::Create => ("creating", self.create::<K>(write).await),
            Verb::Apply => ("applying", self.patch::<K>(write).await),
        };
        let source = match sent {
            Ok(child) => {
                self.context.metrics.wrote(write.kind.as_str(), verb_word(write.verb));
                let kept = covers(&child.seen().body, &comparable(write));
                index.assume(child);
                return Ok(if kept { Outcome::Taken } else { Outcome::Changed });
            }
            Err(source) => source,
        };
        if write.verb == Verb::Create && is_code(&source, 409) {
            return self.see_who_has_the_name::<K>(index, write).await;
        }
        let class = classify(&source);
        match api_status(&source) {
            Some(status) if matches!(class, Class::Invalid | Class::Forbidden) => {
                let (reason, message) = (self.refusal_word(write.kind), status.message.clone());
                Ok(Outcome::Refused(Trouble { reason, message, passing: false }))
            }
            _ => {
                let (kind, name) = (write.kind, write.name.clone());
                Err(Error::Child { doing, kind, name, source })
            }
        }
    }

    /// POST, and strictly: a field that the API server does not know is an error, not a shrug.
    async fn create<K: Kind>(&self, write: &Write) -> kube::Result<Child<K>> {
        let manager = match (self.whose, write.kind) {
            // Whoever creates it owns `replicas`, and those are the scaler's.
            (Whose::Function { .. }, ChildKind::Deployment) => MANAGER_ACTIVATOR,
            _ => MANAGER_CONTROLLER,
        };
        let params = PostParams { field_manager: Some(manager.to_owned()), dry_run: false };
        let path = Child::<K>::url_path(&(), Some(self.namespace));
        let body = serde_json::to_vec(&write.body).map_err(kube::Error::SerdeError)?;
        let mut request =
            Request::new(path).create(&params, body).map_err(kube::Error::BuildRequest)?;
        let strict = format!("{}&fieldValidation=Strict", request.uri());
        let invalid = |error: http::uri::InvalidUri| kube::Error::HttpError(error.into());
        *request.uri_mut() = strict.parse().map_err(invalid)?;
        self.context.client.request(request).await
    }

    /// Server-side apply; the UID in the body keeps it from another object of the same name.
    async fn patch<K: Kind>(&self, write: &Write) -> kube::Result<Child<K>> {
        let params = PatchParams::apply(MANAGER_CONTROLLER).force();
        self.api::<K>().patch(&write.name, &params, &Patch::Apply(&write.body)).await
    }

    async fn see_who_has_the_name<K: Kind>(
        &self,
        index: &Index<Child<K>>,
        write: &Write,
    ) -> Result<Outcome, Error> {
        let (kind, name) = (write.kind, write.name.clone());
        let there = self.api::<K>().get_opt(&name).await;
        let there =
            there.map_err(|source| Error::Child { doing: "reading", kind, name, source })?;
        let (kind, name) = (write.kind, write.name.clone());
        let Some(there) = there else { return Err(Error::Unseen { kind, name }) };
        Ok(match self.holder(&there.metadata) {
            Holder::Own => {
                index.assume(there);
                return Err(Error::Unseen { kind, name });
            }
            Holder::Predecessor => Outcome::Refused(Trouble {
                reason: "PredecessorLeaving",
                message: format!(
                    "{} {name} of an earlier Function of this name is being removed",
                    kind.as_str()
                ),
                passing: true,
            }),
            Holder::Stranger => Outcome::Refused(Trouble {
                reason: "NameTaken",
                message: format!(
                    "there is a {} {name} that does not belong {}",
                    kind.as_str(),
                    match self.whose {
                        Whose::Function { .. } => {
                            "to this Function, and it is left as it is: delete it or give the \
                             Function another name"
                        }
                        Whose::Resident(_) => {
                            "to Rouse, and it is left as it is: delete it or give it another name"
                        }
                    }
                ),
                passing: false,
            }),
        })
    }

    /// Who has a name that is needed.
    fn holder(&self, meta: &ObjectMeta) -> Holder {
        match (self.whose, controlling_function(meta)) {
            (Whose::Function { uid, .. }, Some(owner)) if owner.uid == uid => Holder::Own,
            (Whose::Function { name, .. }, Some(owner)) if owner.name == name => {
                Holder::Predecessor
            }
            (Whose::Resident(resident), None) if is_of(resident, meta) => Holder::Own,
            _ => Holder::Stranger,
        }
    }

    const fn refusal_word(&self, kind: ChildKind) -> &'static str {
        match (self.whose, kind) {
            (Whose::Function { .. }, ChildKind::Deployment) => "TemplateRefused",
            (Whose::Function { .. }, ChildKind::ControllerRevision) => "RecordRefused",
            (Whose::Function { .. }, ChildKind::Service) => "ServiceRefused",
            (Whose::Resident(Resident::Keeper), _) => "KeeperRefused",
            (_, ChildKind::ServiceAccount | ChildKind::RoleBinding)
            | (Whose::Resident(Resident::Source), _) => "SourceRefused",
        }
    }

    /// Those that it writes.
    fn deployments(&self) -> &Index<Deployment> {
        match self.whose {
            Whose::Function { .. } => &self.context.children.deployments,
            Whose::Resident(_) => &self.context.residents.deployments,
        }
    }

    async fn delete(&self, deletion: Deletion) -> Result<(), Error> {
        let (children, residents) = (&self.context.children, &self.context.residents);
        match deletion.kind {
            ChildKind::Deployment => self.remove(self.deployments(), deletion).await,
            ChildKind::ControllerRevision => self.remove(&children.records, deletion).await,
            ChildKind::Service => self.remove(&children.services, deletion).await,
            ChildKind::ServiceAccount => self.remove(&residents.accounts, deletion).await,
            ChildKind::RoleBinding => self.remove(&residents.bindings, deletion).await,
        }
    }

    /// Gone already is as good; changed meanwhile means that it must be decided anew.
    async fn remove<K: Kind>(
        &self,
        index: &Index<Child<K>>,
        deletion: Deletion,
    ) -> Result<(), Error> {
        let Deletion { kind, name, uid, resource_version } = deletion;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.clone()),
                resource_version: Some(resource_version),
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match self.api::<K>().delete(&name, &params).await {
            Ok(_) => self.context.metrics.wrote(kind.as_str(), "delete"),
            Err(source) if is_code(&source, 404) => {}
            Err(source) => return Err(Error::Child { doing: "deleting", kind, name, source }),
        }
        index.assume_gone(&ObjectKey::new(self.namespace, &name), &uid);
        Ok(())
    }

    fn api<K: Kind>(&self) -> Api<Child<K>> {
        Api::namespaced(self.context.client.clone(), self.namespace)
    }
}

/// Who has a name.
enum Holder {
    /// Whom the plan is for.
    Own,
    /// An earlier Function of the same name.
    Predecessor,
    /// Somebody else.
    Stranger,
}

/// Whether it is of the resident: by its labels, for it has no owner.
fn is_of(resident: Resident, meta: &ObjectMeta) -> bool {
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
    label(LABEL_MANAGED_BY).is_some_and(|value| value == MANAGED_BY)
        && label(LABEL_COMPONENT).is_some_and(|value| value == resident.component())
}

/// What became of a write.
enum Outcome {
    /// It is as it was sent.
    Taken,
    /// It was taken, but something on the way changed it.
    Changed,
    /// The API server will not have it.
    Refused(Trouble),
}

/// What of the write the answer can be compared with: what a record holds is not read back.
fn comparable(write: &Write) -> serde_json::Value {
    let mut body = write.body.clone();
    if let serde_json::Value::Object(members) = &mut body {
        members.retain(|member, _| !matches!(member.as_str(), "data" | "revision"));
    }
    body
}

const fn verb_word(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Apply => "apply",
    }
}
