//! What the roles of Rouse may not do, tried with their own rights.

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use rouse_crds::v1alpha1::Trigger;
use rouse_e2e::cluster::{HELLO_IMAGE, NAMESPACE};
use rouse_e2e::scope::{PATIENCE, Scope, hello, hello_code};
use serde_json::{Value, json};

use crate::handlers;

const ROLES: [&str; 2] = ["rouse-controller", "rouse-activator"];
/// Labels of the activators' pods.
const ACTIVATORS: &str = "app.kubernetes.io/name=rouse,app.kubernetes.io/component=activator";

fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    match result {
        Err(Error::Api(status)) if status.code == 403 || status.code == 422 => {}
        other => panic!("{what} must be refused: {other:?}"),
    }
}

fn deployment(namespace: &str, name: &str) -> Deployment {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": HELLO_IMAGE}]},
            },
        },
    });
    serde_json::from_value(object).expect("a fixture is a Deployment")
}

async fn merge<K>(client: &Client, namespace: &str, name: &str, patch: Value) -> Result<K, Error>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn no_role_reads_a_secret_or_touches_what_is_not_rouses() {
    Scope::run("rights", async |scope| {
        let namespace = scope.namespace.as_str();
        let plain = deployment(namespace, "plain");
        scope.api::<Deployment>().create(&PostParams::default(), &plain).await?;
        let plain = json!({"metadata": {"name": "plain", "namespace": namespace},
            "spec": {"containers": [{"name": "c", "image": HELLO_IMAGE}]}});
        let plain: Pod = serde_json::from_value(plain)?;
        scope.api::<Pod>().create(&PostParams::default(), &plain).await?;
        scope.apply_function("hello", hello(&json!({"scaling": {"min": 1}}))).await?;
        let pods = scope.pods("hello", PATIENCE, |pods| !pods.is_empty()).await?;
        let pod = pods[0].metadata.name.clone().unwrap_or_default();
        for role in ROLES {
            let client = scope.cluster.as_role(role)?;
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            refused("a Secret", secrets.list(&ListParams::default()).await);
            refused("a named Secret", secrets.get("any").await);
            let image = json!({"spec": {"template": {"spec": {"containers": [
                {"name": "c", "image": "evil"}]}}}});
            refused(
                "the image of a Deployment that is not Rouse's",
                merge::<Deployment>(&client, namespace, "plain", image).await,
            );
            for (target, name) in [(namespace, "plain"), ("kube-system", "coredns")] {
                let deployments: Api<Deployment> = Api::namespaced(client.clone(), target);
                let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
                let result = deployments.patch_scale(name, &PatchParams::default(), &scale).await;
                refused(&format!("{role}: the scale of {target}/{name}"), result);
            }
            let image = json!({"spec": {"containers": [{"name": "function", "image": "evil"}]}});
            refused("a pod's image", merge::<Pod>(&client, namespace, &pod, image).await);
            let label = json!({"metadata": {"labels": {"app": "other"}}});
            refused("a pod's labels", merge::<Pod>(&client, namespace, &pod, label).await);
            let claim = json!({"metadata": {"annotations": {"rouse.dev/other": "x"}}});
            refused("an annotation", merge::<Pod>(&client, namespace, &pod, claim).await);
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
            refused(&format!("{role}: another's pod"), api.delete("plain", &dry).await);
            let made: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
            let evil = deployment("kube-system", "evil");
            refused("a new Deployment", made.create(&PostParams::default(), &evil).await);
        }
        let activator = scope.cluster.as_role("rouse-activator")?;
        let claim = |by: &str| json!({"metadata": {"annotations": {"rouse.dev/claim": by}}});
        merge::<Pod>(&activator, namespace, &pod, claim("one")).await?;
        let other = merge::<Pod>(&activator, namespace, &pod, claim("other")).await;
        refused("another's claim", other);
        let api: Api<Pod> = Api::namespaced(activator, namespace);
        let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
        api.delete(&pod, &dry).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_runs_sources_may_tell_how_they_go_and_nothing_else() {
    Scope::run("source-rights", async |scope| {
        let namespace = scope.namespace.as_str();
        scope.apply_function("hello", hello(&json!({}))).await?;
        let nats = json!({"servers": ["nats://nobody.invalid"], "subject": {"name": "a"}});
        scope.apply_trigger("t", json!({"function": "hello", "nats": nats})).await?;
        scope.trigger_is("t", "False", "ServerAway").await?;
        let source = scope.cluster.as_account(namespace, "rouse-source")?;
        let triggers: Api<Trigger> = Api::namespaced(source.clone(), namespace);
        let status = |status: Value| {
            let triggers = triggers.clone();
            let patch = Patch::Merge(json!({"status": status}));
            async move { triggers.patch_status("t", &PatchParams::default(), &patch).await }
        };
        status(json!({"source": {"lag": 7}})).await?;
        refused("conditions", status(json!({"conditions": []})).await);
        refused("a generation", status(json!({"observedGeneration": 9})).await);
        let spec = json!({"spec": {"function": "other"}});
        refused("a spec", merge::<Trigger>(&source, namespace, "t", spec).await);
        let secrets: Api<Secret> = Api::namespaced(source.clone(), namespace);
        refused("a Secret", secrets.get("any").await);
        let elsewhere: Api<Trigger> = Api::namespaced(source, "default");
        refused("another namespace", elsewhere.list(&ListParams::default()).await);

        let controller = scope.cluster.as_role("rouse-controller")?;
        let image = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "source", "image": "evil"}]}}}});
        refused(
            "the image of sources",
            merge::<Deployment>(&controller, namespace, "rouse-source", image).await,
        );
        let binding = |name: &str, role: &str| {
            let object = json!({
                "metadata": {"name": name, "labels": {
                    "app.kubernetes.io/managed-by": "rouse",
                    "app.kubernetes.io/component": "source",
                }},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
                },
                "subjects": [
                    {"kind": "ServiceAccount", "name": "rouse-source", "namespace": namespace},
                ],
            });
            let bindings: Api<RoleBinding> = Api::namespaced(controller.clone(), namespace);
            async move {
                let binding = serde_json::from_value(object).expect("a fixture is a RoleBinding");
                bindings.create(&PostParams::default(), &binding).await
            }
        };
        refused("another binding", binding("other", "rouse-source").await);
        refused("another role", binding("rouse-source", "rouse-controller").await);
        let accounts: Api<ServiceAccount> = Api::namespaced(controller, namespace);
        refused("another's account", accounts.delete("default", &DeleteParams::default()).await);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_keeps_lines_sees_pods_and_functions_of_its_namespace_and_nothing_else() {
    Scope::run("keeper-rights", async |scope| {
        let namespace = scope.namespace.as_str();
        let files = json!({"files": {"app.txt": "x"}});
        scope.apply_function("app", hello_code(&files, &json!({}))).await?;
        // The API server knows a right a moment after it was written: once the keeper is ready, which saw
        // pods and Functions by then.
        handlers::keeper(&scope, None).await?;
        let keeper = scope.cluster.as_account(namespace, "rouse-keeper")?;
        let pods: Api<Pod> = Api::namespaced(keeper.clone(), namespace);
        pods.list(&ListParams::default()).await?;
        let plain = json!({"metadata": {"name": "plain", "namespace": namespace},
            "spec": {"containers": [{"name": "c", "image": HELLO_IMAGE}]}});
        let plain: Pod = serde_json::from_value(plain)?;
        scope.api::<Pod>().create(&PostParams::default(), &plain).await?;
        refused("a log", pods.logs("plain", &LogParams::default()).await);
        refused("a new pod", pods.create(&PostParams::default(), &plain).await);
        let delete = pods.delete("plain", &DeleteParams::default()).await;
        refused("a pod's end", delete);
        let secrets: Api<Secret> = Api::namespaced(keeper.clone(), namespace);
        refused("a Secret", secrets.list(&ListParams::default()).await);
        let elsewhere: Api<Pod> = Api::namespaced(keeper, "default");
        refused("another namespace", elsewhere.list(&ListParams::default()).await);

        let controller = scope.cluster.as_role("rouse-controller")?;
        let mount = json!({"spec": {"template": {"spec": {"volumes": [
            {"name": "node", "hostPath": {"path": "/"}}]}}}});
        let mounted = merge::<Deployment>(&controller, namespace, "rouse-keeper", mount).await;
        refused("a folder of the node", mounted);
        let account = json!({"spec": {"template": {"spec": {"serviceAccountName": "default"}}}});
        let other = merge::<Deployment>(&controller, namespace, "rouse-keeper", account).await;
        refused("another account", other);
        Ok(())
    })
    .await;
}

