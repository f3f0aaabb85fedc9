//! Passes requests on to somebody else, as a name that a server resolves would: MinIO tells only who
//! is at the address that it is told, by that address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::super::consumer::Target;

type Http = Client<HttpConnector, Incoming>;

/// Listens at an address.
pub struct Porter {
    target: Arc<Mutex<Target>>,
    task: JoinHandle<()>,
}

impl Drop for Porter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Porter {
    /// Passes on what comes at `address` to `target`.
    pub async fn start(address: SocketAddr, target: Target) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let target = Arc::new(Mutex::new(target));
        Ok(Self { target: target.clone(), task: tokio::spawn(serve(listener, target)) })
    }

    /// Passes on to somebody else from now on.
    pub fn lead(&self, target: Target) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }
}

async fn serve(listener: TcpListener, target: Arc<Mutex<Target>>) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Ok(stream) = stream else { continue };
        drop(stream.set_nodelay(true));
        let (http, target) = (http.clone(), target.clone());
        connections.spawn(async move {
            let service = service_fn(|request| {
                let to = target.lock().unwrap_or_else(PoisonError::into_inner).clone();
                pass(request, to, http.clone())
            });
            // The server sees a connection that breaks, as it would without this one.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn pass(
    mut request: Request<Incoming>,
    to: Target,
    http: Http,
) -> anyhow::Result<Response<Incoming>> {
    let path = request.uri().path();
    let uri: Uri = format!("http://{}{path}", to.address).parse()?;
    *request.uri_mut() = uri;
    request.headers_mut().insert(HOST, HeaderValue::from_str(&to.host)?);
    Ok(http.request(request).await?)
}
