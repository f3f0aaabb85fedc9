//! A folder of samples on a cluster, and a running `rouse dev` over files of a test's own, which is asked as
//! a cluster is and ends with its value.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use rouse_e2e::cluster::Cluster;
use rouse_e2e::hollow::process::bound_command;
use rouse_e2e::scope::{PATIENCE, Scope, program};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{interval, timeout};

/// Where the samples are.
pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples")
}

/// Applies what stands in the YAML files of `folder` itself, as `kubectl apply` does.
pub async fn apply(scope: &Scope, folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|kind| kind != "yaml") {
            continue;
        }
        for object in serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(&path)?)? {
            let said = apply_object(scope, &object).await;
            said.with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

async fn apply_object(scope: &Scope, object: &Value) -> anyhow::Result<()> {
    let text = |name: &str| object[name].as_str().context("an object has a kind");
    let (group, version) = text("apiVersion")?.split_once('/').unwrap_or(("", "v1"));
    let kind = GroupVersionKind::gvk(group, version, text("kind")?);
    let name = object["metadata"]["name"].as_str().context("an object has a name")?;
    let resource = ApiResource::from_gvk(&kind);
    let client = scope.cluster.client.clone();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &scope.namespace, &resource);
    let params = PatchParams::apply("e2e").force();
    api.patch(name, &params, &Patch::Apply(object)).await?;
    Ok(())
}

/// A running `rouse dev`.
pub struct Dev {
    _child: Child,
    _folder: TempDir,
    /// Its Functions: namespace `default` of the cluster in its memory.
    pub scope: Scope,
}

impl Dev {
    /// Starts it over `folder` with these variables, and waits until it can be asked.
    pub async fn start(folder: TempDir, variables: &[(&str, &OsStr)]) -> anyhow::Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut child = bound_command(&program()?)
            .arg("dev")
            .arg(folder.path())
            .args(["--port", &free.to_string()])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting `rouse dev`")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free));
        let kubeconfig = folder.path().join(".rouse/kubeconfig");
        let mut looks = interval(Duration::from_millis(20));
        let coming = async {
            while !kubeconfig.exists() || TcpStream::connect(address).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    bail!("`rouse dev` ended: {status}");
                }
                looks.tick().await;
            }
            Ok(())
        };
        timeout(PATIENCE, coming).await.context("`rouse dev` does not listen")??;
        let cluster = Cluster::of_dev(kubeconfig, address).await?;
        let scope = Scope { cluster, namespace: "default".to_owned() };
        Ok(Self { _child: child, _folder: folder, scope })
    }
}
