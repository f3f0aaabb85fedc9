//! Carries a plan out: the only writer of Functions' children. What the API server refuses becomes
//! trouble for the status; what fails otherwise becomes an error, and is tried again.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::{Api, Resource};
use rouse_core::function::covers;
use rouse_core::function::names::{FunctionKey, MANAGER_ACTIVATOR, MANAGER_CONTROLLER};
use rouse_core::function::plan::{ChildKind, Deletion, Outlook, Plan, RevisionStep, Verb, Write};
use rouse_core::function::status::Trouble;
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{Class, Error, api_status, classify, is_code};
use crate::index::{Index, ObjectKey, controlling_function};
use crate::objects::{Child, Kind};

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

/// Whose plan it is, and what it may use.
struct Applier<'a> {
    context: &'a Context,
    key: &'a FunctionKey,
    uid: &'a str,
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
    let mut applier = Applier { context, key, uid, trouble: None, retry_at: None };
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

impl Applier<'_> {
    /// Whether the write was taken, or there was none to do.
    async fn write(&mut self, write: Option<Write>) -> Result<bool, Error> {
        let Some(write) = write else { return Ok(true) };
        let refusal = match self.context.memory.refusal(self.uid, &write) {
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
        let children = &self.context.children;
        let outcome = match write.kind {
            ChildKind::Deployment => self.send(&children.deployments, write).await?,
            ChildKind::ControllerRevision => self.send(&children.records, write).await?,
            ChildKind::Service => self.send(&children.services, write).await?,
        };
        let memory = &self.context.memory;
        Ok(match outcome {
            Outcome::Taken => {
                memory.accept(self.uid, write);
                None
            }
            Outcome::Changed => Some(memory.refuse(self.uid, write, None)),
            Outcome::Refused(trouble) => Some(memory.refuse(self.uid, write, Some(trouble))),
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
                let (reason, message) = (refusal_word(write.kind), status.message.clone());
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
        let manager = match write.kind {
            // Whoever creates it owns `replicas`, and those are the scaler's.
            ChildKind::Deployment => MANAGER_ACTIVATOR,
            ChildKind::ControllerRevision | ChildKind::Service => MANAGER_CONTROLLER,
        };
        let params = PostParams { field_manager: Some(manager.to_owned()), dry_run: false };
        let path = Child::<K>::url_path(&(), Some(&self.key.namespace));
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
        let owner = there.as_ref().and_then(|there| controlling_function(&there.metadata));
        let kind_word = write.kind.as_str();
        Ok(match owner {
            Some(owner) if owner.uid == self.uid => {
                let (kind, name) = (write.kind, write.name.clone());
                if let Some(there) = there {
                    index.assume(there);
                }
                return Err(Error::Unseen { kind, name });
            }
            Some(owner) if owner.name == *self.key.name => Outcome::Refused(Trouble {
                reason: "PredecessorLeaving",
                message: format!(
                    "{kind_word} {} of an earlier Function of this name is being removed",
                    write.name
                ),
                passing: true,
            }),
            _ if there.is_none() => {
                let (kind, name) = (write.kind, write.name.clone());
                return Err(Error::Unseen { kind, name });
            }
            _ => Outcome::Refused(Trouble {
                reason: "NameTaken",
                message: format!(
                    "there is a {kind_word} {} that does not belong to this Function, and it is \
                     left as it is: delete it or give the Function another name",
                    write.name
                ),
                passing: false,
            }),
        })
    }

    async fn delete(&self, deletion: Deletion) -> Result<(), Error> {
        let children = &self.context.children;
        match deletion.kind {
            ChildKind::Deployment => self.remove(&children.deployments, deletion).await,
            ChildKind::ControllerRevision => self.remove(&children.records, deletion).await,
            ChildKind::Service => self.remove(&children.services, deletion).await,
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
        index.assume_gone(&ObjectKey::new(&self.key.namespace, &name), &uid);
        Ok(())
    }

    fn api<K: Kind>(&self) -> Api<Child<K>> {
        Api::namespaced(self.context.client.clone(), &self.key.namespace)
    }
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

/// What of the write the answer can be compared with: a record has no `spec`.
fn comparable(write: &Write) -> serde_json::Value {
    let mut body = write.body.clone();
    if let serde_json::Value::Object(members) = &mut body {
        members.retain(|member, _| matches!(member.as_str(), "metadata" | "spec"));
    }
    body
}

const fn verb_word(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Apply => "apply",
    }
}

const fn refusal_word(kind: ChildKind) -> &'static str {
    match kind {
        ChildKind::Deployment => "TemplateRefused",
        ChildKind::ControllerRevision => "RecordRefused",
        ChildKind::Service => "ServiceRefused",
    }
}
