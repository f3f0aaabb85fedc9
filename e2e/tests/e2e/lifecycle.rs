//! Sleeping, waking, scaling, deleting.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams};
use rouse_crds::v1alpha1::Function;
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, condition, hello};
use rouse_e2e::wait;
use serde_json::{Value, json};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_sleeps_wakes_on_a_request_and_sleeps_again() {
    Scope::run("sleep", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;

        let answer = Caller::new(scope.cluster.activator).get(&scope.host("hello"), "/").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body, "Hello, world!\n");
        let pod = answer.header("x-hello-pod").expect("the pod says its name").to_owned();
        let timing = answer.header("server-timing").expect("a wait is explained");
        assert!(timing.contains("rouse-wait;dur="), "{timing}");

        let active =
            scope.function("hello", PATIENCE, |f| condition(f, "Active") == Some("True")).await?;
        assert_eq!(condition(&active, "Ready"), Some("True"));
        let pods = scope.pods("hello", PATIENCE, |pods| !pods.is_empty()).await?;
        assert_eq!(pods[0].metadata.name.as_deref(), Some(pod.as_str()));

        scope.asleep("hello", PATIENCE).await?;
        let slept = scope.function("hello", PATIENCE, |f| last_first_byte(f).is_some()).await?;
        let activation = slept.status.and_then(|s| s.last_activation).expect("it was woken");
        let phases =
            [activation.scaled_millis, activation.addressed_millis, activation.first_byte_millis];
        assert!(phases.is_sorted() && phases[0].is_some(), "{activation:?}");
        Ok(())
    })
    .await;
}

