//! Functions that are called with the events that senders bring.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::Request;
use hyper::header::HOST;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope};
use serde_json::json;
use sha2::Sha256;
use tokio::time::{interval, timeout};

use crate::sources::{events, kill_sources, warm};

const SECRET: &str = "It's a Secret to Everybody";

/// A sender, and where it sends.
struct Sender {
    caller: Caller,
    address: SocketAddr,
    host: String,
}

impl Sender {
    fn new(scope: &Scope, address: SocketAddr) -> Self {
        let host = format!("{}.e2e.example.com", scope.namespace);
        Self { caller: Caller::new(address), address, host }
    }

    async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::post(format!("http://{}{path}", self.address));
        request = request.header(HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
        self.caller.send(request).await
    }

    /// Sends a delivery as GitHub does.
    async fn deliver(&self, signature: &str, body: &str) -> anyhow::Result<Answer> {
        let headers = [
            ("x-hub-signature-256", signature),
            ("x-github-event", "issues"),
            ("x-github-delivery", "d-1"),
        ];
        self.post("/github", &headers, body).await
    }

    /// Sends two CloudEvents at once.
    async fn send_batch(&self) -> anyhow::Result<Answer> {
        let batch = json!([
            {"specversion": "1.0", "id": "c-1", "source": "/s", "type": "t", "data": 1},
            {"specversion": "1.0", "id": "c-2", "source": "/s", "type": "t", "data": 2},
        ]);
        let token = format!("Bearer {SECRET}");
        let kind = "application/cloudevents-batch+json";
        let headers = [("content-type", kind), ("authorization", &*token)];
        self.post("/events", &headers, &batch.to_string()).await
    }
}

/// How GitHub signs what it sends to somebody with whom it has the secret.
pub fn signature(secret: &str, body: &str) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(body.as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

/// Two Triggers with doors at one host, which are ready.
async fn open_doors(scope: &Scope, host: &str) -> anyhow::Result<()> {
    let secret = json!({"metadata": {"name": "hook"}, "stringData": {"key": SECRET}});
    let secrets = scope.api::<Secret>();
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    warm(scope, "hello").await?;
    let key = json!({"name": "hook", "key": "key"});
    let webhook = json!({"function": "hello", "webhook": {
        "host": host, "path": "/github", "sender": "GitHub", "secret": key,
    }});
    scope.apply_trigger("github", webhook.clone()).await?;
    let cloud_events = json!({"function": "hello", "cloudEvents": {
        "host": host, "path": "/events", "token": key,
    }});
    scope.apply_trigger("events", cloud_events).await?;
    scope.trigger_is("github", "True", "Connected").await?;
    scope.trigger_is("events", "True", "Connected").await?;
    scope.apply_trigger("second", webhook).await?;
    scope.trigger_is("second", "False", "HostTaken").await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn senders_reach_a_function_when_they_prove_who_they_are() {
    Scope::run("doors", async |scope| {
        let outside = Sender::new(&scope, scope.cluster.public);
        let inside = Sender::new(&scope, scope.cluster.activator);
        open_doors(&scope, &outside.host).await?;
        let body = r#"{"action": "opened"}"#;
        let right = signature(SECRET, body)?;
        for (signature, status) in [("sha256=00", 401), (&*right, 200), (&*right, 200)] {
            let answer = outside.deliver(signature, body).await?;
            assert_eq!(answer.status, status, "{answer:?}");
        }
        let answer = inside.send_batch().await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut got = events(&scope, "hello").await?;
        got.sort();
        assert_eq!(got, ["c-1", "c-2", "d-1"], "what comes again is not delivered again");

        // Without the pod a sender waits, or hears that it shall send again.
        kill_sources(&scope).await?;
        let mut refused = 0;
        let mut tries = interval(Duration::from_millis(100));
        let taken = async {
            loop {
                tries.tick().await;
                let answer = outside.send_batch().await?;
                match answer.status.as_u16() {
                    200 => return anyhow::Ok(()),
                    503 => ensure!(answer.header("retry-after").is_some(), "{answer:?}"),
                    _ => anyhow::bail!("{answer:?}"),
                }
                refused += 1;
            }
        };
        timeout(PATIENCE, taken).await.context("nobody takes events any more")??;
        println!("refused {refused} times");
        Ok(())
    })
    .await;
}
