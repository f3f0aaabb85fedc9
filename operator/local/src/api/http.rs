//! The API over HTTP and TLS on a loopback address, for the command line.
//!
//! Whoever may read the file with the token has all rights. A page in a browser has none, even if it
//! knew the token: what a browser sends says where it comes from, and a name that somebody made lead
//! to this machine is not the name of this machine.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::answer::Refusal;
use super::service::{Body, answer, refuse};

/// Connections at once: those of a few command lines that watch.
const MOST_CONNECTIONS: usize = 128;
/// Largest body, as the API server's.
pub(super) const LARGEST_BODY: usize = 3 << 20;
/// How long the greeting and the head of a request may take, each.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`.
pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let message = format!("the API is served on loopback addresses only, not on {address}");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
    }
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        carry(shared, stream).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection to the API");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn carry(shared: Arc<Shared>, stream: TcpStream) {
    // Answers are small and written in one piece.
    let _ = stream.set_nodelay(true);
    let greeting = timeout(HEAD_TIMEOUT, shared.key.acceptor().accept(stream));
    let stream = match greeting.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection to the API is not TLS"),
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(handle(&shared, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the API broke off");
    }
}

async fn handle(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    if let Err(refusal) = check(shared, &request) {
        return refuse(&refusal);
    }
    let (parts, body) = request.into_parts();
    match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => {
            let body: Bytes = body.to_bytes();
            answer(shared, &parts, &body)
        }
        Err(error) => {
            let code = StatusCode::PAYLOAD_TOO_LARGE;
            refuse(&Refusal::new(code, "RequestEntityTooLarge", error.to_string()))
        }
    }
}

fn check<B>(shared: &Shared, request: &Request<B>) -> Result<(), Refusal> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST).unwrap_or_default();
    let from_browser = request.headers().contains_key(ORIGIN)
        || request.headers().contains_key("sec-fetch-site")
        || request.headers().contains_key("sec-fetch-mode");
    if from_browser || !is_this_machine(host) {
        let message = "this API is for the command line on this machine, not for browsers";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    let token = header(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let known =
        token.is_some_and(|token| bool::from(token.as_bytes().ct_eq(shared.token.as_bytes())));
    if !known {
        let message = "the token is missing or wrong: use the kubeconfig that `rouse dev` wrote when \
                       it started";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message));
    }
    Ok(())
}

/// Whether a Host field names this machine, with or without a port.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