/// A request for a token of `audience`, bound to the pod with the UID `pod` where there is one.
fn token_request(audience: Option<&str>, pod: Option<&Pod>) -> TokenRequest {
    let bound = pod.map(|pod| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "name": pod.metadata.name, "uid": pod.metadata.uid})
    });
    let audiences: Vec<&str> = audience.into_iter().collect();
    let request = json!({"spec": {"audiences": audiences, "boundObjectRef": bound}});
    serde_json::from_value(request).expect("a fixture is a TokenRequest")
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_activator_gets_tokens_for_its_own_key_and_pod_only() {
    Scope::run("tokens", async |scope| {
        let key = format!("rouse-peer/{}", "0".repeat(64));
        let pods: Api<Pod> = Api::namespaced(scope.cluster.client.clone(), NAMESPACE);
        let pods = pods.list(&ListParams::default().labels(ACTIVATORS)).await?.items;
        let pod = pods.first().context("an activator")?;
        for role in ROLES {
            let client = scope.cluster.as_role(role)?;
            let own =
                |namespace: &str| Api::<ServiceAccount>::namespaced(client.clone(), namespace);
            let params = PostParams::default();
            for (namespace, name) in [
                (NAMESPACE, "rouse-controller"),
                (NAMESPACE, "default"),
                ("kube-system", "generic-garbage-collector"),
                (scope.namespace.as_str(), "default"),
            ] {
                let request = token_request(Some(&key), None);
                let result = own(namespace).create_token_request(name, &params, &request).await;
                refused(&format!("{role}: a token of {namespace}/{name}"), result);
            }
            // The caller is impersonated, and so in no pod: no pod is its own.
            for (audience, pod) in [
                (None, None),
                (None, Some(pod)),
                (Some("rouse.dev/peer"), Some(pod)),
                (Some("rouse-peer/"), Some(pod)),
                (Some(key.as_str()), None),
                (Some(key.as_str()), Some(pod)),
            ] {
                let request = token_request(audience, pod);
                let accounts = own(NAMESPACE);
                let result =
                    accounts.create_token_request("rouse-activator", &params, &request).await;
                refused(&format!("{role}: a token for {audience:?}"), result);
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_writes_that_wake_have_a_priority_level_of_their_own() {
    Scope::run("priority", async |scope| {
        scope.apply_function("f", hello(&json!({}))).await?;
        let made = scope.deployments("f", PATIENCE, |all| all.len() == 1).await?;
        let name = made.first().and_then(|one| one.metadata.name.clone()).context("a name")?;
        let schemas: Api<FlowSchema> = Api::all(scope.cluster.client.clone());
        let schema = schemas.get("rouse-activation").await?;
        let uri = format!(
            "/apis/apps/v1/namespaces/{}/deployments/{name}/scale?dryRun=All",
            scope.namespace
        );
        let patch = hyper::Request::patch(uri)
            .header("content-type", "application/merge-patch+json")
            .body(json!({"spec": {"replicas": 0}}).to_string().into_bytes())?;
        let answer = scope.cluster.as_role("rouse-activator")?.send(patch.map(Into::into)).await?;
        assert!(answer.status().is_success(), "{answer:?}");
        let header = answer.headers().get("x-kubernetes-pf-flowschema-uid");
        let matched = header.and_then(|uid| uid.to_str().ok());
        assert_eq!(matched, schema.metadata.uid.as_deref());
        Ok(())
    })
    .await;
}
