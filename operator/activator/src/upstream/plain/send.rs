//! Sending plain requests: on which connection, and what becomes of what is not plain after all.

use std::sync::Arc;

use http::Request;
use tokio::time::Instant;

use super::{NoAnswer, Plain, PlainBody, Replay};
use crate::body::RequestBody;
use crate::pod::Pod;
use crate::request_metrics::{Counted, Target};
use crate::upstream::{
    ConnectError, Destination, Lease, PodBody, Reply, SendError, Upstream, handshake, unsent,
};

impl Upstream {
    /// Sends a request of which `head` is all.
    pub(in crate::upstream) async fn send_plain(
        &self,
        to: &Destination<'_>,
        mut request: Box<Request<RequestBody>>,
        head: &[u8],
    ) -> Result<Reply, SendError> {
        let pool = to.pod.connections.of(self.shard);
        // The clock is read but where time has passed since.
        let mut sent = to.permit.granted_at();
        loop {
            let (mut connection, pooled) = match pool.take_plain(sent).await {
                Some(connection) => (connection, true),
                None => match Box::pin(self.connect_plain(to.pod)).await {
                    Ok(connection) => (connection, false),
                    Err(error) => return Err(unsent(request, error)),
                },
            };
            to.commit(&mut request).await?;
            if !pooled {
                sent = Instant::now();
            }
            match connection.ask(head).await {
                Ok(answer) => {
                    let pod = Arc::clone(to.pod);
                    let body = |rest| Box::new(PlainBody::new(pod, self.shard, connection, rest));
                    let response = answer.map(body).map(PodBody::Plain);
                    return Ok(Reply { response, lease: None, sent });
                }
                Err(NoAnswer::Odd(read)) => {
                    to.pod.connections.note_odd();
                    let going_on = self.go_on(to, request, connection.replay(read), sent);
                    return Box::pin(going_on).await;
                }
                // The pod closed a connection that stood idle, which is its right.
                Err(NoAnswer::Unsent(_)) if pooled => {}
                Err(NoAnswer::Unsent(error)) => return Err(unsent(request, error.into())),
                Err(NoAnswer::Broken(error)) => return Err(SendError::Broken(error.into())),
            }
        }
    }

    /// Has `hyper` read an answer that is not plain, on a connection on which `request` was sent.
    async fn go_on(
        &self,
        to: &Destination<'_>,
        request: Box<Request<RequestBody>>,
        (replay, counted): (Replay, Counted),
        sent: Instant,
    ) -> Result<Reply, SendError> {
        let broken = |error: hyper::Error| SendError::Broken(error.into());
        let mut connection = handshake(Box::new(replay), None, counted).await.map_err(broken)?;
        let response = connection.sender.send_request(*request).await.map_err(broken)?;
        let lease = Some(Lease::new(Arc::clone(to.pod), self.shard, connection));
        Ok(Reply { response: response.map(PodBody::Http), lease, sent })
    }

    async fn connect_plain(&self, pod: &Pod) -> Result<Plain, ConnectError> {
        let stream = self.dial(pod).await?;
        Ok(Plain::new(stream, self.metrics.begin_upstream(Target::pod)))
    }
}
