//! Asks the source pod of a namespace about dead letters, by way of the API server: the servers that
//! keep them, and the Secrets that let one in, are the pod's to know.

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Portforwarder};
use kube::client::UpgradeConnectionError;
use kube::{Api, Client, ResourceExt};
use rouse_core::letter::{LETTERS_PORT, Letters};
use rouse_core::source::SOURCE_SELECTOR;

/// What came of one letter.
pub(super) enum Answer {
    Done(Bytes),
    /// It concerns this letter alone.
    Refused(String),
}

/// The way to a source pod.
pub(super) struct Office {
    sender: SendRequest<Empty<Bytes>>,
    /// Ends the forwarding when it is dropped.
    _forwarder: Portforwarder,
}

impl Office {
    /// The way to the source pod of `namespace`.
    pub async fn reach(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let list = pods.list(&ListParams::default().labels(SOURCE_SELECTOR)).await;
        let list = list.map_err(|error| refused(error, "list pods", namespace))?;
        let pod = list.items.iter().find(|pod| is_running(pod)).with_context(|| {
            format!(
                "the source pod of namespace {namespace} does not run, and only it reaches the \
                 streams: see `kubectl -n {namespace} get pods -l {SOURCE_SELECTOR}`"
            )
        })?;
        let forwarding = pods.portforward(&pod.name_any(), &[LETTERS_PORT]).await;
        let mut forwarder =
            forwarding.map_err(|error| refused(error, "forward ports of pods", namespace))?;
        let stream = forwarder.take_stream(LETTERS_PORT).context("a port that was asked for")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("greeting")?;
        // Its end is seen by whoever sends.
        tokio::spawn(connection);
        Ok(Self { sender, _forwarder: forwarder })
    }

    /// A part of the letters of `trigger`.
    pub async fn list(
        &mut self,
        trigger: &str,
        from: u64,
        limit: usize,
    ) -> anyhow::Result<Letters> {
        let path = format!("/v1/triggers/{trigger}/letters?from={from}&limit={limit}");
        match self.ask(Method::GET, &path).await? {
            Answer::Done(body) => serde_json::from_slice(&body).context("reading the answer"),
            Answer::Refused(text) => bail!(text),
        }
    }

    /// Does `method` with a letter, at the end of whose path stands `verb`.
    pub async fn act(
        &mut self,
        method: Method,
        (trigger, letter): (&str, u64),
        verb: &str,
    ) -> anyhow::Result<Answer> {
        self.ask(method, &format!("/v1/triggers/{trigger}/letters/{letter}{verb}")).await
    }

    async fn ask(&mut self, method: Method, path: &str) -> anyhow::Result<Answer> {
        const BROKE: &str = "asking the source pod: the connection broke off; try again, and see \
                             whether the pod is of this version of Rouse";
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.body(Empty::new()).context("writing the question")?;
        self.sender.ready().await.context(BROKE)?;
        let answer = self.sender.send_request(request).await.context(BROKE)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context(BROKE)?.to_bytes();
        read(status, body)
    }
}

fn read(status: StatusCode, body: Bytes) -> anyhow::Result<Answer> {
    if status.is_success() {
        return Ok(Answer::Done(body));
    }
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    if status.is_client_error() { Ok(Answer::Refused(text)) } else { Err(anyhow!(text)) }
}

/// Whether it runs. That it is ready, the kubelet says a second late.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
}

/// What an answer of the API server means for the user.
fn refused(error: kube::Error, verb: &str, namespace: &str) -> anyhow::Error {
    let status = match &error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Some(status.as_u16())
        }
        _ => None,
    };
    match status {
        Some(403) => anyhow!(
            "you may not {verb} in namespace {namespace}: ask for the role `edit` there, or for \
             `list` on pods with `get` and `create` on pods/portforward"
        ),
        _ => anyhow::Error::new(error).context("reaching the source pod by way of the API server"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_may_not_is_told_which_right_is_missing() {
        let upgrade = UpgradeConnectionError::ProtocolSwitch(StatusCode::FORBIDDEN);
        let error = kube::Error::UpgradeConnection(upgrade);
        let text = refused(error, "forward ports of pods", "shop").to_string();
        assert!(text.starts_with("you may not forward ports of pods in namespace shop"), "{text}");
        assert!(text.contains("pods/portforward"), "{text}");
    }

    #[test]
    fn what_concerns_one_letter_does_not_end_the_errand() {
        let answer = read(StatusCode::FAILED_DEPENDENCY, "it failed\n".into()).unwrap();
        assert!(matches!(answer, Answer::Refused(text) if text == "it failed"));
        assert!(read(StatusCode::BAD_GATEWAY, "the server is away".into()).is_err());
    }

    #[test]
    fn only_a_pod_that_runs_and_stays_is_asked() {
        let pod = |phase: &str, leaves: Option<&str>| {
            let pod = json!({
                "metadata": {"deletionTimestamp": leaves},
                "status": {"phase": phase},
            });
            is_running(&serde_json::from_value(pod).unwrap())
        };
        assert!(pod("Running", None));
        assert!(!pod("Pending", None));
        assert!(!pod("Running", Some("2026-11-01T00:00:00Z")));
    }
}
