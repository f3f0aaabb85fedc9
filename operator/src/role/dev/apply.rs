//! Makes the local API hold what the files say: applies what changed, deletes what is gone, and tells
//! what is refused by file, line and field.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams,
    PostParams, ValidationDirective,
};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use rouse_crds::v1alpha1::{ConditionType, Function};
use tokio::time::timeout;

use super::objects::{Key, Kind, Mistake, Object, Objects};
use super::roles::NAMESPACE;
use crate::role::MANAGER_DEV;

/// How long Functions may take until they can be called. What takes longer is told by itself.
const KNOWN: Duration = Duration::from_secs(2);

/// What the API holds of the files.
pub struct Applied {
    client: Client,
    objects: Objects,
}

/// What an application has changed.
#[derive(Debug, Default)]
pub struct Change {
    /// What was made.
    pub made: Vec<Key>,
    /// What was there and is another.
    pub changed: Vec<Key>,
    /// What went.
    pub deleted: Vec<Key>,
    /// What was refused; it is as it was before.
    pub mistakes: Vec<Mistake>,
    /// Whether some of it may be taken later as it is: its namespace is about to go, and will be made again.
    pub waits: bool,
}

impl Applied {
    /// Nothing yet.
    pub const fn new(client: Client) -> Self {
        Self { client, objects: Objects::new() }
    }

    /// What is there.
    pub const fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Makes it hold `wanted`, and again what somebody else took away of it.
    pub async fn apply(&mut self, wanted: Objects) -> Change {
        let mut change = Change::default();
        let gone: Vec<Key> =
            self.objects.keys().filter(|key| !wanted.contains_key(key)).cloned().rev().collect();
        for key in gone {
            self.objects.remove(&key);
            if key.kind == Kind::Namespace && is_needed(&key.name, &wanted) {
                // All that is in it would go too.
                continue;
            }
            // Others may have deleted it.
            let _ = self.api(&key).delete(&key.name, &DeleteParams::default()).await;
            change.deleted.push(key);
        }
        for (key, object) in wanted {
            let was = self.objects.contains_key(&key) && self.is_there(&key).await;
            if was && self.objects.get(&key).is_some_and(|there| there.value == object.value) {
                self.objects.insert(key, object);
                continue;
            }
            match self.put(&key, &object).await {
                Ok(()) => {
                    let keys = if was { &mut change.changed } else { &mut change.made };
                    keys.push(key.clone());
                    self.objects.insert(key, object);
                }
                Err(error) => {
                    change.waits |= waits(&error);
                    change.mistakes.extend(refusals(&key, &object, &error));
                }
            }
        }
        change
    }

