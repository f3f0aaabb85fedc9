//! Asks a pod whether it is ready, from the moment that its address is known: often at first, for
//! the kubelet's own answer comes up to a second later, then ever more rarely.
//!
//! Nothing here may ask an address before the pod has it: the kernel would remember that nobody
//! was there, and the next try would wait for a second.

use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rouse_crds::v1alpha1::Protocol;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::instances::{Instances, Question};

/// How long a connection may take: packets to an address that is going away are lost in silence.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a readiness path may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks until the pod is ready, and returns when it was.
pub async fn ask_until_ready(instances: &impl Instances, question: &Question) -> Instant {
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        if instances.fetch_readiness(question).await {
            return Instant::now();
        }
        sleep(pause(tries, begun.elapsed())).await;
        tries += 1;
    }
}

/// The pause after a try that failed; `asked` is the time since the first.
fn pause(tries: u32, asked: Duration) -> Duration {
    // Where a pod is a process it is up within a tenth of a second.
    const DENSEST: Duration = Duration::from_millis(2);
    const DENSE: Duration = Duration::from_millis(10);
    match asked.as_millis() {
        0..100 => Duration::from_millis(1 << tries.min(10)).min(DENSEST),
        100..1_000 => Duration::from_millis(1 << tries.min(10)).min(DENSE),
        1_000..10_000 => Duration::from_millis(50),
        10_000..60_000 => Duration::from_millis(250),
        _ => Duration::from_secs(1),
    }
}

/// Asks a pod once over the network.
pub async fn fetch_readiness(question: &Question) -> bool {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(question.address)).await;
    let Ok(Ok(stream)) = connected else { return false };
    let Some(path) = &question.path else { return true };
    timeout(ANSWER_TIMEOUT, fetch_path(stream, question, path)).await.unwrap_or(false)
}

async fn fetch_path(stream: TcpStream, question: &Question, path: &str) -> bool {
    let status = match question.protocol {
        Protocol::Http1 => fetch_http1(stream, question, path).await,
        Protocol::H2c => fetch_http2(stream, question, path).await,
    };
    status.is_ok_and(|status| status.is_success() || status.is_redirection())
}

/// Why a readiness path gave no status.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("building the request failed")]
    Request(#[from] http::Error),
    #[error("the pod did not answer")]
    Answer(#[from] hyper::Error),
}

async fn fetch_http1(
    stream: TcpStream,
    question: &Question,
    path: &str,
) -> Result<StatusCode, AskError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let host = question.address.to_string();
    let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

async fn fetch_http2(
    stream: TcpStream,
    question: &Question,
    path: &str,
) -> Result<StatusCode, AskError> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let uri = format!("http://{}{path}", question.address);
    let request = Request::get(uri).body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

#[cfg(test)]
mod tests;
