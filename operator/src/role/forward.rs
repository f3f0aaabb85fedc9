//! A connection to a port of a pod, which the API server forwards for those who may have that done.

use anyhow::Context;
use hyper::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;

/// A connection to a pod.
pub(super) struct Forward<B> {
    /// Sends requests to it.
    pub sender: SendRequest<B>,
    /// Ends the forwarding when it is dropped.
    _forwarder: Portforwarder,
}

impl<B> Forward<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    /// A connection to `port` of the pod `name`; `refused` says what the API server's answer means.
    pub async fn open(
        pods: &Api<Pod>,
        (name, port): (&str, u16),
        refused: impl FnOnce(kube::Error, &'static str) -> anyhow::Error,
    ) -> anyhow::Result<Self> {
        let forwarding = pods.portforward(name, &[port]).await;
        let mut forwarder = forwarding.map_err(|error| refused(error, "forward ports of pods"))?;
        let stream = forwarder.take_stream(port).context("a port that was asked for")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("greeting")?;
        // Its end is seen by whoever sends.
        tokio::spawn(connection);
        Ok(Self { sender, _forwarder: forwarder })
    }
}

/// Whether a pod is ready, as the kubelet says a second late.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