    /// Whether an object is there; also where that can't be found out.
    async fn is_there(&self, key: &Key) -> bool {
        !matches!(self.api(key).get_metadata_opt(&key.name).await, Ok(None))
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

    /// Makes a namespace, if it is not there.
    pub async fn make_namespace(&self, name: &str) -> Result<(), kube::Error> {
        make_namespace(&self.client, name).await
    }

    /// Writes an object into its namespace.
    async fn put(&self, key: &Key, object: &Object) -> Result<(), kube::Error> {
        if key.kind != Kind::Namespace {
            self.make_namespace(&key.namespace).await?;
        }
        let mut params = PatchParams::apply(MANAGER_DEV).force();
        params.field_validation = Some(ValidationDirective::Strict);
        let written = self.api(key).patch(&key.name, &params, &Patch::Apply(&object.value)).await;
        written.map(drop)
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

/// Whether a namespace is to stay without a file of its own: something stands in it, or Rouse does.
fn is_needed(namespace: &str, wanted: &Objects) -> bool {
    namespace == NAMESPACE || wanted.keys().any(|key| key.namespace == namespace)
}

/// Whether what was refused so may be taken as it is once its namespace is made again.
fn waits(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

/// Makes a namespace, if it is not there.
pub async fn make_namespace(client: &Client, name: &str) -> Result<(), kube::Error> {
    let api = Api::<Namespace>::all(client.clone());
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let wanted = Namespace { metadata, ..Namespace::default() };
    match api.create(&PostParams::default(), &wanted).await {
        // What a file says of it stays.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made.map(drop),
    }
}

fn is_known(function: Option<&Function>) -> bool {
    let status = function.and_then(|function| function.status.as_ref());
    let is = |kind: ConditionType| {
        let conditions = status.into_iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|it| it.type_ == kind.as_str() && it.status == "True")
    };
    is(ConditionType::Ready) || is(ConditionType::Stalled)
}

/// Why an object is not written, where it stands.
fn refusals(key: &Key, object: &Object, error: &kube::Error) -> Vec<Mistake> {
    if let kube::Error::Api(status) = error {
        return mistakes(key, object, status);
    }
    vec![Mistake {
        file: object.file.clone(),
        line: object.document.as_ref().map(|document| document.line),
        field: String::new(),
        rule: format!("{key} can't be applied: {error}"),
    }]
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
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::Status;
    use kube::core::response::{StatusCause, StatusDetails};
    use serde_json::json;

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

    /// Objects of a namespace: itself, or what stands in it.
    fn objects(all: &[(Kind, &str, &str)]) -> Objects {
        let object = |(kind, namespace, name): &(Kind, &str, &str)| {
            let (version, named, _) = kind.names();
            let key = Key { kind: *kind, namespace: (*namespace).into(), name: (*name).into() };
            let value = json!({"apiVersion": version, "kind": named, "metadata": {"name": name}});
            (key, Object { value, file: "a.yaml".into(), document: None })
        };
        all.iter().map(object).collect()
    }

    const SHOP: (Kind, &str, &str) = (Kind::Namespace, "", "shop");
    const WORDS: (Kind, &str, &str) = (Kind::ConfigMap, "shop", "words");

    fn local() -> (Client, Applied) {
        let api = rouse_local::api::Api::start(rouse_local::api::ApiOptions::default()).unwrap();
        let client = api.client("default");
        (client.clone(), Applied::new(client))
    }

    #[tokio::test]
    async fn a_namespace_stays_with_what_is_in_it_and_what_others_took_comes_back() {
        let (client, mut applied) = local();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
        assert_eq!(applied.apply(objects(&[SHOP, WORDS])).await.made.len(), 2);
        let uid = maps.get("words").await.unwrap().metadata.uid;
        let change = applied.apply(objects(&[WORDS])).await;
        assert!(change.deleted.is_empty(), "{change:?}");
        assert_eq!(maps.get("words").await.unwrap().metadata.uid, uid);
        maps.delete("words", &DeleteParams::default()).await.unwrap();
        let change = applied.apply(objects(&[WORDS])).await;
        assert_eq!(change.made.len(), 1, "{change:?}");
        assert_eq!(applied.apply(objects(&[SHOP])).await.deleted.len(), 1);
        assert_eq!(applied.apply(objects(&[])).await.deleted.len(), 1);
        assert!(Api::<Namespace>::all(client).get_opt("shop").await.unwrap().is_none());
        let change = applied.apply(objects(&[WORDS])).await;
        assert!(change.mistakes.is_empty() && change.made.len() == 1, "{change:?}");
    }

    #[tokio::test]
    async fn what_can_not_be_written_is_a_mistake_of_its_file_and_maybe_for_a_while() {
        let (client, mut applied) = local();
        let odd = (Kind::ConfigMap, "shop", "no name/at all");
        let change = applied.apply(objects(&[SHOP, WORDS, odd])).await;
        assert_eq!((change.made.len(), change.mistakes.len()), (2, 1), "{change:?}");
        let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
        let hold = async |finalizers: serde_json::Value| {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
            maps.patch("words", &PatchParams::default(), &patch).await.unwrap();
        };
        hold(json!(["example.com/hold"])).await;
        applied.apply(objects(&[])).await;
        let other = (Kind::ConfigMap, "shop", "others");
        let change = applied.apply(objects(&[other])).await;
        assert!(change.waits && change.mistakes.len() == 1, "{change:?}");
        hold(json!(null)).await;
        let change = applied.apply(objects(&[other])).await;
        assert!(!change.waits && change.made.len() == 1, "{change:?}");
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
