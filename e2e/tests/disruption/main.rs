//! What Rouse promises while its own parts restart. These tests disturb the operator that all
//! share, so they run after the others and one at a time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use rouse_e2e::cluster::{Cluster, NAMESPACE};
use rouse_e2e::load::Load;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use rouse_e2e::wait;
use serde_json::{Value, json};

const ACTIVATORS: &str = "app.kubernetes.io/component=activator";
const CONTROLLERS: &str = "app.kubernetes.io/component=controller";

fn pods(cluster: &Cluster) -> Api<Pod> {
    Api::namespaced(cluster.client.clone(), NAMESPACE)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn activators_that_are_deleted_under_load_fail_no_request() {
    Scope::run("activators", async |scope| {
        let api = pods(&scope.cluster);
        let two = |pods: &[Pod]| pods.len() == 2 && pods.iter().all(is_ready);
        let before = wait::list(&api, ACTIVATORS, PATIENCE, two).await?;
        scope.apply_function("warm", hello(&json!({"scaling": {"min": 1}}))).await?;
        scope.apply_function("cold", hello(&json!({}))).await?;
        scope.asleep("cold", PATIENCE).await?;
        let pause = Duration::from_millis(20);
        let warm = Load::start(scope.cluster.activator, &scope.host("warm"), 4, pause);
        let cold = Load::start(scope.cluster.activator, &scope.host("cold"), 4, pause);
        for pod in &before {
            let name = pod.metadata.name.as_deref().context("a pod has a name")?;
            api.delete(name, &DeleteParams::default()).await?;
            wait::list(&api, ACTIVATORS, PATIENCE, |pods| {
                two(pods) && !uids(pods).contains(pod.metadata.uid.as_deref().unwrap_or_default())
            })
            .await?;
        }
        for (name, load) in [("warm", warm), ("cold", cold)] {
            let outcome = load.stop().await?;
            assert!(outcome.bad.is_empty(), "{name}: {outcome:?}");
            assert!(outcome.good > 500, "{name}: {outcome:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_controller_that_restarts_at_rest_writes_nothing_but_its_lease() {
    let Some(log) = Cluster::audit_log() else {
        eprintln!("skipped: this cluster has no audit log (ROUSE_E2E_AUDIT_LOG)");
        return;
    };
    Scope::run("rest", async |scope| {
        for name in ["one", "two"] {
            scope.apply_function(name, hello(&json!({}))).await?;
            scope.apply_trigger(
                name,
                json!({"function": name, "http": {"hosts": [format!("{name}.e2e.example.com")]}}),
            )
            .await?;
            scope.asleep(name, PATIENCE).await?;
            scope.trigger_is(name, "True", "Admitted").await?;
        }
        let read_from = std::fs::metadata(&log)?.len();
        let api = pods(&scope.cluster);
        let leases: Api<Lease> = Api::namespaced(scope.cluster.client.clone(), NAMESPACE);
        let before = uids(&api.list(&ListParams::default().labels(CONTROLLERS)).await?.items);
        let delete = DeleteParams::default();
        api.delete_collection(&delete, &ListParams::default().labels(CONTROLLERS)).await?;
        let after = wait::list(&api, CONTROLLERS, PATIENCE, |pods| {
            pods.len() == before.len()
                && pods.iter().all(is_ready)
                && uids(pods).is_disjoint(&before)
        })
        .await?;
        let names: BTreeSet<_> = after.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        wait::object(&leases, "rouse-controller", PATIENCE, |lease| {
            let holder = lease.and_then(|l| l.spec.as_ref()?.holder_identity.clone());
            holder.is_some_and(|holder| names.iter().any(|name| holder.contains(name.as_str())))
        })
        .await?;
        // A Function that is seen through elsewhere proves that the new leader has been at work.
        let elsewhere = Scope::new("elsewhere").await?;
        elsewhere.apply_function("hello", hello(&json!({}))).await?;
        elsewhere.asleep("hello", PATIENCE).await?;
        elsewhere.delete().await?;
        let writes = writes_since(&log, read_from, "rouse-controller")?;
        assert!(!writes.is_empty(), "the log must show the new leader at work");
        let unexpected: Vec<&Value> = writes
            .iter()
            .map(|event| &event["objectRef"])
            .filter(|object| object["resource"] != "leases")
            .filter(|object| {
                [scope.namespace.as_str(), NAMESPACE].iter().any(|ns| object["namespace"] == *ns)
            })
            .collect();
        assert!(unexpected.is_empty(), "{unexpected:#?}");
        Ok(())
    })
    .await;
}

/// Writes that the API server carried out for a ServiceAccount of Rouse since `offset`.
fn writes_since(log: &std::path::Path, offset: u64, account: &str) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read(log)?;
    let new = text.get(usize::try_from(offset)?..).context("the log was cut")?;
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let mut writes = Vec::new();
    for line in new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line)?;
        let verb = event["verb"].as_str().unwrap_or_default();
        if event["user"]["username"] == user.as_str()
            && ["create", "update", "patch", "delete", "deletecollection"].contains(&verb)
        {
            writes.push(event);
        }
    }
    Ok(writes)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn rouse_itself_runs_two_of_each() {
    let cluster = Cluster::connect().await.expect("there is a cluster");
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for name in ["rouse-controller", "rouse-activator"] {
        wait::object(&deployments, name, PATIENCE, |deployment| {
            let status = deployment.and_then(|d| d.status.as_ref());
            status.and_then(|s| s.available_replicas) == Some(2)
        })
        .await
        .expect("both replicas are available");
    }
}
