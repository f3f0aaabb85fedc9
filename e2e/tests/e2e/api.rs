//! What the API server itself refuses and accepts, and that the one in memory says the same.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, Status};
use rouse_crds::v1alpha1::{Function, Trigger};
use rouse_e2e::Scope;
use rouse_local::api::{Api as LocalApi, ApiOptions};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Refused {
    case: String,
    message: String,
    object: Value,
}

fn api_of(client: &Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().expect("a fixture has a kind");
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("rouse.dev", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), namespace, &kind)
}

/// The API in memory, with a namespace of that name.
async fn in_memory(namespace: &str) -> anyhow::Result<Client> {
    let client = LocalApi::start(ApiOptions::default())?.client(namespace);
    let wanted = serde_json::from_value(serde_json::json!({"metadata": {"name": namespace}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &wanted).await?;
    Ok(client)
}

/// What is wrong, in no order: the API server goes through fields in none. Why a rule can't be asked says
/// each in words of its own.
fn faults(status: &Status) -> BTreeSet<(&str, &str, &str, &str)> {
    const RULE: &str = " evaluating rule: ";
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .map(|cause| {
            let (message, rule) = cause.message.split_once(RULE).unwrap_or((&cause.message, ""));
            let said = if rule.is_empty() { Some(message) } else { message.split(": ").nth(1) };
            (&*cause.reason, &*cause.field, said.unwrap_or_default(), rule)
        })
        .collect()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn bad_specs_are_refused_with_their_messages_and_create_nothing() {
    Scope::run("refused", async |scope| {
        let fixtures = include_str!("../../../crds/tests/fixtures/refused.yaml");
        let cases: Vec<Refused> = serde_saphyr::from_str(fixtures)?;
        assert!(cases.len() >= 20);
        let local = in_memory(&scope.namespace).await?;
        for Refused { case, message, object } in cases {
            let typed = serde_json::from_value(object.clone())?;
            let refused = async |client: &Client| {
                let api = api_of(client, &scope.namespace, &object);
                match api.create(&PostParams::default(), &typed).await {
                    Ok(_) => panic!("{case}: was accepted"),
                    Err(kube::Error::Api(said)) => said,
                    Err(other) => panic!("{case}: {other}"),
                }
            };
            let said = refused(&scope.cluster.client).await;
            assert!(said.message.contains(&message), "{case}: {}", said.message);
            let same = refused(&local).await;
            assert_eq!((same.code, &same.reason), (said.code, &said.reason), "{case}");
            assert_eq!(faults(&same), faults(&said), "{case}");
        }
        let all = ListParams::default();
        assert!(scope.api::<Function>().list(&all).await?.items.is_empty());
        assert!(scope.api::<Trigger>().list(&all).await?.items.is_empty());
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn good_specs_are_accepted() {
    Scope::run("accepted", async |scope| {
        let fixtures = include_str!("../../../crds/tests/fixtures/accepted.yaml");
        let objects: Vec<Value> = serde_saphyr::from_str(fixtures)?;
        let local = in_memory(&scope.namespace).await?;
        for object in objects {
            let typed = serde_json::from_value(object.clone())?;
            for client in [&scope.cluster.client, &local] {
                let api = api_of(client, &scope.namespace, &object);
                api.create(&PostParams::default(), &typed).await?;
            }
        }
        Ok(())
    })
    .await;
}
