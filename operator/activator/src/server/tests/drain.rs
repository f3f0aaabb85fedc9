//! Leaving without a lost request.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use rouse_peer::testing;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::rig::{self, Rig, channel, data, get, http1_over, read};
use crate::server::{Drain, Server, ServerConfig, Workers, drain};

const DRAIN: Drain = Drain { announce: Duration::from_secs(5), total: Duration::from_mins(1) };

/// Begins to leave.
async fn leave(rig: &Rig) -> JoinHandle<()> {
    let shared = [Arc::clone(&rig.shared)];
    let leaving = tokio::spawn(async move { drain::run(&shared, &DRAIN, JoinSet::new()).await });
    rig::settle().await;
    leaving
}

/// A pod whose one answer has the body that the sender is given.
fn streaming(rig: &Rig) -> mpsc::Sender<Result<http_body::Frame<bytes::Bytes>, std::io::Error>> {
    let (answer, body) = channel();
    let body = Mutex::new(Some(body));
    rig.pod(1, Protocol::Http1, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { http::Response::new(body) }.boxed()
    });
    answer
}

#[tokio::test(start_paused = true)]
async fn clients_are_sent_elsewhere_and_lose_nothing() {
    let rig = Rig::owner();
    rig.hello(1);
    let (mut busy, mut idle) = (rig.http1().await, rig.http1().await);
    for client in [&mut busy, &mut idle] {
        let response = client.send_request(get("/")).await.unwrap();
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(read(response).await, "Hello");
    }
    let begun = Instant::now();
    let leaving = leave(&rig).await;
    let response = busy.send_request(get("/")).await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(read(response).await, "Hello");
    assert!(busy.ready().await.is_err(), "the connection ends with the answer that says so");
    assert_eq!(rig.get("/").await, (200, "Hello".into()), "new connections are served");
    sleep(DRAIN.announce.checked_sub(Duration::from_millis(1)).unwrap()).await;
    idle.ready().await.unwrap();
    leaving.await.unwrap();
    assert_eq!(begun.elapsed(), DRAIN.announce, "nothing was left to wait for");
    assert!(idle.ready().await.is_err(), "idle connections are closed last");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_is_finished() {
    let rig = Rig::owner();
    let answer = streaming(&rig);
    answer.send(data("one ")).await.unwrap();
    let mut response = rig.send(get("/")).await;
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
    let mut idle = rig.http1().await;
    let leaving = leave(&rig).await;
    sleep(Duration::from_secs(30)).await;
    idle.ready().await.unwrap();
    answer.send(data("two")).await.unwrap();
    drop(answer);
    assert_eq!(read(response).await, "two");
    leaving.await.unwrap();
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_are_served_while_the_server_leaves() {
    let rig = Rig::owner();
    let mut sender = rig.http1().await;
    let answer = tokio::spawn(async move { sender.send_request(get("/")).await.unwrap() });
    rig.waiting(1).await;
    let leaving = leave(&rig).await;
    sleep(Duration::from_secs(20)).await;
    rig.hello(1);
    assert_eq!(read(answer.await.unwrap()).await, "Hello");
    leaving.await.unwrap();
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_for_it_has_an_end() {
    let rig = Rig::owner();
    let answer = streaming(&rig);
    answer.send(data("one")).await.unwrap();
    let response = rig.send(get("/")).await;
    let begun = Instant::now();
    let leaving = leave(&rig).await;
    leaving.await.unwrap();
    assert_eq!(begun.elapsed(), DRAIN.total);
    assert!(response.into_body().collect().await.is_err());
    answer.closed().await;
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn clients_of_http2_are_told_at_once_and_finish() {
    let rig = Rig::owner();
    let answer = streaming(&rig);
    answer.send(data("one ")).await.unwrap();
    let io = TokioIo::new(rig.connect(Listener::Cluster));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = || Request::get("http://f.shop/").body(rig::empty()).unwrap();
    let response = sender.send_request(request()).await.unwrap();
    let leaving = leave(&rig).await;
    assert!(sender.send_request(request()).await.is_err(), "the client knows to go elsewhere");
    answer.send(data("two")).await.unwrap();
    drop(answer);
    assert_eq!(read(response).await, "one two");
    connection.await.unwrap().unwrap();
    leaving.await.unwrap();
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn other_activators_go_elsewhere_too_and_nobody_waits_for_their_reports() {
    let rig = Rig::owner();
    let member = rig.join("far", rig::address(100));
    let near = Rig::new(rig.world.clone());
    near.give_to(&member);
    rig.hello(1);
    let io = rig.world.call(rig::address(100), rouse_peer::Protocol::Http1).await;
    let mut reports = http1_over(io).await;
    let mut request = get("/v1/reports");
    request.headers_mut().insert("authorization", "Bearer of-a-controller".parse().unwrap());
    let mut stream = reports.send_request(request).await.unwrap().into_body();
    assert!(stream.frame().await.unwrap().is_ok());
    assert_eq!(near.get("/").await.0, 200);
    let dials = near.world.dials();
    let begun = Instant::now();
    let leaving = leave(&rig).await;
    assert_eq!(near.get("/").await.0, 200);
    assert_eq!(near.world.dials(), dials + 1, "over another connection");
    leaving.await.unwrap();
    assert_eq!(begun.elapsed(), DRAIN.announce);
    assert!(stream.frame().await.is_none());
    rig.at_rest().await;
    near.at_rest().await;
}

/// Real ports, in one thread.
#[tokio::test]
async fn the_ports_open_serve_and_close() {
    let rig = Rig::owner();
    rig.hello(1);
    let listeners = rig::listeners().await;
    let [cluster, public, peer] = [&listeners.cluster, &listeners.public, &listeners.peer]
        .map(|listener| listener.local_addr().unwrap());
    let quick = Drain { announce: Duration::ZERO, ..DRAIN };
    let (proxy, peers) = (rig.config.clone(), rig.shared.peers.clone());
    let (leave, left) = oneshot::channel::<()>();
    let config = ServerConfig { drain: quick, most_connections: 10, trusted_proxies: Vec::new() };
    let server = Server::new(proxy, peers, Workers::here(), config);
    let ended = tokio::spawn(server.run(listeners, left.map(drop)));
    let ask = async |mut sender: http1::SendRequest<_>, host| {
        let request = Request::get("/").header("host", host).body(rig::empty()).unwrap();
        sender.send_request(request).await.map(|response| response.status().as_u16())
    };
    for (address, host) in [(cluster, "f.shop"), (public, "f.shop.fn.example.org")] {
        let sender = http1_over(TcpStream::connect(address).await.unwrap()).await;
        assert_eq!(ask(sender, host).await.unwrap(), 200);
    }
    let sender = http1_over(TcpStream::connect(peer).await.unwrap()).await;
    assert!(ask(sender, "f.shop").await.is_err(), "peers speak TLS");
    let io = TcpStream::connect(peer).await.unwrap();
    let (io, _) = testing::handshake(io, rouse_peer::Protocol::Http1).await.unwrap();
    assert_eq!(ask(http1_over(io).await, "f.shop").await.unwrap(), 401);
    leave.send(()).unwrap();
    ended.await.unwrap();
    for address in [cluster, public, peer] {
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    }
    rig.at_rest().await;
}

/// Real ports and threads: connections go to both, each with connections to the pod of its own, but
/// where the pod is limited.
#[tokio::test]
async fn threads_share_the_load_and_nothing_else() {
    for (limit, dials) in [(0, 2), (1, 1)] {
        let rig = Rig::owner();
        rig.gate.configure(rig::bounds(limit, 100));
        rig.hello(1);
        let listeners = rig::listeners().await;
        let address = listeners.cluster.local_addr().unwrap();
        let quick = Drain { announce: Duration::ZERO, ..DRAIN };
        let (leave, left) = oneshot::channel::<()>();
        let workers = Workers::start(NonZeroUsize::new(2).unwrap()).unwrap();
        let config =
            ServerConfig { drain: quick, most_connections: 10, trusted_proxies: Vec::new() };
        let server = Server::new(rig.config.clone(), rig.shared.peers.clone(), workers, config);
        let ended = tokio::spawn(server.run(listeners, left.map(drop)));
        let mut clients = Vec::new();
        for _ in 0..4 {
            let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (mut sender, connection) = http1::handshake(io).await.unwrap();
            let closed = tokio::spawn(connection);
            assert_eq!(read(sender.send_request(get("/")).await.unwrap()).await, "Hello");
            clients.push((sender, closed));
        }
        assert_eq!(rig.world.dials(), dials, "with a limit of {limit}");
        let begun = Instant::now();
        leave.send(()).unwrap();
        ended.await.unwrap();
        assert!(begun.elapsed() < DRAIN.total, "nobody has to be cut off");
        for (_sender, closed) in clients {
            closed.await.unwrap().unwrap();
        }
        rig.at_rest().await;
    }
}
