//! The sample Function: says hello, and does on request what the tests need of a Function. It
//! holds no state but counters, and must stay as quick to start as a server can be.
//!
//! | request | answer |
//! |---|---|
//! | `/` | `Hello, NAME!`, with `?name=NAME` |
//! | any path with `?sleep=MILLIS` | the same, that much later |
//! | `/echo` | the request's body, as it comes |
//! | `/stream?count=N&pause=MILLIS` | N lines, a pause before each |
//! | `/sse?count=N&pause=MILLIS` | N server-sent events, a pause before each |
//! | `/websocket?every=MILLIS` | a WebSocket that sends back what it hears, and a count every MILLIS |
//! | `/status/CODE` | that status |
//! | `/exit/CODE` | none: the process ends |
//! | `/print?lines=N` | the same, after N lines on standard output, each another |
//! | `/file/NAME` | the file of that name in the folder that the process runs in, or 404 |
//! | `/events` | the events that this pod got so far, one a line: `ce-id ce-time` |
//!
//! Every answer says who gave it: `x-hello-pod`, `x-hello-version`, `x-hello-listening-at` (Unix
//! time in microseconds at which the port was open), `x-hello-in-flight` and
//! `x-hello-most-in-flight` (requests in service at once, now and at most so far).
//!
//! `hello get URL` is a caller instead: it prints the answer and ends with 0 if it was a success.
//!
//! Environment: `PORT`, `HELLO_VERSION`, `HELLO_DELAY_MILLIS` (before the port opens),
//! `HELLO_EXIT_CODE` (ends at once with it), `HELLO_EVENTS_STATUS` (the answer to events),
//! `HELLO_EVENTS_MILLIS` (how long they take).

mod websocket;

use std::convert::Infallible;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

type Body = BoxBody<Bytes, hyper::Error>;

/// Who answers, and how many requests it is serving.
struct Server {
    pod: String,
    version: String,
    listening_at: u128,
    in_flight: AtomicU32,
    most_in_flight: AtomicU32,
    /// Ids and times of the events that came, at most [`MOST_EVENTS`].
    events: Mutex<Vec<String>>,
}

/// Events that are remembered.
const MOST_EVENTS: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    if let (Some("get"), Some(url)) = (args.next().as_deref(), args.next()) {
        return get(&url).await;
    }
    if let Some(code) = number("HELLO_EXIT_CODE") {
        eprintln!("ending with {code}, as HELLO_EXIT_CODE says");
        std::process::exit(i32::try_from(code).unwrap_or(1));
    }
    if let Some(delay) = number("HELLO_DELAY_MILLIS") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let port = number("PORT").and_then(|port| u16::try_from(port).ok()).unwrap_or(8080);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let server = Arc::new(Server {
        pod: std::env::var("HOSTNAME").unwrap_or_default(),
        version: std::env::var("HELLO_VERSION").unwrap_or_default(),
        listening_at: since_epoch.as_micros(),
        in_flight: AtomicU32::new(0),
        most_in_flight: AtomicU32::new(0),
        events: Mutex::default(),
    });
    serve(listener, server).await
}

async fn get(url: &str) -> std::io::Result<()> {
    let uri = url.parse().map_err(std::io::Error::other)?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.get(uri).await.map_err(std::io::Error::other)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(std::io::Error::other)?;
    eprintln!("{status}\n{}", String::from_utf8_lossy(&body.to_bytes()));
    if status.is_success() { Ok(()) } else { Err(std::io::Error::other(status.to_string())) }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn serve(listener: TcpListener, server: Arc<Server>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let connections = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = terminate.recv() => break,
        };
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        let service = service_fn(move |request| answer(Arc::clone(&server), request));
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = connection.into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // A caller that goes away in the middle is no fault of this program.
            drop(connection.await);
        });
    }
    connections.shutdown().await;
    Ok(())
}

/// One request in service, for as long as this value lives.
struct InFlight(Arc<Server>);

