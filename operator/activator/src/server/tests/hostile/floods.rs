//! HTTP/2: much of what costs the sender nothing. The connection ends, memory stays as it was, and
//! no pod is asked for more than a few of the requests that nobody wants.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Ports;
use super::frames::{
    CANCEL, CONTINUATION, Client, DATA, END_HEADERS, ENHANCE_YOUR_CALM, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, field, frame, get, head,
};

/// Sends `round` over and over until the port ends the connection; answers with the code and the
/// rounds that it took.
async fn flood(
    client: &mut Client,
    rounds: u32,
    round: impl Fn(u32) -> Vec<u8>,
) -> (Option<u32>, u32) {
    let mut sent = 0;
    while sent < rounds && client.send(&round(sent)).await {
        sent += 1;
    }
    drop(client.io.shutdown().await);
    (client.ended().await, sent)
}

/// Whether this is the process in which the test `name` runs alone, so that the memory
/// that it takes can be seen. If not, this starts one and waits for it.
pub fn alone(name: &str) -> bool {
    const ALONE: &str = "ROUSE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Bytes of memory that the process holds.
pub fn memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// What the allocator keeps of what was given back.
pub const FLAT: usize = 16 << 20;

/// Its name, its rounds, what comes before them, and what each is made of.
type Case = (&'static str, u32, Vec<u8>, Box<dyn Fn(u32) -> Vec<u8>>);

fn opened(stream: u32) -> u32 {
    2 * stream + 1
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let ports = Ports::open().await;
    for (port, host) in ports.for_callers() {
        let mut client = Client::open(port).await;
        let (code, _) = flood(&mut client, 20_000, |round| {
            let stream = opened(round);
            [get(stream, host, "/flood"), frame(RST_STREAM, 0, stream, &CANCEL)].concat()
        })
        .await;
        // The kernel may lose the last words of a connection that is closed with bytes unread.
        assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM | 0)), "{code:?}");
        let reached = ports.take_reached().len();
        assert!(reached < 500, "{reached}");
    }
    // Other activators may take back many at once; who is none gets an answer and nothing else.
    let mut client = Client::open(ports.peer).await;
    flood(&mut client, 20_000, |round| {
        let stream = opened(round);
        [get(stream, "f.shop", "/flood"), frame(RST_STREAM, 0, stream, &CANCEL)].concat()
    })
    .await;
    assert!(ports.take_reached().is_empty());
    ports.serves().await;
    ports.close().await;
}

/// The same at a pace at which each request has begun before it is taken back.
#[tokio::test]
async fn requests_that_are_taken_back_one_by_one_end_the_connection() {
    let ports = Ports::open().await;
    ports.rig.gate.retire("pod-1");
    for (port, host) in ports.for_callers() {
        let mut client = Client::open(port).await;
        let mut rounds = 0;
        loop {
            let stream = opened(rounds);
            let pair = [get(stream, host, "/flood"), frame(PING, 0, 0, &[0; 8])].concat();
            if !client.send(&pair).await || client.until(PING, 0).await.is_none() {
                break;
            }
            client.send(&frame(RST_STREAM, 0, stream, &CANCEL)).await;
            rounds += 1;
            assert!(rounds < 1000, "it goes on for ever");
        }
        assert!(rounds >= 100, "a client may change its mind: {rounds}");
    }
    let load = ports.rig.load();
    assert_eq!((load.waiting, load.in_flight), (0, 0));
    assert!(load.peak < 8, "what is taken back is no load: {}", load.peak);
    ports.close().await;
}

#[tokio::test]
async fn floods_end_and_leave_nothing_behind() {
    if !alone("server::tests::hostile::floods::floods_end_and_leave_nothing_behind") {
        return;
    }
    let ports = Ports::open().await;
    let before = memory();
    let [cluster, public] = ports.for_callers();
    for (port, host) in [cluster, public, (ports.peer, "f.shop")] {
        flood_one(&ports, (port, host), before).await;
    }
    ports.close().await;
}

