//! The admin port: `/livez`, `/readyz` and `/metrics`. It reads, and changes nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::exposition::Form;

/// Connections served at once: a scraper, the kubelet's two probes and a few people. When there are
/// more the oldest is closed: whoever fills the port must not keep the kubelet from asking.
const MOST_CONNECTIONS: usize = 32;

/// Bytes that the head of a request may have.
const MOST_HEAD: usize = 16 * 1024;

/// Pause after accepting failed, which it does for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may take, from its first byte to its last. It serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin port tells.
pub struct Admin {
    /// All metrics of the process.
    pub registry: Registry,
    /// Why the process is not ready; none when it is.
    pub unready: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

/// Serves the port until the process ends.
pub fn spawn(listener: TcpListener, admin: Admin) {
    tokio::spawn(serve(listener, Arc::new(admin)));
}

async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MOST_CONNECTIONS);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MOST_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let serving = timeout(CONNECTION_TIMEOUT, serve_one(Arc::clone(&admin), stream));
        open.push_back(tokio::spawn(serving).abort_handle());
    }
}

async fn serve_one(admin: Arc<Admin>, stream: TcpStream) {
    let service = service_fn(|request| {
        let response = answer(&admin, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .keep_alive(false)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection");
    }
}

fn answer(admin: &Admin, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match (admin.unready)() {
            None => text(StatusCode::OK, "ok\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/metrics" => metrics(&admin.registry, request),
        _ => text(StatusCode::NOT_FOUND, "known paths: /livez /readyz /metrics\n"),
    }
}

fn metrics(registry: &Registry, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let accept = request.headers().get_all(ACCEPT).into_iter();
    let form = Form::preferred(accept.filter_map(|value| value.to_str().ok()));
    match form.write(registry) {
        Ok(body) => {
            let mut response = Response::new(Full::new(Bytes::from(body)));
            let kind = HeaderValue::from_static(form.content_type());
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "encoding the metrics failed\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