fn last_first_byte(function: &Function) -> Option<u32> {
    function.status.as_ref()?.last_activation.as_ref()?.first_byte_millis
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_burst_at_zero_is_spread_over_pods_that_never_exceed_their_limit() {
    Scope::run("burst", async |scope| {
        let spec = hello(&json!({"concurrency": {"limit": 5}, "scaling": {"max": 10}}));
        scope.apply_function("hello", spec).await?;
        scope.asleep("hello", PATIENCE).await?;

        let caller = Caller::new(scope.cluster.activator);
        let host = scope.host("hello");
        // A few pods come first, until it is seen that these requests take long; they go on for long
        // enough that the others are there before these are done.
        let answers = try_join_all((0..50).map(|_| caller.get(&host, "/?sleep=6000"))).await?;
        let mut by_pod: BTreeMap<&str, u64> = BTreeMap::new();
        for answer in &answers {
            assert_eq!(answer.status, 200, "{answer:?}");
            let most = answer.number("x-hello-most-in-flight").expect("the function counts");
            assert!(most <= 5, "{most} at once in {:?}", answer.header("x-hello-pod"));
            *by_pod.entry(answer.header("x-hello-pod").unwrap_or_default()).or_default() += 1;
        }
        assert!(by_pod.len() >= 8, "only {} pods: {by_pod:?}", by_pod.len());
        assert_eq!(scope.deployments("hello", PATIENCE, |_| true).await?.len(), 1);
        scope.asleep("hello", PATIENCE).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn surplus_pods_go_without_cutting_a_request_off() {
    Scope::run("shrink", async |scope| {
        let spec = hello(&json!({"concurrency": {"limit": 1}, "scaling": {"max": 4}}));
        scope.apply_function("hello", spec).await?;
        scope.asleep("hello", PATIENCE).await?;
        let caller = Caller::new(scope.cluster.activator);
        let host = scope.host("hello");
        // One request goes on while three short ones leave their pods to go.
        let long = caller.get(&host, "/?sleep=30000");
        let short = try_join_all((0..3).map(|_| caller.get(&host, "/?sleep=1000")));
        let shrunk = scope.pods("hello", PATIENCE, |pods| staying(pods) == 4);
        let (long, short, _) = tokio::try_join!(long, short, async {
            shrunk.await?;
            scope.pods("hello", PATIENCE, |pods| staying(pods) == 1).await
        })?;
        assert_eq!(long.status, 200, "{long:?}");
        assert!(short.iter().all(|answer| answer.status == 200), "{short:?}");
        scope.asleep("hello", PATIENCE).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_that_is_evicted_finishes_its_request_and_gets_no_other() {
    Scope::run("evict", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let caller = Caller::new(scope.cluster.activator);
        let host = scope.host("hello");
        let first = caller.get(&host, "/").await?;
        let pod = first.header("x-hello-pod").expect("the pod says its name").to_owned();

        let long = caller.get(&host, "/?sleep=8000");
        let evicted = async {
            let pods: Api<Pod> = scope.api();
            pods.evict(&pod, &EvictParams::default()).await?;
            // Who routes hears of it by a watch of its own: later than this, by as little as it takes.
            loop {
                let answer = caller.get(&host, "/").await?;
                assert_eq!(answer.status, 200, "{answer:?}");
                if answer.header("x-hello-pod") != Some(pod.as_str()) {
                    break;
                }
            }
            scope.pods("hello", PATIENCE, |pods| pods.iter().any(|one| leaves(one, &pod))).await?;
            try_join_all((0..20).map(|_| caller.get(&host, "/"))).await
        };
        let (long, after) = tokio::try_join!(long, evicted)?;
        assert_eq!(long.status, 200, "{long:?}");
        assert_eq!(long.header("x-hello-pod"), Some(pod.as_str()));
        for answer in after {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_ne!(answer.header("x-hello-pod"), Some(pod.as_str()));
        }
        scope.asleep("hello", PATIENCE).await
    })
    .await;
}

fn leaves(pod: &Pod, name: &str) -> bool {
    pod.metadata.name.as_deref() == Some(name) && pod.metadata.deletion_timestamp.is_some()
}

/// Pods that nobody has told to stop.
fn staying(pods: &[Pod]) -> usize {
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn min_keeps_pods_and_h2c_is_spoken() {
    Scope::run("warm", async |scope| {
        let spec = hello(&json!({"protocol": "h2c", "scaling": {"min": 1, "max": 2}}));
        scope.apply_function("hello", spec).await?;
        scope.function("hello", PATIENCE, |f| condition(f, "Active") == Some("True")).await?;
        let answer = Caller::new(scope.cluster.activator).get(&scope.host("hello"), "/").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("server-timing"), None, "nothing was waited for");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deleted_function_leaves_nothing_behind() {
    Scope::run("delete", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let answer = Caller::new(scope.cluster.activator).get(&scope.host("hello"), "/").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        scope.api::<Function>().delete("hello", &DeleteParams::background()).await?;
        let selector = "rouse.dev/function=hello";
        wait::list(&scope.api::<Deployment>(), selector, PATIENCE, <[_]>::is_empty).await?;
        wait::list(&scope.api::<ControllerRevision>(), selector, PATIENCE, <[_]>::is_empty).await?;
        wait::list(&scope.api::<Service>(), selector, PATIENCE, <[_]>::is_empty).await?;
        scope.pods("hello", PATIENCE, <[_]>::is_empty).await?;
        let caller = Caller::new(scope.cluster.activator);
        assert_eq!(caller.get(&scope.host("hello"), "/").await?.status, 404);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_namespace_with_a_running_function_goes_within_a_minute() {
    Scope::run("namespace", async |scope| {
        scope.apply_function("hello", hello(&json!({"scaling": {"min": 1}}))).await?;
        scope.function("hello", PATIENCE, |f| condition(f, "Active") == Some("True")).await?;
        scope.delete().await?;
        let namespaces =
            kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(scope.cluster.client.clone());
        let minute = std::time::Duration::from_mins(1);
        wait::object(&namespaces, &scope.namespace, minute, |seen| seen.is_none()).await.map(drop)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn objects_applied_in_any_order_converge_and_applied_again_change_nothing() {
    Scope::run("gitops", async |scope| {
        let trigger = json!({"function": "hello", "http": {"hosts": ["gitops.e2e.example.com"]}});
        scope.apply_trigger("web", trigger.clone()).await?;
        let spec = hello(&json!({"exposure": "Public"}));
        scope.apply_function("hello", spec.clone()).await?;
        let public = Caller::new(scope.cluster.public);
        let ready = names_ready(&scope, "web").await?;
        let answer = public.get("gitops.e2e.example.com", "/").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        scope.asleep("hello", PATIENCE).await?;

        let before = standing(&scope).await?;
        scope.apply_function("hello", spec).await?;
        scope.apply_trigger("web", trigger).await?;
        // A change to another Function has been seen through by the time its status is there, so
        // anything that the second apply set off would have happened.
        scope.apply_function("other", hello(&json!({}))).await?;
        scope.asleep("other", PATIENCE).await?;
        assert_eq!(before, standing(&scope).await?);
        drop(ready);
        Ok(())
    })
    .await;
}

async fn names_ready(
    scope: &Scope,
    trigger: &str,
) -> anyhow::Result<Option<rouse_crds::v1alpha1::Trigger>> {
    wait::object(&scope.api::<rouse_crds::v1alpha1::Trigger>(), trigger, PATIENCE, |seen| {
        let conditions = seen.and_then(|t| t.status.as_ref()).map(|s| s.conditions.as_slice());
        conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
    })
    .await
}

/// The Function `hello` without what it used, which is told in its own time, and the resource versions
/// of its Trigger and all of its children.
async fn standing(scope: &Scope) -> anyhow::Result<(Value, Vec<Option<String>>)> {
    let selector = ListParams::default().labels("rouse.dev/function=hello");
    let mut function = scope.api::<Function>().get("hello").await?;
    function.metadata.resource_version = None;
    function.metadata.managed_fields = None;
    if let Some(status) = &mut function.status {
        status.usage = None;
    }
    let trigger = scope.api::<rouse_crds::v1alpha1::Trigger>().get("web").await?;
    let mut found = vec![trigger.metadata.resource_version];
    for child in scope.api::<Deployment>().list(&selector).await? {
        found.push(child.metadata.resource_version);
    }
    for child in scope.api::<ControllerRevision>().list(&selector).await? {
        found.push(child.metadata.resource_version);
    }
    for child in scope.api::<Service>().list(&selector).await? {
        found.push(child.metadata.resource_version);
    }
    Ok((serde_json::to_value(function)?, found))
}