impl InFlight {
    fn begin(server: &Arc<Server>) -> Self {
        let now = server.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        server.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(server))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let guard = InFlight::begin(&server);
    let is_event = note_event(&server, &request);
    if let Some(millis) = number("HELLO_EVENTS_MILLIS").filter(|_| is_event) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    if let Some(millis) = query(&request, "sleep") {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let mut response = route(&server, request, guard);
    if let Some(status) = number("HELLO_EVENTS_STATUS").filter(|_| is_event) {
        let status = u16::try_from(status).ok().and_then(|code| StatusCode::from_u16(code).ok());
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let in_flight = server.in_flight.load(Ordering::SeqCst);
    let most = server.most_in_flight.load(Ordering::SeqCst);
    for (name, value) in [
        ("x-hello-pod", server.pod.clone()),
        ("x-hello-version", server.version.clone()),
        ("x-hello-listening-at", server.listening_at.to_string()),
        ("x-hello-in-flight", in_flight.to_string()),
        ("x-hello-most-in-flight", most.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

/// Remembers the event that the request is, if it is one; whether it is.
fn note_event(server: &Server, request: &Request<Incoming>) -> bool {
    let attribute = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(time)) = (attribute("ce-id"), attribute("ce-time")) else { return false };
    let mut events = server.events.lock().unwrap_or_else(PoisonError::into_inner);
    if events.len() < MOST_EVENTS {
        events.push(format!("{id} {time}\n"));
    }
    true
}

fn route(server: &Server, request: Request<Incoming>, guard: InFlight) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut segments = path.trim_start_matches('/').split('/');
    match (segments.next(), segments.next()) {
        (Some("echo"), None) => Response::new(held(request.into_body(), guard)),
        (Some("stream"), None) => stream(&request, guard, |i| format!("line {i}\n")),
        (Some("sse"), None) => {
            let mut response =
                stream(&request, guard, |i| format!("id: {i}\nevent: count\ndata: {i}\n\n"));
            let kind = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        (Some("websocket"), None) => {
            let every = query(&request, "every").map(Duration::from_millis);
            websocket::accept(request, every, guard)
        }
        (Some("status"), Some(code)) => {
            let status = code.parse().unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = Response::new(held(Full::new(Bytes::new()).map_err(never), guard));
            *response.status_mut() = status;
            response
        }
        (Some("file"), Some(name)) => {
            let read = std::fs::read(name);
            let is_there = read.is_ok();
            let text = Bytes::from(read.unwrap_or_default());
            let mut response = Response::new(held(Full::new(text).map_err(never), guard));
            if !is_there {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            response
        }
        (Some("events"), None) => {
            let events = server.events.lock().unwrap_or_else(PoisonError::into_inner).concat();
            Response::new(held(Full::new(Bytes::from(events)).map_err(never), guard))
        }
        (Some("exit"), Some(code)) => std::process::exit(code.parse().unwrap_or(1)),
        (path, _) => {
            if path == Some("print") {
                print(query(&request, "lines").unwrap_or(1));
            }
            let name = parameter(&request, "name").unwrap_or("world");
            let text = Bytes::from(format!("Hello, {name}!\n"));
            Response::new(held(Full::new(text).map_err(never), guard))
        }
    }
}

/// A body that counts as in flight until it has been sent or dropped.
fn held<B>(body: B, guard: InFlight) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Send + Sync + 'static,
{
    body.map_frame(move |frame| {
        let _ = &guard;
        frame
    })
    .boxed()
}

/// Prints lines of a hundred characters as programs print them: much the same, with numbers that nobody
/// can tell before.
fn print(lines: u64) {
    let mut output = BufWriter::new(std::io::stdout().lock());
    for line in 0..lines {
        let order = line.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ line;
        let customer = order.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        // Nobody may read it.
        let _ = writeln!(
            output,
            "INFO shop::orders: order {order:016x} of customer {customer:08x} was paid, {line:09} of them \
             today"
        );
    }
    let _ = output.flush();
}

fn stream(
    request: &Request<Incoming>,
    guard: InFlight,
    part: impl Fn(u64) -> String + Send + 'static,
) -> Response<Body> {
    let count = query(request, "count").unwrap_or(3);
    let pause = Duration::from_millis(query(request, "pause").unwrap_or(100));
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let _guard = guard;
        for i in 0..count {
            tokio::time::sleep(pause).await;
            if sender.send(Bytes::from(part(i))).await.is_err() {
                return;
            }
        }
    });
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, hyper::Error>(Frame::data(line)), receiver))
    });
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

fn never(never: Infallible) -> hyper::Error {
    match never {}
}

fn query(request: &Request<Incoming>, name: &str) -> Option<u64> {
    parameter(request, name)?.parse().ok()
}

fn parameter<'r>(request: &'r Request<Incoming>, name: &str) -> Option<&'r str> {
    let query = request.uri().query()?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
