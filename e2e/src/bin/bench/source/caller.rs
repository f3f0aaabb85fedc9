//! Calls over one connection, one after the other.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// What handlers of events are sent.
pub const EVENT: &str = r#"{"key":"value","numbers":[1,2,3]}"#;

/// One who calls.
pub struct Caller {
    sender: SendRequest<Full<Bytes>>,
    /// Whether events are sent, not plain requests.
    events: bool,
}

impl Caller {
    /// Connects to a port as soon as it is open.
    pub async fn to(port: u16, events: bool) -> anyhow::Result<Self> {
        let connect = async {
            loop {
                match TcpStream::connect(("127.0.0.1", port)).await {
                    Ok(stream) => return stream,
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let stream = timeout(PATIENCE, connect).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, events })
    }

    /// Has the sample Function print so many lines.
    pub async fn print(&mut self, lines: usize) -> anyhow::Result<()> {
        let request = Request::get(format!("/print?lines={lines}")).body(Full::default())?;
        self.call(request).await
    }

    /// The milliseconds of each of some calls.
    pub async fn round(&mut self, calls: usize) -> anyhow::Result<Vec<f64>> {
        let mut millis = Vec::with_capacity(calls);
        for _ in 0..calls {
            let request = if self.events {
                Request::post("/").header("rouse-event", "lambda").body(EVENT.into())
            } else {
                Request::get("/").body(Full::default())
            };
            let request = request?;
            let began = Instant::now();
            self.call(request).await?;
            millis.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(millis)
    }

    async fn call(&mut self, mut request: Request<Full<Bytes>>) -> anyhow::Result<()> {
        request.headers_mut().insert("host", HeaderValue::from_static("bench"));
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200 && !body.is_empty(), "the answer was {status}");
        Ok(())
    }
}
