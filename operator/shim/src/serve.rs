//! Accepts connections and hands their requests over, until it is told to stop; then waits for those
//! that are under way. Must not know what is answered.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::problem::Body;

/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(30);
/// A pause after a connection could not be accepted, as when no file may be opened any more.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens `port` at `address`, or for everybody.
pub async fn open(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind((address, port)).await;
    }
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(both).await {
        Ok(listener) => Ok(listener),
        // There may be no IPv6 at all.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Serves `listener` until `stop` is done, then for at most `drain` what is under way.
pub async fn serve<A, F>(listener: TcpListener, answer: A, stop: impl Future, drain: Duration)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (closing, told) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => break,
        };
        match stream {
            Ok((stream, _)) => drop(connections.spawn(carry(stream, answer.clone(), told.clone()))),
            Err(_) => sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    closing.send_replace(true);
    // What is still under way when the time is over is over too: the set is dropped.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(drain, all).await;
}

/// Serves a connection until either side closes it, or after the request that is under way when it
/// is told.
async fn carry<A, F>(stream: TcpStream, answer: A, mut told: watch::Receiver<bool>)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Answers are written whole; waiting for more would only hold them up.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A caller that goes away in the middle is no fault of this program.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = told.wait_for(|told| *told) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}