async fn flood_one(ports: &Ports, (port, host): (SocketAddr, &'static str), before: usize) {
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &head("POST", host, "/flood"));
    let cases: [Case; 7] = [
        (
            "continuations without end",
            20_000,
            frame(HEADERS, 0, 1, &head("GET", host, "/flood")),
            Box::new(|_| frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(1000)))),
        ),
        (
            "empty continuations",
            50_000,
            frame(HEADERS, 0, 1, &head("GET", host, "/flood")),
            Box::new(|_| frame(CONTINUATION, 0, 1, &[])),
        ),
        ("empty data", 50_000, open(1), Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("settings", 20_000, Vec::new(), Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]))),
        ("pings", 20_000, Vec::new(), Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
        ("windows", 50_000, open(1), Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        (
            "requests that end in errors",
            20_000,
            Vec::new(),
            Box::new(move |round| {
                let fields = [head("GET", host, "/flood"), field("connection", "close")].concat();
                frame(HEADERS, END_HEADERS | 1, opened(round), &fields)
            }),
        ),
    ];
    for (name, rounds, first, round) in cases {
        let mut client = Client::open(port).await;
        client.send(&first).await;
        let flooding = timeout(Duration::from_mins(1), flood(&mut client, rounds, round)).await;
        // Who is not stopped gains nothing: it costs as much to send as to read.
        assert!(flooding.is_ok(), "{name}: stuck");
        let grown = memory().saturating_sub(before);
        assert!(grown < FLAT, "{name}: {grown}");
        drop(client);
        ports.serves_beside("/flood").await;
    }
}

/// A few bytes that stand for many: a long field put into the table once and named over and over.
#[tokio::test]
async fn a_bomb_of_headers_does_not_go_off() {
    if !alone("server::tests::hostile::floods::a_bomb_of_headers_does_not_go_off") {
        return;
    }
    let ports = Ports::open().await;
    let before = memory();
    let [(cluster, _), (public, _)] = ports.for_callers();
    for port in [cluster, public, ports.peer].repeat(10) {
        let mut client = Client::open(port).await;
        let mut block = head("GET", "f.shop", "/flood");
        let mut long = field("x-long-field", &"y".repeat(3900));
        // With a place in the table.
        long[0] = 0x40;
        block.extend(long);
        // The newest entry of the table.
        block.extend([0xbe; 12_000]);
        client.send(&frame(HEADERS, END_HEADERS | 1, 1, &block)).await;
        assert_ne!(client.answered(1).await, Some(super::frames::STATUS_200));
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < FLAT, "{grown}");
    assert!(ports.take_reached().is_empty());
    ports.serves().await;
    ports.close().await;
}

/// Clients that ask for much and read nothing.
#[tokio::test]
async fn who_does_not_read_holds_little() {
    if !alone("server::tests::hostile::floods::who_does_not_read_holds_little") {
        return;
    }
    let ports = Ports::open().await;
    large_answers(&ports, ([10, 0, 0, 2], 8080).into());
    let before = memory();
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut client = Client::open(ports.cluster).await;
        // Windows as large as they may be.
        let windows = [
            frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]),
        ];
        client.send(&windows.concat()).await;
        for round in 0..100 {
            client.send(&get(opened(round), "f.shop", "/large")).await;
        }
        kept.push(client);
    }
    ports.rig.in_flight_on_sockets(1000).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // For each what waits to be taken, and as much again on its way from the pod; and, as the pod
    // is in this process too, what it is sending and what stands in its connection.
    let most = 2000 * ((64 + 64 + 16) * 1024 + super::rig::PIPE);
    let grown = memory().saturating_sub(before);
    assert!(grown < most, "{grown}");
    drop(kept);
    ports.close().await;
}

fn large_answers(ports: &Ports, address: SocketAddr) {
    use futures::FutureExt;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    ports.rig.gate.retire("pod-1");
    let protocol = rouse_crds::v1alpha1::Protocol::Http1;
    super::rig::serve_pod(&ports.rig.world, address, protocol, |_| {
        let bytes = bytes::Bytes::from_static(&[b'x'; 16 * 1024]);
        let endless = futures::stream::repeat_with(move || Ok(Frame::data(bytes.clone())));
        let body = BodyExt::boxed(StreamBody::new(endless));
        async { http::Response::new(body) }.boxed()
    });
    ports.rig.gate.open(&super::rig::pod("large", address, protocol));
}
