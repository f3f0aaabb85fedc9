//! TLS of the public port, by the Secret that the chart's values name.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, Patch, PatchParams};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rouse_e2e::activators;
use rouse_e2e::cluster::NAMESPACE;
use rouse_e2e::scope::{Scope, condition, hello};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsConnector;

/// The Secret that `e2e/values.yaml` names.
const SECRET: &str = "e2e-public-tls";
/// Port of an activator that speaks TLS.
const PORT: u16 = 8443;
/// Until the kubelet has brought a Secret to the pods and they have looked at it.
const TAKEN_WITHIN: Duration = Duration::from_mins(3);

/// Writes a new certificate for `host` into the Secret; answers with what knows it.
async fn renew(scope: &Scope, host: &str) -> anyhow::Result<TlsConnector> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([host.to_owned()])?;
    let secrets: Api<Secret> = Api::namespaced(scope.cluster.client.clone(), NAMESPACE);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET},
        "stringData": {"tls.crt": cert.pem(), "tls.key": signing_key.serialize_pem()},
    });
    let params = PatchParams::apply("e2e").force();
    secrets.patch(SECRET, &params, &Patch::Apply(secret)).await?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A kubelet brings what a Secret holds to a pod when it looks at the pod again: within a minute or
/// two by itself, and at once when the pod has changed.
async fn hurry(scope: &Scope, pods: &[Pod]) -> anyhow::Result<()> {
    for pod in pods {
        let name = pod.metadata.name.as_deref().context("a pod has a name")?;
        let looked = jiff::Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {"e2e.rouse.dev/look": looked}}});
        let params = PatchParams::default();
        activators::pods(&scope.cluster).patch(name, &params, &Patch::Merge(patch)).await?;
    }
    Ok(())
}

/// The answer to a request for `host` at the TLS port of `pod`.
async fn get(pod: &Pod, host: &str, connector: &TlsConnector) -> anyhow::Result<String> {
    let mut address = activators::address(pod)?;
    address.set_port(PORT);
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host.to_owned())?;
    let mut stream = connector.connect(name, stream).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(answer)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_public_port_speaks_tls_with_the_certificate_of_a_secret_also_when_it_changes() {
    Scope::run("tls", async |scope| {
        let spec = hello(&json!({"exposure": "Public", "scaling": {"min": 1}}));
        scope.apply_function("hello", spec).await?;
        let active = |f: &_| condition(f, "Active") == Some("True");
        scope.function("hello", TAKEN_WITHIN, active).await?;
        let host = format!("hello.{}.fn.example.org", scope.namespace);
        let pods = activators::two(&scope.cluster).await?;
        for _ in 0..2 {
            let connector = renew(&scope, &host).await?;
            hurry(&scope, &pods).await?;
            let mut looks = interval(Duration::from_millis(200));
            for pod in &pods {
                let mut last = None;
                let taken = async {
                    // Until then the former certificate is shown, which is not known, or none.
                    while let Err(error) = get(pod, &host, &connector).await {
                        last = Some(error);
                        looks.tick().await;
                    }
                };
                let taken = timeout(TAKEN_WITHIN, taken).await;
                ensure!(taken.is_ok(), "the certificate was not taken: {last:?}");
            }
        }
        Ok(())
    })
    .await;
}
