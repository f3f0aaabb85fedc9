//! The API as clients see it: within the process, by the same client that the roles use.

mod kubectl;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, pin_mut};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{
    Api as Objects, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy, WatchEvent, WatchParams,
};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use rouse_crds::v1alpha1::Function;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;

const SEED: u64 = 7;
/// How long anything may take that happens at once.
const SOON: Duration = Duration::from_secs(20);

fn client() -> Client {
    Api::start(ApiOptions { seed: Some(SEED) }).unwrap().client("default")
}

fn objects<K>(client: &Client) -> Objects<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Objects::default_namespaced(client.clone())
}

async fn make<K>(client: &Client, object: Value) -> K
where
    K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned,
    K: Clone + std::fmt::Debug,
    K::DynamicType: Default,
{
    let object = serde_json::from_value(object).unwrap();
    objects(client).create(&PostParams::default(), &object).await.unwrap()
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"value": value}}, "data": {"key": value}})
}

fn deployment(replicas: u32) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "function", "image": "a"}]},
            },
        },
    })
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn objects_are_made_read_changed_and_taken_away() {
    let client = client();
    let maps: Objects<ConfigMap> = objects(&client);
    assert!(maps.get_opt("a").await.unwrap().is_none());
    let made: ConfigMap = make(&client, config_map("a", "1")).await;
    assert_eq!(made.metadata.namespace.as_deref(), Some("default"));
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let again = serde_json::from_value(config_map("a", "1")).unwrap();
    let error = maps.create(&PostParams::default(), &again).await.unwrap_err();
    assert_eq!(code(&error), 409);
    assert!(error.to_string().contains("configmaps \"a\" already exists"), "{error}");

    let mut newer = made.clone();
    newer.data.as_mut().unwrap().insert("key".into(), "2".into());
    let newer = maps.replace("a", &PostParams::default(), &newer).await.unwrap();
    assert_ne!(newer.metadata.resource_version, made.metadata.resource_version);
    let stale = maps.replace("a", &PostParams::default(), &made).await.unwrap_err();
    assert_eq!(code(&stale), 409);
    assert!(stale.to_string().contains("please apply your changes to the latest version"));
    // Nothing changed, so nothing is written.
    let same = maps.replace("a", &PostParams::default(), &newer).await.unwrap();
    assert_eq!(same.metadata.resource_version, newer.metadata.resource_version);

    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..DeleteParams::default() };
    assert_eq!(code(&maps.delete("a", &params).await.unwrap_err()), 409);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
    assert_eq!(code(&maps.delete("a", &DeleteParams::default()).await.unwrap_err()), 404);
}

#[tokio::test]
async fn names_are_made_up_and_namespaces_must_exist() {
    let client = client();
    let named: ConfigMap = make(&client, json!({"metadata": {"generateName": "a-"}})).await;
    let name = named.metadata.name.unwrap();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
    let elsewhere: Objects<ConfigMap> = Objects::namespaced(client, "nowhere");
    let map = serde_json::from_value(config_map("a", "1")).unwrap();
    let error = elsewhere.create(&PostParams::default(), &map).await.unwrap_err();
    assert_eq!(code(&error), 404);
    assert!(error.to_string().contains("namespaces \"nowhere\" not found"), "{error}");
}

