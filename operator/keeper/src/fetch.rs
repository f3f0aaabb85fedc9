//! A connection to a pod by which something is fetched: one request after the other, each bounded in time
//! and size. Must not know what it is for.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rouse_core::kept::POD_HEADER;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// How long a connection may take: packets to an address that is going away are lost in silence.
const CONNECT: Duration = Duration::from_millis(500);

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("nobody answers at {0}")]
    Silent(SocketAddr),
    #[error("the answer did not come in time")]
    Late,
    #[error("the connection broke off")]
    Broken(#[from] hyper::Error),
    #[error("writing the question failed")]
    Question(#[from] http::Error),
    #[error("the answer is too large, or broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A connection to the pod with a UID.
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    address: SocketAddr,
    uid: String,
    _carried: AbortOnDropHandle<hyper::Result<()>>,
}

impl Connection {
    pub async fn open(address: SocketAddr, uid: &str) -> Result<Self, FetchError> {
        let connecting = timeout(CONNECT, TcpStream::connect(address)).await;
        let stream = connecting.ok().and_then(Result::ok).ok_or(FetchError::Silent(address))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let carried = AbortOnDropHandle::new(tokio::spawn(connection));
        Ok(Self { sender, address, uid: uid.to_owned(), _carried: carried })
    }

    /// Does `method` at `path`, and gives an answer of at most `most` bytes within `patience`.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        (most, patience): (usize, Duration),
    ) -> Result<Answer, FetchError> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(HOST, self.address.to_string()).header(POD_HEADER, &self.uid);
        let request = request.body(Empty::new())?;
        let answered = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(FetchError::Body)?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        timeout(patience, answered).await.unwrap_or(Err(FetchError::Late))
    }
}
