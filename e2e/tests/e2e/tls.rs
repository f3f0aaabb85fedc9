//! TLS of the public port, by the Secret that the chart's values name; HTTP/2 is agreed on by it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
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

use crate::protocols::grpc;

/// The Secret that `e2e/values.yaml` names.
const SECRET: &str = "e2e-public-tls";
/// Port of an activator that speaks TLS.
const PORT: u16 = 8443;
/// Until the kubelet has brought a Secret to the pods and they have looked at it.
const TAKEN_WITHIN: Duration = Duration::from_mins(3);

/// Writes a new certificate for `hosts` into the Secret; answers with what knows it, and as text.
async fn renew(scope: &Scope, hosts: &[String]) -> anyhow::Result<(TlsConnector, String)> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(hosts)?;
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
    Ok((TlsConnector::from(Arc::new(config)), cert.pem()))
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

/// The same by HTTP/2, which is agreed on with TLS.
async fn get_by_http2(pod: &Pod, host: &str, connector: &TlsConnector) -> anyhow::Result<()> {
    let mut config = ClientConfig::clone(connector.config());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut address = activators::address(pod)?;
    address.set_port(PORT);
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "it prefers HTTP/2");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(format!("https://{host}/")).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == 200, "{response:?}");
    Ok(())
}

/// Has gRPC's own client call `host` by the TLS port of `pod`, with a certificate that only `known`
/// has.
async fn call_by_grpc(pod: &Pod, host: &str, known: &Path) -> anyhow::Result<()> {
    let client = std::env::var_os("ROUSE_E2E_GRPC_CLIENT").context("`cargo xtask test` sets it")?;
    let mut command = Command::new(client);
    command.args(["-use_tls", "-use_test_ca", "-test_case=large_unary"]);
    command.arg(format!("-ca_file={}", known.display()));
    command.arg(format!("-server_host={}", activators::address(pod)?.ip()));
    command.arg(format!("-server_port={PORT}")).arg(format!("-server_host_override={host}"));
    let called = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(called.status.success(), "{}", String::from_utf8_lossy(&called.stderr));
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_public_port_speaks_tls_with_the_certificate_of_a_secret_also_when_it_changes() {
    Scope::run("tls", async |scope| {
        let spec = hello(&json!({"exposure": "Public", "scaling": {"min": 1}}));
        scope.apply_function("hello", spec).await?;
        let active = |f: &_| condition(f, "Active") == Some("True");
        scope.function("hello", TAKEN_WITHIN, active).await?;
        let spec = grpc(&json!({"exposure": "Public"}));
        scope.apply_function("grpc", spec).await?;
        let hosts =
            ["hello", "grpc"].map(|name| format!("{name}.{}.fn.example.org", scope.namespace));
        let [host, grpc_host] = &hosts;
        let pods = activators::two(&scope.cluster).await?;
        for _ in 0..2 {
            let (connector, certificate) = renew(&scope, &hosts).await?;
            hurry(&scope, &pods).await?;
            let mut looks = interval(Duration::from_millis(200));
            for pod in &pods {
                let mut last = None;
                let taken = async {
                    // Until then the former certificate is shown, which is not known, or none.
                    while let Err(error) = get(pod, host, &connector).await {
                        last = Some(error);
                        looks.tick().await;
                    }
                };
                let taken = timeout(TAKEN_WITHIN, taken).await;
                ensure!(taken.is_ok(), "the certificate was not taken: {last:?}");
                get_by_http2(pod, host, &connector).await?;
                let known = std::env::temp_dir().join(format!("{}.pem", scope.namespace));
                std::fs::write(&known, &certificate)?;
                let called = call_by_grpc(pod, grpc_host, &known).await;
                std::fs::remove_file(known)?;
                called?;
            }
        }
        Ok(())
    })
    .await;
}
