//! Hosts: who answers to which name, and who may not.

use std::net::IpAddr;

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams, PostParams};
use rouse_crds::v1alpha1::Function;
use rouse_e2e::cluster::{HELLO_IMAGE, NAMESPACE};
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, condition, find_condition, hello};
use rouse_e2e::wait;
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_of_the_cluster_call_a_function_by_its_name() {
    Scope::run("dns", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let job = json!({
            "metadata": {"name": "caller"},
            "spec": {"backoffLimit": 0, "template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "caller", "image": HELLO_IMAGE,
                    "args": ["get", format!("http://{}/", scope.host("hello"))]}],
            }}},
        });
        scope.api::<Job>().create(&PostParams::default(), &serde_json::from_value(job)?).await?;
        let done = wait::object(&scope.api::<Job>(), "caller", PATIENCE, |job| {
            let status = job.and_then(|job| job.status.as_ref());
            status.is_some_and(|s| s.succeeded.is_some() || s.failed.is_some())
        })
        .await?;
        let status = done.and_then(|job| job.status).unwrap_or_default();
        assert_eq!((status.succeeded, status.failed), (Some(1), None));
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_forged_host_never_reaches_a_cluster_local_function_from_outside() {
    Scope::run("forged", async |scope| {
        scope.apply_function("secret", hello(&json!({}))).await?;
        scope.apply_function("open", hello(&json!({"exposure": "Public"}))).await?;
        let local = scope.cluster.activator;
        scope.asleep("secret", PATIENCE).await?;
        scope.asleep("open", PATIENCE).await?;
        assert_eq!(Caller::new(local).get(&scope.host("secret"), "/").await?.status, 200);
        let outside = Caller::new(scope.cluster.public);
        let host = scope.host("secret");
        for forged in [
            host.clone(),
            format!("{host}.svc"),
            format!("{host}.svc.cluster.local"),
            format!("{host}.fn.example.org"),
            "secret".to_owned(),
            scope.host("open"),
        ] {
            let answer = outside.get(&forged, "/").await?;
            assert_eq!(answer.status, 404, "{forged}: {answer:?}");
        }
        let open = outside.get(&format!("{}.fn.example.org", scope.host("open")), "/").await?;
        assert_eq!(open.status, 200, "{open:?}");
        let bare = Caller::new(local).get("secret", "/").await?;
        assert_eq!(bare.status, 421, "{bare:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_service_that_was_there_before_stays_as_it_was() {
    Scope::run("taken", async |scope| {
        let service = json!({
            "metadata": {"name": "hello"},
            "spec": {"selector": {"app": "other"}, "ports": [{"port": 80}]},
        });
        let services = scope.api::<Service>();
        let before =
            services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        scope.apply_function("hello", hello(&json!({}))).await?;
        let told =
            scope.function("hello", PATIENCE, |f| condition(f, "Ready") == Some("False")).await?;
        let ready = find_condition(&told, "Ready").expect("Ready is always there");
        assert_eq!(ready.reason, "NameTaken");
        assert_eq!(services.get("hello").await?, before);

        services.delete("hello", &kube::api::DeleteParams::default()).await?;
        scope.asleep("hello", PATIENCE).await?;
        let ours = services.get("hello").await?.spec.unwrap_or_default();
        assert_eq!(ours.type_.as_deref(), Some("ExternalName"));
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_trigger_says_what_keeps_it_from_its_host_and_harms_nobody() {
    Scope::run("hosts", async |scope| {
        scope.apply_function("hello", hello(&json!({"exposure": "Public"}))).await?;
        let trigger = |function: &str, host: &str| {
            json!({"function": function, "http": {"hosts": [host], "paths": ["/"]}})
        };
        let held = format!("{}.e2e.example.com", scope.namespace);
        scope.apply_trigger("good", trigger("hello", &held)).await?;
        scope.trigger_is("good", "True", "Admitted").await?;
        for (name, function, host, reason) in [
            ("missing", "nobody", format!("m-{held}"), "FunctionMissing"),
            ("foreign", "hello", "www.example.net".to_owned(), "HostNotPermitted"),
            ("reserved", "hello", "a.b.svc.cluster.local".to_owned(), "HostReserved"),
            ("taken", "hello", held.clone(), "HostTaken"),
        ] {
            scope.apply_trigger(name, trigger(function, &host)).await?;
            scope.trigger_is(name, "False", reason).await?;
        }
        let answer = Caller::new(scope.cluster.public).get(&held, "/").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let functions = scope.api::<Function>();
        functions.delete("hello", &kube::api::DeleteParams::background()).await?;
        scope.trigger_is("good", "False", "FunctionMissing").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_is_ready_is_known_to_every_activator_at_once() {
    Scope::run("known", async |scope| {
        let activators = activators(&scope).await?;
        for i in 0..10 {
            let name = format!("f{i}");
            scope.apply_function(&name, hello(&json!({}))).await?;
            // A request of another method tells the route without waking anything.
            let host = format!("{name}.{}.e2e.example.com", scope.namespace);
            let http = json!({"hosts": [host], "methods": ["POST"]});
            scope.apply_trigger(&name, json!({"function": name, "http": http})).await?;
            scope.trigger_is(&name, "True", "Admitted").await?;
            for activator in &activators {
                let answer = activator.get(&host, "/").await?;
                assert_eq!(answer.status, 405, "{host}: {answer:?}");
            }
        }
        scope.apply_function("woken", hello(&json!({}))).await?;
        scope.function("woken", PATIENCE, |f| condition(f, "Ready") == Some("True")).await?;
        for activator in &activators {
            let answer = activator.get(&scope.host("woken"), "/").await?;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        Ok(())
    })
    .await;
}

/// Callers of each activator's own address.
async fn activators(scope: &Scope) -> anyhow::Result<Vec<Caller>> {
    let pods: Api<Pod> = Api::namespaced(scope.cluster.client.clone(), NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/component=activator");
    let mut callers = Vec::new();
    for pod in pods.list(&selector).await? {
        let ports = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| &c.ports);
        let mut ports = ports.flatten();
        let port = ports.find(|port| port.name.as_deref() == Some("http"));
        let port = u16::try_from(port.context("an activator has a port")?.container_port)?;
        let ip = pod.status.and_then(|status| status.pod_ip).context("it has an address")?;
        callers.push(Caller::new((ip.parse::<IpAddr>()?, port).into()));
    }
    assert!(callers.len() > 1, "{} activators", callers.len());
    Ok(callers)
}
