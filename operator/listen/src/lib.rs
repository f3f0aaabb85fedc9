//! Serves HTTP on a listener until it shall stop: how many may come at once, how long they may take to
//! say what they want, and how they end. What they are answered is others' business.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at once; further ones wait in the socket's queue.
const CONNECTIONS: usize = 512;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(15);
/// How long those who wait for an answer may have it once the listener shall stop.
const FAREWELL: Duration = Duration::from_secs(20);

/// What is answered.
pub type Reply = Response<Full<Bytes>>;

/// An answer of one line.
pub fn say(status: StatusCode, text: &str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    reply
}

/// Serves until `stop` turns true, and those inside are answered.
pub async fn serve<A, F>(listener: TcpListener, answer: A, stop: watch::Receiver<bool>)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                // The semaphore is never closed.
                let seat = seats.clone().acquire_owned().await.ok();
                (seat, listener.accept().await)
            } => accepted,
        };
        let (seat, Ok((stream, _))) = accepted else {
            // Out of descriptors, most likely: some come free.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let serving = serve_one(stream, answer.clone(), stop.clone());
        connections.spawn(async move {
            serving.await;
            drop(seat);
        });
    }
    let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

async fn serve_one<A, F>(stream: TcpStream, answer: A, mut stop: watch::Receiver<bool>)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Reply>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // What breaks off concerns its sender alone, who sends again.
            _ = connection.as_mut() => break,
            _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