#[tokio::test]
async fn lists_come_in_parts_and_by_selectors() {
    let client = client();
    for number in 0..7 {
        let _: ConfigMap =
            make(&client, config_map(&format!("m{number}"), &(number % 2).to_string())).await;
    }
    let maps: Objects<ConfigMap> = Objects::all(client);
    let mut params = ListParams::default().limit(3);
    let (mut names, mut versions) = (Vec::new(), Vec::new());
    loop {
        let page = maps.list(&params).await.unwrap();
        names.extend(page.items.into_iter().filter_map(|map| map.metadata.name));
        versions.push(page.metadata.resource_version.unwrap());
        let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else { break };
        params = params.continue_token(&token);
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    versions.dedup();
    assert_eq!(versions.len(), 1);
    let odd = maps.list(&ListParams::default().labels("value=1")).await.unwrap();
    assert_eq!(odd.items.len(), 3);
    let one = maps.list(&ListParams::default().fields("metadata.name=m4")).await.unwrap();
    assert_eq!(one.items.len(), 1);
    let metadata = maps.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(metadata.items.len(), 7);
}

#[tokio::test]
async fn a_watch_tells_what_its_selector_sees() {
    let client = client();
    let first: ConfigMap = make(&client, config_map("a", "1")).await;
    let maps: Objects<ConfigMap> = objects(&client);
    let version = first.metadata.resource_version.unwrap();
    let events = maps.watch(&WatchParams::default().labels("value=1"), &version).await.unwrap();
    pin_mut!(events);
    let patch = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"value": value}}}));
    let params = PatchParams::default();
    maps.patch("a", &params, &patch("2")).await.unwrap();
    maps.patch("a", &params, &patch("1")).await.unwrap();
    let _: ConfigMap = make(&client, config_map("b", "2")).await;
    let annotated = json!({"metadata": {"annotations": {"x": "y"}}});
    maps.patch("a", &params, &Patch::Merge(annotated)).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 4 {
        let event = timeout(SOON, events.try_next()).await.unwrap().unwrap().unwrap();
        told.push(match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(told, ["deleted", "added", "modified", "deleted"]);
}

#[tokio::test]
async fn a_watch_that_fell_behind_begins_anew() {
    let client = client();
    let maps: Objects<ConfigMap> = objects(&client);
    let made: ConfigMap = make(&client, config_map("a", "1")).await;
    let version = made.metadata.resource_version.unwrap();
    for number in 0..3000 {
        let patch = Patch::Merge(json!({"data": {"key": number.to_string()}}));
        maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    }
    for version in [version.as_str(), "999999999"] {
        let events = maps.watch(&WatchParams::default(), version).await.unwrap();
        pin_mut!(events);
        match timeout(SOON, events.next()).await.unwrap() {
            Some(Ok(WatchEvent::Error(status))) => assert_eq!(status.code, 410),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_misses_nothing_while_others_change_nor_when_its_own_is_large() {
    let client = client();
    let maps: Objects<ConfigMap> = objects(&client);
    let functions: Objects<Function> = objects(&client);
    let code = "x".repeat(600 << 10);
    let body = json!({"metadata": {"name": "f"}, "spec": {"source": {
        "runtime": "python3.11", "handler": "app.py", "files": {"app.py": code},
    }}});
    let made: Function = make(&client, body).await;
    let version = made.metadata.resource_version.unwrap();
    let events = functions.watch(&WatchParams::default(), &version).await.unwrap();
    pin_mut!(events);
    let _: ConfigMap = make(&client, config_map("a", "1")).await;
    for number in 0..3000 {
        let patch = Patch::Merge(json!({"data": {"key": number.to_string()}}));
        maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    }
    for number in 0..3 {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"n": number.to_string()}}}));
        functions.patch("f", &PatchParams::default(), &patch).await.unwrap();
    }
    for _ in 0..3 {
        let event = timeout(SOON, events.try_next()).await.unwrap().unwrap();
        assert!(matches!(event, Some(WatchEvent::Modified(_))), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_a_bookmark_and_costs_nothing_meanwhile() {
    let client = client();
    let maps: Objects<ConfigMap> = objects(&client);
    let events = maps.watch(&WatchParams::default().timeout(60), "0").await.unwrap();
    pin_mut!(events);
    let begun = tokio::time::Instant::now();
    let last = events.try_next().await.unwrap();
    assert!(matches!(last, Some(WatchEvent::Bookmark(_))), "{last:?}");
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert!(events.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn the_watcher_of_the_roles_sees_what_there_is_and_what_comes() {
    let client = client();
    let _: ConfigMap = make(&client, config_map("a", "1")).await;
    for config in
        [watcher::Config::default().page_size(1), watcher::Config::default().streaming_lists()]
    {
        let events = watcher(Objects::<ConfigMap>::all(client.clone()), config);
        pin_mut!(events);
        let mut told = Vec::new();
        while told.last() != Some(&"done") {
            match timeout(SOON, events.try_next()).await.unwrap().unwrap().unwrap() {
                Event::Init => {}
                Event::InitApply(map) => {
                    told.push(if map.metadata.name.as_deref() == Some("a") { "a" } else { "?" });
                }
                Event::InitDone => told.push("done"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, ["a", "done"]);
        let _: ConfigMap = make(&client, json!({"metadata": {"name": "later"}})).await;
        let event = timeout(SOON, events.try_next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(event, Event::Apply(_)));
        let maps: Objects<ConfigMap> = objects(&client);
        maps.delete("later", &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_scale_write_makes_pods_and_takes_the_cheapest_away() {
    let client = client();
    let made: Deployment = make(&client, deployment(0)).await;
    assert_eq!(made.metadata.generation, Some(1));
    let (deployments, pods) = (objects::<Deployment>(&client), objects::<Pod>(&client));
    let scale = |replicas: u32| Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let params = PatchParams { field_manager: Some("x".into()), ..PatchParams::default() };
    let scaled = deployments.patch_scale("web", &params, &scale(3)).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    let all = pods.list(&ListParams::default().labels("app=web")).await.unwrap().items;
    assert_eq!(all.len(), 3);
    let sets = objects::<ReplicaSet>(&client).list(&ListParams::default()).await.unwrap().items;
    let owner = &all[0].metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(Some(&owner.uid), sets[0].metadata.uid.as_ref());
    assert!(all[0].metadata.labels.as_ref().unwrap().contains_key("pod-template-hash"));

    let names: Vec<String> = all.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
    for (name, cost) in names.iter().zip(["5", "-1", "7"]) {
        run_pod(&pods, name).await;
        let cost = json!({"metadata": {"annotations":
            {"controller.kubernetes.io/pod-deletion-cost": cost}}});
        pods.patch_metadata(name, &PatchParams::default(), &Patch::Merge(cost)).await.unwrap();
    }
    let status = deployments.get("web").await.unwrap().status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (Some(3), Some(3)));
    assert_eq!(status.observed_generation, Some(2));
    deployments.patch_scale("web", &params, &scale(2)).await.unwrap();
    let going = pods.get(&names[1]).await.unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(30));
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&names[1], &now).await.unwrap();
    assert!(pods.get_opt(&names[1]).await.unwrap().is_none());
    // One that failed is replaced.
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    pods.patch_status(&names[0], &PatchParams::default(), &failed).await.unwrap();
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 3);

    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    let sets = objects::<ReplicaSet>(&client).list(&ListParams::default()).await.unwrap();
    assert!(sets.items.is_empty());
    let left = pods.list(&ListParams::default()).await.unwrap().items;
    assert!(
        left.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()
            || pod.metadata.name.as_ref() == Some(&names[0])),
        "{left:?}"
    );
}

/// What a kubelet would do.
async fn run_pod(pods: &Objects<Pod>, name: &str) {
    let binding = json!({"target": {"kind": "Node", "name": "here"}});
    let params = PostParams::default();
    let _: Value = pods.create_subresource("binding", name, &params, &binding).await.unwrap();
    let status = json!({"status": {
        "phase": "Running", "podIP": "127.0.0.2",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn a_changed_template_rolls() {
    let client = client();
    let _: Deployment = make(&client, deployment(2)).await;
    let (deployments, pods) = (objects::<Deployment>(&client), objects::<Pod>(&client));
    for pod in pods.list(&ListParams::default()).await.unwrap().items {
        run_pod(&pods, pod.metadata.name.as_deref().unwrap()).await;
    }
    let change = json!({"spec": {"template": {"spec": {"containers":
        [{"name": "function", "env": [{"name": "A", "value": "1"}]}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(change)).await.unwrap();
    let is_new = |pod: &Pod| {
        let env = &pod.spec.as_ref().unwrap().containers[0].env;
        env.as_ref().is_some_and(|env| !env.is_empty())
    };
    for _ in 0..10 {
        for pod in pods.list(&ListParams::default()).await.unwrap().items {
            let name = pod.metadata.name.as_deref().unwrap();
            let now = DeleteParams::default().grace_period(0);
            if pod.metadata.deletion_timestamp.is_some() {
                pods.delete(name, &now).await.unwrap();
            } else if pod.spec.as_ref().unwrap().node_name.is_none() {
                run_pod(&pods, name).await;
            }
        }
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        let ready = |pod: &&Pod| pod.status.as_ref().unwrap().pod_ip.is_some();
        assert!(all.iter().filter(ready).count() >= 2);
        if all.len() == 2 && all.iter().all(is_new) {
            let sets = objects::<ReplicaSet>(&client).list(&ListParams::default()).await.unwrap();
            assert_eq!(sets.items.len(), 1);
            return;
        }
    }
    panic!("it does not arrive");
}

#[tokio::test]
async fn what_lost_its_owner_goes() {
    let client = client();
    let owner: ConfigMap = make(&client, config_map("owner", "1")).await;
    let under = |name: &str, uid: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid,
        }]}})
    };
    let maps: Objects<ConfigMap> = objects(&client);
    let there = async |name: &str| maps.get_opt(name).await.unwrap().is_some();
    let uid = owner.metadata.uid.unwrap();
    let _: ConfigMap = make(&client, under("a", &uid)).await;
    let _: ConfigMap = make(&client, under("b", "nobody")).await;
    assert!(there("a").await && !there("b").await);
    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    assert!(!there("a").await);

    for (policy, stays) in
        [(PropagationPolicy::Orphan, true), (PropagationPolicy::Foreground, false)]
    {
        let owner: ConfigMap = make(&client, config_map("owner", "1")).await;
        let _: ConfigMap = make(&client, under("c", &owner.metadata.uid.unwrap())).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        maps.delete("owner", &params).await.unwrap();
        assert!(!there("owner").await);
        assert_eq!(there("c").await, stays);
        drop(maps.delete("c", &DeleteParams::default()).await);
    }
}

#[tokio::test]
async fn finalizers_hold_what_is_deleted_and_a_namespace_waits_for_it() {
    let client = client();
    let namespaces: Objects<Namespace> = Objects::all(client.clone());
    let shop = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces.create(&PostParams::default(), &shop).await.unwrap();
    let maps: Objects<ConfigMap> = Objects::namespaced(client, "shop");
    for (name, finalizers) in [("held", json!(["example.com/hold"])), ("free", json!([]))] {
        let map = json!({"metadata": {"name": name, "finalizers": finalizers}});
        let map = serde_json::from_value(map).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    let shop = namespaces.get("shop").await.unwrap();
    assert_eq!(shop.status.unwrap().phase.as_deref(), Some("Terminating"));
    assert!(maps.get_opt("free").await.unwrap().is_none());
    assert!(maps.get("held").await.unwrap().metadata.deletion_timestamp.is_some());
    let map = serde_json::from_value(config_map("new", "1")).unwrap();
    let error = maps.create(&PostParams::default(), &map).await.unwrap_err();
    assert_eq!(code(&error), 403);
    let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &released).await.unwrap();
    assert!(namespaces.get_opt("shop").await.unwrap().is_none());
}

#[tokio::test]
async fn a_function_is_applied_and_its_status_has_its_own_owners() {
    let client = client();
    let functions: Objects<Function> = objects(&client);
    let apply = |body: Value| Patch::Apply(body);
    let wanted = json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "metadata": {"name": "f"},
        "spec": {"image": "a", "scaling": {"max": 5}},
    });
    let deploy = PatchParams::apply("rouse-deploy");
    let made = functions.patch("f", &deploy, &apply(wanted.clone())).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(made.spec.scaling.max, 5);
    let status = |body: Value| {
        let mut whole = wanted.clone();
        whole["status"] = body;
        Patch::Apply(whole)
    };
    let (one, other) = (PatchParams::apply("one").force(), PatchParams::apply("other").force());
    functions.patch_status("f", &one, &status(json!({"url": "http://f"}))).await.unwrap();
    let both = functions.patch_status("f", &other, &status(json!({"replicas": 2}))).await.unwrap();
    let told = both.status.unwrap();
    assert_eq!((told.url.as_deref(), told.replicas), (Some("http://f"), 2));
    assert_eq!(both.metadata.generation, Some(1));
    let less = functions.patch_status("f", &one, &status(json!({}))).await.unwrap();
    assert_eq!(less.status.unwrap().url, None);

    let changed = json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "metadata": {"name": "f"},
        "spec": {"image": "b"},
    });
    let error = functions.patch("f", &PatchParams::apply("me"), &apply(changed.clone())).await;
    let error = error.unwrap_err();
    assert_eq!(code(&error), 409);
    assert!(error.to_string().contains("conflict with \"rouse-deploy\": .spec.image"), "{error}");
    let newer = functions.patch("f", &deploy, &apply(changed)).await.unwrap();
    assert_eq!(newer.metadata.generation, Some(2));
    assert_ne!(newer.spec.scaling.max, 5, "what is not applied any more has its default again");
    let nonsense = Patch::Merge(json!({"spec": {"port": 0}}));
    let error = functions.patch("f", &PatchParams::default(), &nonsense).await.unwrap_err();
    assert_eq!(code(&error), 422);
}

#[tokio::test]
async fn records_stay_as_they_are() {
    let client = client();
    let record = json!({"metadata": {"name": "r"}, "revision": 1, "data": {"a": 1}});
    let _: ControllerRevision = make(&client, record).await;
    let records: Objects<ControllerRevision> = objects(&client);
    let change = Patch::Merge(json!({"data": {"a": 2}}));
    let error = records.patch("r", &PatchParams::default(), &change).await.unwrap_err();
    assert!(error.to_string().contains("data: Invalid value: field is immutable"), "{error}");
}

#[tokio::test]
async fn what_a_type_does_not_know_is_refused_where_that_is_asked_for() {
    let client = client();
    let mut wanted = deployment(0);
    wanted["spec"]["template"]["spec"]["nonsense"] = json!(true);
    let request = |strict: &str| {
        let uri = format!("/apis/apps/v1/namespaces/default/deployments?{strict}");
        ::http::Request::post(uri).body(wanted.to_string().into_bytes()).unwrap()
    };
    let refused = client.request::<Value>(request("fieldValidation=Strict")).await.unwrap_err();
    assert_eq!(code(&refused), 400);
    assert!(
        refused.to_string().contains("unknown field \\\"spec.template.spec.nonsense\\\"")
            || refused.to_string().contains("unknown field \"spec.template.spec.nonsense\""),
        "{refused}"
    );
    client.request::<Value>(request("")).await.unwrap();
    let typed: Result<Value, _> = client
        .request(
            ::http::Request::post("/apis/apps/v1/namespaces/default/deployments")
                .body(
                    json!({"metadata": {"name": "x"}, "spec": {"replicas": "many"}})
                        .to_string()
                        .into_bytes(),
                )
                .unwrap(),
        )
        .await;
    assert_eq!(code(&typed.unwrap_err()), 400);
}

#[tokio::test]
async fn a_token_proves_its_account_and_its_pod() {
    let client = client();
    let _: ServiceAccount = make(&client, json!({"metadata": {"name": "rouse-activator"}})).await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "a"}]}});
    let pod: Pod = make(&client, pod).await;
    let uid = pod.metadata.uid.unwrap();
    let accounts: Objects<ServiceAccount> = objects(&client);
    let wanted: TokenRequest = serde_json::from_value(json!({"spec": {
        "audiences": ["rouse-peer/x"], "expirationSeconds": 3600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid},
    }}))
    .unwrap();
    let given = accounts
        .create_token_request("rouse-activator", &PostParams::default(), &wanted)
        .await
        .unwrap();
    let token = given.status.unwrap().token;
    let reviews: Objects<TokenReview> = Objects::all(client.clone());
    let review = async |audience: &str| {
        let asked = json!({"spec": {"token": token, "audiences": [audience]}});
        let asked = serde_json::from_value(asked).unwrap();
        reviews.create(&PostParams::default(), &asked).await.unwrap().status.unwrap()
    };
    let said = review("rouse-peer/x").await;
    assert_eq!(said.authenticated, Some(true));
    let user = said.user.unwrap();
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:rouse-activator"));
    assert_eq!(user.extra.unwrap()["authentication.kubernetes.io/pod-uid"], [uid]);
    assert_ne!(review("another").await.authenticated, Some(true));
    objects::<Pod>(&client).delete("p", &DeleteParams::default()).await.unwrap();
    assert_ne!(review("rouse-peer/x").await.authenticated, Some(true));
}

#[tokio::test]
async fn what_is_served_can_be_discovered() {
    let client = client();
    let discovery = kube::discovery::Discovery::new(client.clone()).run().await.unwrap();
    assert!(discovery.has_group("rouse.dev") && discovery.has_group("apps"));
    let group = discovery.get("rouse.dev").unwrap();
    let (function, _) = group.recommended_kind("Function").unwrap();
    assert_eq!(function.plural, "functions");
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "33"));
}
