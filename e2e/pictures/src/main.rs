//! The Functions of the sample flow `manifests/samples/with-servers/pictures`: one program, told by its
//! arguments which of them it is. An event that comes twice changes nothing the second time.
//!
//! | arguments | on an event |
//! |---|---|
//! | `thumbnail` | reads the picture (PNG) that the event is about, writes a small one below `thumbnails/`, and publishes a message that says so |
//! | `journal NAME` | writes the event down as the object `journal/NAME/ID` |
//!
//! Environment: `PORT`, `HOST` (the address to listen at; all of them without it), `S3_ENDPOINT`, `S3_BUCKET`,
//! `S3_ACCESS_KEY_ID`, `S3_SECRET_ACCESS_KEY`; for thumbnails also `NATS_URL` and `NATS_SUBJECT`.

mod bucket;
mod thumbnail;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use bucket::Bucket;
use thumbnail::Publisher;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What an event may have.
const MOST: usize = 1 << 20;

/// Which Function this is.
enum Function {
    Thumbnail { bucket: Bucket, publisher: Box<Publisher> },
    Journal { bucket: Bucket, name: String },
}

/// An event, as far as it matters.
pub(crate) struct Event {
    /// The same whenever it comes.
    pub id: String,
    /// What happened.
    pub kind: String,
    /// What there is to know.
    pub data: Bytes,
}

/// Why an event is not done.
pub(crate) enum Failure {
    /// It will never be: there is nothing to do it with.
    Never(String),
    /// It may be later.
    Now(Cause),
}

impl<E: Into<Cause>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Now(error.into())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Cause> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let bucket = Bucket::from_environment()?;
    let function = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["thumbnail"] => {
            let publisher = Box::new(Publisher::from_environment()?);
            Function::Thumbnail { bucket, publisher }
        }
        ["journal", name] => Function::Journal { bucket, name: name.to_owned() },
        _ => return Err("one of: thumbnail, journal NAME".into()),
    };
    let port = variable("PORT")?.parse::<u16>()?;
    let host = match std::env::var("HOST") {
        Ok(host) => host.parse().map_err(|error| format!("HOST: {error}: {host:?}"))?,
        Err(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
    };
    let listener = TcpListener::bind((host, port)).await?;
    serve(listener, Arc::new(function)).await
}

/// A variable of the environment that must be there.
pub(crate) fn variable(name: &str) -> Result<String, Cause> {
    std::env::var(name).map_err(|error| format!("{name}: {error}").into())
}

async fn serve(listener: TcpListener, function: Arc<Function>) -> Result<(), Cause> {
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            // Nothing is under way when a Function is put to sleep.
            _ = terminate.recv() => return Ok(()),
        };
        let function = function.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&function, request));
            let http = hyper::server::conn::http1::Builder::new();
            // Whoever goes away sends again.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    function: &Function,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match take(function, request).await {
        Ok(()) => (StatusCode::OK, "done".into()),
        Err(Failure::Never(why)) => (StatusCode::UNPROCESSABLE_ENTITY, why),
        Err(Failure::Now(error)) => (StatusCode::BAD_GATEWAY, error.to_string()),
    };
    if status != StatusCode::OK {
        eprintln!("{status}: {text}");
    }
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    Ok(response)
}

async fn take(function: &Function, request: Request<Incoming>) -> Result<(), Failure> {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned).ok_or_else(|| Failure::Never(format!("there is no header {name}")))
    };
    let (id, kind) = (header("ce-id")?, header("ce-type")?);
    let data = Limited::new(body, MOST).collect().await?.to_bytes();
    let event = Event { id, kind, data };
    match function {
        Function::Thumbnail { bucket, publisher } => {
            thumbnail::make(bucket, publisher, &event).await
        }
        Function::Journal { bucket, name } => {
            let Event { id, kind, data } = event;
            let data = String::from_utf8_lossy(&data);
            let entry = json!({"id": id, "type": kind, "data": data}).to_string();
            bucket.put(&format!("journal/{name}/{id}"), entry.into_bytes()).await?;
            Ok(())
        }
    }
}
