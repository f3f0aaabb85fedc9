//! Makes the local API hold what the files say: applies what changed, deletes what is gone, and tells
//! what is refused by file, line and field.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams,
    ValidationDirective,
};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use rouse_crds::v1alpha1::{ConditionType, Function};
use serde_json::json;
use tokio::time::timeout;

use super::objects::{Key, Kind, Mistake, Object, Objects};

/// Owner of the fields that are written.
const MANAGER: &str = "rouse-dev";
/// How long Functions may take until they can be called. What takes longer is told by itself.
const KNOWN: Duration = Duration::from_secs(2);

/// What the API holds of the files.
pub struct Applied {
    client: Client,
    objects: Objects,
    namespaces: BTreeSet<String>,
}

/// What an application has changed.
#[derive(Debug, Default)]
pub struct Change {
    /// What was made or changed.
    pub applied: Vec<Key>,
    /// What went.
    pub deleted: Vec<Key>,
    /// What was refused; it is as it was before.
    pub mistakes: Vec<Mistake>,
}

impl Applied {
    /// Nothing yet.
    pub const fn new(client: Client) -> Self {
        Self { client, objects: Objects::new(), namespaces: BTreeSet::new() }
    }

    /// What is there.
    pub const fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Makes it hold `wanted`. What can't be written for another reason than a mistake is an error.
    pub async fn apply(&mut self, wanted: Objects) -> anyhow::Result<Change> {
        let mut change = Change::default();
        let gone: Vec<Key> =
            self.objects.keys().filter(|key| !wanted.contains_key(key)).cloned().rev().collect();
        for key in gone {
            // Others may have deleted it.
            let _ = self.api(&key).delete(&key.name, &DeleteParams::default()).await;
            self.objects.remove(&key);
            change.deleted.push(key);
        }
        for (key, object) in wanted {
            if self.objects.get(&key).is_some_and(|there| there.value == object.value) {
                self.objects.insert(key, object);
                continue;
            }
            self.make_namespace(&key.namespace).await?;
            match self.write(&key, &object).await? {
                Ok(()) => {
                    change.applied.push(key.clone());
                    self.objects.insert(key, object);
                }
                Err(mistakes) => change.mistakes.extend(mistakes),
            }
        }
        Ok(change)
    }

    /// Waits until all Functions can be called, or are known not to, for a while.
    pub async fn until_known(&self) {
        let all = async {
            for key in self.objects.keys().filter(|key| key.kind == Kind::Function) {
                let api = Api::<Function>::namespaced(self.client.clone(), &key.namespace);
                // A watch that fails has nothing to wait for.
                let _ = await_condition(api, &key.name, is_known).await;
            }
        };
        let _ = timeout(KNOWN, all).await;
    }

    async fn make_namespace(&mut self, name: &str) -> anyhow::Result<()> {
        if name.is_empty() || !self.namespaces.insert(name.to_owned()) {
            return Ok(());
        }
        make_namespace(&self.client, name).await
    }

    async fn write(&self, key: &Key, object: &Object) -> anyhow::Result<Result<(), Vec<Mistake>>> {
        let mut params = PatchParams::apply(MANAGER).force();
        params.field_validation = Some(ValidationDirective::Strict);
        let written = self.api(key).patch(&key.name, &params, &Patch::Apply(&object.value)).await;
        match written {
            Ok(_) => Ok(Ok(())),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 409 | 422) => {
                Ok(Err(mistakes(key, object, &status)))
            }
            Err(error) => Err(anyhow::Error::new(error).context(format!("applying {key}"))),
        }
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        let (version, kind, plural) = key.kind.names();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let names = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&names, plural);
        match key.kind {
            Kind::Namespace => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), &key.namespace, &resource),
        }
    }
}

/// Makes a namespace, if it is not there.
pub async fn make_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let api = Api::<Namespace>::all(client.clone());
    let wanted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let params = PatchParams::apply(MANAGER).force();
    api.patch(name, &params, &Patch::Apply(&wanted)).await?;
    Ok(())
}

fn is_known(function: Option<&Function>) -> bool {
    let status = function.and_then(|function| function.status.as_ref());
    let is = |kind: ConditionType| {
        let conditions = status.into_iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|it| it.type_ == kind.as_str() && it.status == "True")
    };
    is(ConditionType::Ready) || is(ConditionType::Stalled)
}

/// What the API says against an object, where it stands.
fn mistakes(key: &Key, object: &Object, status: &kube::core::Status) -> Vec<Mistake> {
    let line = |field: &str| object.document.as_ref().map(|document| document.line_of(field));
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let told: Vec<Mistake> = causes
        .map(|cause| Mistake {
            file: object.file.clone(),
            line: line(&cause.field),
            field: cause.field.clone(),
            rule: cause.message.clone(),
        })
        .collect();
    if told.is_empty() {
        let unknown: Vec<Mistake> = unknown_fields(&status.message)
            .map(|field| Mistake {
                file: object.file.clone(),
                line: line(field),
                field: field.to_owned(),
                rule: "there is no such field: mend its name or where it stands".to_owned(),
            })
            .collect();
        if !unknown.is_empty() {
            return unknown;
        }
        let rule = format!("{key} is refused: {}", status.message);
        return vec![Mistake {
            file: object.file.clone(),
            line: line(""),
            field: String::new(),
            rule,
        }];
    }
    told
}

/// The fields that a strict API says it does not know.
fn unknown_fields(message: &str) -> impl Iterator<Item = &str> {
    message.split("unknown field \"").skip(1).filter_map(|rest| rest.split('"').next())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::core::response::{StatusCause, StatusDetails};

    use super::super::yaml::Document;
    use super::*;

    fn told(status: &Status) -> Vec<String> {
        let text =
            "kind: Function\nmetadata: {name: a}\nspec:\n  imag: x\n  concurrency: {limit: 9999}\n";
        let document = Document::read_all(text).unwrap().remove(0);
        let key = Key { kind: Kind::Function, namespace: "shop".into(), name: "a".into() };
        let value = document.value.clone();
        let object = Object { value, file: "a.yaml".into(), document: Some(document) };
        mistakes(&key, &object, status).iter().map(Mistake::to_string).collect()
    }

    #[test]
    fn what_is_refused_is_told_where_it_stands() {
        let causes = vec![StatusCause {
            reason: "FieldValueInvalid".into(),
            message: "Invalid value: 9999: must be at most 1000".into(),
            field: "spec.concurrency.limit".into(),
        }];
        let details = StatusDetails {
            name: "a".into(),
            group: "rouse.dev".into(),
            kind: "Function".into(),
            uid: String::new(),
            causes,
            retry_after_seconds: 0,
        };
        let status = Status { details: Some(details), ..Status::default() };
        let said = "a.yaml:5: spec.concurrency.limit: Invalid value: 9999: must be at most 1000";
        assert_eq!(told(&status), [said]);
        let message = "strict decoding error: unknown field \"spec.imag\"".to_owned();
        let status = Status { message, ..Status::default() };
        let said = "a.yaml:4: spec.imag: there is no such field: mend its name or where it stands";
        assert_eq!(told(&status), [said]);
        let status = Status { message: "no".into(), ..Status::default() };
        assert_eq!(told(&status), ["a.yaml:1: Function shop/a is refused: no"]);
    }
}
