//! Connects to a server of S3: to an address that was checked, with TLS where its URL says so.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rouse_crds::v1alpha1::SourceTls;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use crate::address::{Policy, checked, connect};
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::tls::client_config;

const DOING: &str = "connecting to S3";
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(20);

/// Speaks HTTP to one server.
pub(super) type Http = Client<HttpsConnector<Dial>, Full<Bytes>>;

/// Opens connections where sources may connect.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    policy: Arc<Policy>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let policy = self.policy.clone();
        let dial = async move {
            let port = if to.scheme_str() == Some("https") { 443 } else { 80 };
            let port = to.port_u16().unwrap_or(port);
            let address = checked(to.host().unwrap_or_default(), port, &policy).await?;
            Ok(TokioIo::new(connect(address, DOING).await?))
        };
        async move {
            let connected = timeout(CONNECT, dial).await;
            connected.unwrap_or_else(|_| Err(Failure::away(DOING, "it takes too long")))
        }
        .boxed()
    }
}

/// A client; its connections are made when they are needed.
pub(super) fn client(
    tls: Option<&SourceTls>,
    policy: Arc<Policy>,
    secrets: &Secrets,
) -> Result<Http, Failure> {
    let config = client_config(tls, secrets)?;
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(Dial { policy });
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector))
}
