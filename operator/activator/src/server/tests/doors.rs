//! Events for a source: held while its pod is not there, and passed on once it is.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rouse_core::routing::RouteTable;
use rouse_core::trigger::{DoorGrant, TriggerKey};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, sleep};

use super::rig::{Rig, echo, full, read};

/// A table in which events for `in.example.com/hook` go to `pod`.
fn hang(rig: &Rig, pod: Option<SocketAddr>) {
    let trigger = TriggerKey { namespace: "shop".into(), name: "hook".into() };
    let door = DoorGrant { trigger, host: "in.example.com".into(), path: "/hook".into() };
    let mut table = RouteTable::default();
    table.hang(&[door], |_| pod);
    rig.set_table(table);
}

/// Sends an event; what is answered, and after what time.
async fn deliver(rig: &Rig) -> (u16, String, Duration) {
    let sent = Instant::now();
    let event = Request::post("/hook").header("host", "in.example.com").body(full("event"));
    let response = rig.send(event.unwrap()).await;
    (response.status().as_u16(), read(response).await, sent.elapsed())
}

/// Echoes one request.
async fn serve(listener: TcpListener) {
    let (io, _) = listener.accept().await.unwrap();
    let answer =
        |request: Request<Incoming>| async { Ok::<_, std::io::Error>(echo(request).await) };
    http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service_fn(answer))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_until_its_pod_is_there_and_listens() {
    let rig = Rig::owner();
    hang(&rig, None);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let starts = async {
        sleep(Duration::from_secs(2)).await;
        // It has its address before it listens.
        hang(&rig, socket.local_addr().ok());
        sleep(Duration::from_secs(1)).await;
        serve(socket.listen(8).unwrap()).await;
    };
    let answered = async {
        let (status, body, took) = deliver(&rig).await;
        assert_eq!((status, &*body), (200, "event"));
        assert!(took >= Duration::from_secs(3), "{took:?}");
    };
    tokio::join!(starts, answered);
}

#[tokio::test(start_paused = true)]
async fn a_sender_hears_in_time_that_nobody_takes_its_event() {
    let rig = Rig::owner();
    hang(&rig, None);
    let (status, body, took) = deliver(&rig).await;
    assert_eq!(status, 503);
    assert!(body.contains("no such pod runs"), "{body}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    hang(&rig, socket.local_addr().ok());
    let (status, body, took) = deliver(&rig).await;
    assert_eq!(status, 503);
    assert!(body.contains("refused"), "{body}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}
