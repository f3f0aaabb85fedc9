//! Calls a Function through the activators, at the port for callers in the cluster, as anybody
//! there would.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{HOST, RETRY_AFTER};
use http::{Request, Uri};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rouse_core::delivery::Outcome;
use rouse_core::event::Message;
use rouse_core::function::FunctionKey;
use tokio::time::timeout;

use crate::chain::chain;

/// How long connecting to the activators may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses: less than activators do.
const IDLE: Duration = Duration::from_secs(30);
/// What is read of an answer: enough for the names of a thousand events.
const ANSWER: usize = 256 << 10;

/// Calls Functions.
pub trait Call: Send + Sync {
    /// Sends `message` to `function`, and says what became of it within `limit`.
    fn call(
        &self,
        function: &FunctionKey,
        message: Message,
        limit: Duration,
    ) -> BoxFuture<'static, Outcome>;
}

/// A client of servers in the cluster that speak without TLS. Connecting may take `connect`; a
/// connection that nobody uses is closed after half a minute.
pub fn plain_client<B>(connect: Duration) -> Client<HttpConnector, B>
where
    B: Body<Data: Send> + Send,
{
    plain_client_by(plain_connector(connect))
}

/// The same, whose connections `connector` makes.
pub fn plain_client_by<C, B>(connector: C) -> Client<C, B>
where
    C: Connect + Clone,
    B: Body<Data: Send> + Send,
{
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}

/// Makes connections of such a client.
pub fn plain_connector(connect: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(connect));
    connector.set_nodelay(true);
    connector
}

/// Calls Functions by way of the activators. Cheap to clone.
#[derive(Clone)]
pub struct Activators {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Result<Uri, Arc<http::Error>>,
}

impl Activators {
    /// Calls at the Service `host`.
    pub fn new(host: &str) -> Self {
        let client = plain_client(CONNECT);
        let uri = Uri::builder().scheme("http").authority(host).path_and_query("/").build();
        Self { client, uri: uri.map_err(Arc::new) }
    }

    fn request(
        &self,
        function: &FunctionKey,
        message: Message,
    ) -> Result<Request<Full<Bytes>>, String> {
        let uri = self.uri.as_ref().map_err(|error| chain(error))?.clone();
        let mut request = Request::post(uri).header(HOST, function.cluster_host());
        for (name, value) in message.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(message.body.into())).map_err(|error| chain(&error))
    }
}

impl Call for Activators {
    fn call(
        &self,
        function: &FunctionKey,
        message: Message,
        limit: Duration,
    ) -> BoxFuture<'static, Outcome> {
        let (client, request) = (self.client.clone(), self.request(function, message));
        let function = function.clone();
        let call = async move {
            let answer = match request {
                Ok(request) => client.request(request).await.map_err(|error| chain(&error)),
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    // What can't be read to its end costs its connection, and says nothing.
                    let body = Limited::new(body, ANSWER).collect().await;
                    let body = body.map(Collected::to_bytes).unwrap_or_default();
                    let after = head.headers.get(RETRY_AFTER);
                    let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
                    let outcome = Outcome::of_answer(
                        head.status.as_u16(),
                        after.map(Duration::from_secs),
                        &body,
                    );
                    if outcome != Outcome::Done {
                        tracing::debug!(%function, status = %head.status, "an event was not taken");
                    }
                    outcome
                }
                Err(error) => {
                    tracing::debug!(%function, error, "an event did not arrive");
                    Outcome::Failed
                }
            }
        };
        timeout(limit, call).map(|outcome| outcome.unwrap_or(Outcome::Failed)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What an activator that gives this answer reads, and what the caller makes of it.
    async fn call(answer: &'static str) -> (String, Outcome) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let activators = Activators::new(&listener.local_addr().unwrap().to_string());
        let message = Message { headers: vec![("ce-id".into(), "1".into())], body: b"{}".to_vec() };
        let function = FunctionKey::new("shop", "hello");
        let outcome = activators.call(&function, message, Duration::from_secs(30));
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"{}") {
                assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the request ends early");
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(read).unwrap()
        };
        tokio::join!(serve, outcome)
    }

    #[tokio::test]
    async fn a_function_is_called_by_its_name_and_its_answer_counts() {
        let (request, outcome) = call("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nhost: hello.shop\r\n"), "{request}");
        assert!(request.contains("\r\nce-id: 1\r\n"), "{request}");
        assert_eq!(outcome, Outcome::Done);
        let busy =
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(call(busy).await.1, Outcome::Busy(Duration::from_secs(7)));
        assert_eq!(call("").await.1, Outcome::Failed, "it broke off");
    }
}
