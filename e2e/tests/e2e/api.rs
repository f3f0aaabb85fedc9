//! What the API server itself refuses and accepts.

use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use rouse_crds::v1alpha1::{Function, Trigger};
use rouse_e2e::Scope;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Refused {
    case: String,
    message: String,
    object: Value,
}

fn api_of(scope: &Scope, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().expect("a fixture has a kind");
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("rouse.dev", "v1alpha1", kind));
    Api::namespaced_with(scope.cluster.client.clone(), &scope.namespace, &kind)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn bad_specs_are_refused_with_their_messages_and_create_nothing() {
    Scope::run("refused", async |scope| {
        let fixtures = include_str!("../../../crds/tests/fixtures/refused.yaml");
        let cases: Vec<Refused> = serde_saphyr::from_str(fixtures)?;
        assert!(cases.len() >= 20);
        for Refused { case, message, object } in cases {
            let typed = serde_json::from_value(object.clone())?;
            match api_of(&scope, &object).create(&PostParams::default(), &typed).await {
                Ok(_) => panic!("{case}: was accepted"),
                Err(kube::Error::Api(said)) => {
                    assert!(said.message.contains(&message), "{case}: {}", said.message);
                }
                Err(other) => panic!("{case}: {other}"),
            }
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
        for object in objects {
            let typed = serde_json::from_value(object.clone())?;
            api_of(&scope, &object).create(&PostParams::default(), &typed).await?;
        }
        Ok(())
    })
    .await;
}
