//! Installs what of Rouse's manifests needs no node: kinds, accounts, roles and policies.

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};

use super::PATIENCE;
use crate::wait;

const MANIFEST: &str = include_str!("../../../manifests/install.yaml");

/// What nobody would run or ask for here.
const NEEDS_NODES: &[&str] = &["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"];

/// Applies the manifests of the checkout and waits until Rouse's kinds can be used.
pub async fn install(client: &Client) -> anyhow::Result<()> {
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(MANIFEST)?;
    let params = PatchParams::apply("hollow").force();
    for object in objects {
        let types = object.types.as_ref().context("a manifest names its kind")?;
        if NEEDS_NODES.contains(&types.kind.as_str()) {
            continue;
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        let name = object.metadata.name.clone().unwrap_or_default();
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("applying {} {name}", types.kind))?;
    }
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in ["functions.rouse.dev", "triggers.rouse.dev"] {
        wait::object(&kinds, name, PATIENCE, |kind| kind.is_some_and(is_established)).await?;
    }
    Ok(())
}

fn is_established(kind: &CustomResourceDefinition) -> bool {
    let conditions = kind.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}
