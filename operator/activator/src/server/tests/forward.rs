//! Two activators: one that the client calls, one that owns the Function. Whatever happens to the
//! owner, a request is answered once and runs at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use rouse_core::function::Timeouts;
use rouse_core::handover::{Estate, Release, ReleaseLine};
use rouse_core::membership::Member;
use rouse_core::peer::IDENTITY_PATH;
use rouse_crds::v1alpha1::Protocol;
use rouse_peer::{ClientStream, Protocol as Spoken, testing};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::protocols::{tunnelling, upgrading};
use super::rig::{self, Body, Rig, World, channel, data, get, http1_over, post, read, text};
use crate::admission::Refusal;
use crate::forward::{PeerDialer, Releases};
use crate::proxy::ProxyConfig;
use crate::release::Released;

/// An activator that forwards, and one that owns.
struct Pair {
    near: Rig,
    far: Rig,
    member: Member,
}

fn pair() -> Pair {
    let (near, far, member) = rig::pair();
    Pair { near, far, member }
}

impl Pair {
    /// Sends a request to the activator that forwards, without waiting for the answer.
    async fn begin(&self, request: Request<Body>) -> JoinHandle<(u16, String)> {
        let mut sender = self.near.http1().await;
        tokio::spawn(async move {
            let response = sender.send_request(request).await.unwrap();
            (response.status().as_u16(), read(response).await)
        })
    }

    async fn at_rest(&self) {
        self.near.at_rest().await;
        self.far.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_serves_what_another_passes_on() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let pair = pair();
        pair.far.pod(1, protocol, |request| {
            let seen = format!("{:?}", {
                let mut names: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
                names.sort();
                names
            });
            assert!(!seen.contains("x-rouse"), "{seen}");
            assert_eq!(request.headers()["authorization"], "Bearer mine");
            assert_eq!(request.headers()["x-forwarded-for"], "192.0.2.7");
            assert_eq!(request.uri().path_and_query().unwrap(), "/a%20b?c");
            rig::echo(request)
        });
        let mut request = post("/a%20b?c", rig::full("body"));
        request.headers_mut().insert("authorization", "Bearer mine".parse().unwrap());
        request.headers_mut().insert("x-rouse-function-uid", "forged".parse().unwrap());
        let response = pair.near.send(request).await;
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("x-rouse")));
        assert_eq!(read(response).await, "body");
        let passed = "rouse_forwards_total{outcome=\"answered\"}";
        assert_eq!(pair.near.metric(passed), Some(1.0));
        pair.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_one_connection_to_the_owner() {
    let pair = pair();
    pair.far.gate.configure(rig::bounds(1, 1000));
    let begun = futures::future::join_all((0..200).map(|_| pair.begin(get("/")))).await;
    pair.far.waiting(200).await;
    pair.far.hello(1);
    for answer in begun {
        assert_eq!(answer.await.unwrap(), (200, "Hello".into()));
    }
    let dials = pair.near.world.dials();
    assert_eq!(dials, 3, "one to the owner, one for its proof, one from it to the pod");
    assert_eq!(pair.near.world.tokens.reviews(), 1);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_stays_with_the_client_until_the_owner_has_a_slot() {
    let pair = pair();
    let (upload, body) = channel();
    let answer = pair.begin(post("/", body)).await;
    pair.far.waiting(1).await;
    upload.send(data("one ")).await.unwrap();
    let reads = upload.clone();
    rig::settle().await;
    pair.far.pod(1, Protocol::Http1, rig::echo);
    reads.send(data("two")).await.unwrap();
    drop((upload, reads));
    assert_eq!(answer.await.unwrap(), (200, "one two".into()));
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_at_an_owner_follows_when_it_moves() {
    let mut pair = pair();
    let answer = pair.begin(post("/", rig::full("whole"))).await;
    pair.far.waiting(1).await;
    // The owner of before learns of it first, then this one.
    pair.far.gate.shut(Refusal::Moved);
    rig::settle().await;
    pair.near.own_anew();
    pair.near.waiting(1).await;
    pair.near.pod(1, Protocol::Http1, rig::echo);
    assert_eq!(answer.await.unwrap(), (200, "whole".into()));
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_here_follows_when_the_function_moves_away() {
    let pair = pair();
    pair.near.own();
    let answer = pair.begin(post("/", rig::full("whole"))).await;
    pair.near.waiting(1).await;
    pair.near.give_to(&pair.member);
    pair.near.gate.shut(Refusal::Moved);
    pair.far.waiting(1).await;
    pair.far.pod(1, Protocol::Http1, rig::echo);
    assert_eq!(answer.await.unwrap(), (200, "whole".into()));
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_accepts_no_connection_is_tried_until_another_owns() {
    let pair = pair();
    pair.near.world.refuse(rig::address(100));
    let answer = pair.begin(post("/", rig::full("whole"))).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(pair.near.world.dials() > 10, "it goes on trying");
    assert!(pair.near.world.dials() < 200, "it does not hammer");
    pair.near.own();
    pair.near.waiting(1).await;
    pair.near.pod(1, Protocol::Http1, rig::echo);
    assert_eq!(answer.await.unwrap(), (200, "whole".into()));
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_back_serves_the_request() {
    let pair = pair();
    pair.near.world.refuse(rig::address(100));
    let answer = pair.begin(post("/", rig::full("whole"))).await;
    rig::settle().await;
    pair.far.join("far", rig::address(100));
    pair.far.pod(1, Protocol::Http1, rig::echo);
    assert_eq!(answer.await.unwrap(), (200, "whole".into()));
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_be_reached_is_named_in_the_end() {
    let pair = pair();
    pair.near.world.refuse(rig::address(100));
    let begun = Instant::now();
    let (status, problem) = pair.near.get("/").await;
    assert_eq!(status, 503);
    assert!(problem.contains("problems/peer-unreachable\""), "{problem}");
    assert!(problem.contains("activator far"), "{problem}");
    assert_eq!(begun.elapsed(), rig::timeouts().activation);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_own_does_not_pass_on_further() {
    let pair = pair();
    pair.far.give_to(&pair.near.join("near", rig::address(101)));
    let answer = pair.begin(get("/")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(pair.near.metric("rouse_forwards_total{outcome=\"answered\"}"), Some(0.0));
    pair.far.own();
    pair.far.hello(1);
    assert_eq!(answer.await.unwrap(), (200, "Hello".into()));
    pair.at_rest().await;
}

/// An owner that reads the head of each request, says what `word` says, and dies.
fn dying(world: &World, says_sent_on: bool) -> (Member, Arc<AtomicUsize>) {
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heads);
    let member = world.activator("dying", rig::address(100), move |io| {
        let counted = Arc::clone(&counted);
        async move {
            let mut connection = h2::server::handshake(io).await.unwrap();
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            if says_sent_on {
                let interim = Response::builder().status(StatusCode::CONTINUE).body(()).unwrap();
                respond.send_informational(interim).unwrap();
            }
            // Lets what was said go out.
            let _ = tokio::time::timeout(Duration::from_millis(10), connection.accept()).await;
        }
    });
    (member, heads)
}

#[tokio::test(start_paused = true)]
async fn a_request_outlives_an_owner_that_dies_before_it_sends_it_on() {
    let pair = pair();
    let (member, heads) = dying(&pair.near.world, false);
    pair.near.give_to(&member);
    let answer = pair.begin(post("/", rig::full("whole"))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(heads.load(Ordering::SeqCst) >= 1);
    pair.near.own();
    pair.near.pod(1, Protocol::Http1, rig::echo);
    assert_eq!(answer.await.unwrap(), (200, "whole".into()));
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_owner_sent_on_is_not_passed_on_again() {
    let pair = pair();
    let (member, heads) = dying(&pair.near.world, true);
    pair.near.give_to(&member);
    let (status, problem) = pair.near.get("/").await;
    assert_eq!(status, 502);
    assert!(problem.contains("problems/peer-broke\""), "{problem}");
    assert_eq!(heads.load(Ordering::SeqCst), 1);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_freezes_is_given_up_and_another_asked() {
    for proves_itself in [true, false] {
        let pair = pair();
        if proves_itself {
            let member = pair.near.world.activator("frozen", rig::address(100), |io| async move {
                let _kept = io;
                std::future::pending::<()>().await;
            });
            pair.near.give_to(&member);
        } else {
            freeze(&pair.near.world);
        }
        let answer = pair.begin(post("/", rig::full("whole"))).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        pair.near.own();
        pair.near.pod(1, Protocol::Http1, rig::echo);
        assert_eq!(answer.await.unwrap(), (200, "whole".into()));
        pair.at_rest().await;
    }
}

/// Accepts, and then says nothing.
fn freeze(world: &World) {
    world.listen(rig::address(100), |io| {
        tokio::spawn(async move {
            let _kept = io;
            std::future::pending::<()>().await;
        });
    });
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_frozen_owner_follows_as_soon_as_another_owns() {
    let pair = pair();
    freeze(&pair.near.world);
    let plain = pair.begin(post("/", rig::full("whole"))).await;
    let mut sender = pair.near.http1().await;
    let upgrade = tokio::spawn(async move { sender.send_request(upgrading()).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    pair.near.own();
    pair.near.pod(1, Protocol::Http1, rig::echo);
    assert_eq!(plain.await.unwrap(), (200, "whole".into()));
    assert_eq!(upgrade.await.unwrap().status(), StatusCode::OK, "the pod echoes");
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    pair.at_rest().await;
}

/// A request as another activator passes it on, and its connection.
async fn pass_on(
    pair: &Pair,
) -> (
    h2::client::ResponseFuture,
    h2::SendStream<Bytes>,
    h2::client::Connection<ClientStream<DuplexStream>, Bytes>,
) {
    let io = pair.near.world.call(rig::address(100), Spoken::Http2).await;
    let (sender, connection) = h2::client::handshake(io).await.unwrap();
    let request = Request::get("http://f.shop/")
        .header("x-rouse-peer-token", rig::TOKEN)
        .header("x-rouse-function", "f.shop")
        .header("x-rouse-function-uid", "uid-f")
        .header("x-rouse-arrived-ago-ms", "0")
        .body(())
        .unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (response, stream) = sender.send_request(request, false).unwrap();
    (response, stream, connection)
}

/// The same, up to the owner's word that it is about to send it on.
async fn told(pair: &Pair) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let (mut response, stream, connection) = pass_on(pair).await;
    tokio::spawn(async move { drop(connection.await) });
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    assert_eq!(interim.unwrap().unwrap().status(), StatusCode::CONTINUE);
    (response, stream)
}

#[tokio::test(start_paused = true)]
async fn an_owner_sends_nothing_before_it_has_the_word() {
    let pair = pair();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    pair.far.pod(1, Protocol::Http1, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { text("Hello") }.boxed()
    });
    let (response, _stream) = told(&pair).await;
    let response = response.await.unwrap();
    assert_eq!(response.headers()["x-rouse-unsent"], "not-owner", "it is not waited for for ever");
    drop(told(&pair).await);
    pair.at_rest().await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    let (response, mut stream) = told(&pair).await;
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    pair.at_rest().await;
}

/// Else what it has not read yet is lost, and with it the answers to what it passed on.
#[tokio::test(start_paused = true)]
async fn an_activator_may_go_on_writing_after_the_owner_has_said_its_last_word() {
    let pair = pair();
    let mut io = pair.near.world.call(rig::address(100), Spoken::Http2).await;
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let data_on_stream_0 = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    io.write_all(&[settings, data_on_stream_0].concat()).await.unwrap();
    io.flush().await.unwrap();
    let mut heard = Vec::new();
    io.read_to_end(&mut heard).await.unwrap();
    assert!(heard.windows(4).any(|bytes| bytes == [0, 0, 8, 7]), "it says that it goes: {heard:?}");
    for _ in 0..2 {
        io.write_all(&settings).await.unwrap();
        io.flush().await.unwrap();
    }
    drop(io);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_activator_that_freezes_gives_back_what_it_holds_at_the_owner() {
    let pair = pair();
    let (_answer, body) = channel();
    let body = std::sync::Mutex::new(Some(body));
    pair.far.pod(1, Protocol::Http1, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }.boxed()
    });
    let (response, mut stream, mut connection) = pass_on(&pair).await;
    stream.send_data(Bytes::new(), true).unwrap();
    let head = tokio::select! {
        response = response => response.unwrap(),
        _ = &mut connection => panic!("the connection lives"),
    };
    assert_eq!(head.status(), 200);
    pair.far.in_flight(1).await;
    // Nobody drives the connection any more.
    tokio::time::sleep(Duration::from_secs(7)).await;
    pair.far.in_flight(0).await;
    drop(connection);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_protocol_outlives_an_owner_that_dies_before_it_has_the_word() {
    let pair = pair();
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heads);
    // It has read the head when it dies.
    let member = pair.near.world.activator("dying", rig::address(100), move |_io| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    });
    pair.near.give_to(&member);
    let mut sender = pair.near.http1().await;
    let answer = tokio::spawn(async move { sender.send_request(upgrading()).await.unwrap() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(heads.load(Ordering::SeqCst) > 1);
    pair.near.own();
    pair.near.pod(1, Protocol::Http1, tunnelling);
    assert_eq!(answer.await.unwrap().status(), StatusCode::SWITCHING_PROTOCOLS);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_gone_from_the_owner_too() {
    let pair = pair();
    let answer = pair.begin(post("/", rig::full("body"))).await;
    pair.far.waiting(1).await;
    answer.abort();
    pair.far.waiting(0).await;
    let called = Arc::new(AtomicBool::new(false));
    let call = Arc::clone(&called);
    pair.far.pod(1, Protocol::Http1, move |_| {
        call.store(true, Ordering::SeqCst);
        async { text("") }.boxed()
    });
    pair.at_rest().await;
    assert!(!called.load(Ordering::SeqCst));
}

/// However it leaves: no time passes, and nobody is called.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_by_http1_or_by_a_reset_is_gone_from_both() {
    for leaves_by_reset in [false, true] {
        let pair = pair();
        let begun = Instant::now();
        let mut http1 = pair.near.connect(rouse_core::routing::Listener::Cluster);
        let http2 = pair.near.http2().await;
        let mut sender = http2.clone();
        let waiting = tokio::spawn(async move {
            let request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
            if leaves_by_reset {
                drop(sender.send_request(request).await);
            }
        });
        if !leaves_by_reset {
            http1.write_all(b"GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n").await.unwrap();
        }
        pair.far.waiting(1).await;
        assert!(pair.near.metric("rouse_buffered_bytes{").unwrap() > 0.0);
        waiting.abort();
        drop(http1);
        pair.far.waiting(0).await;
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        pair.far.pod(1, Protocol::Http1, |_| panic!("nobody is there to be answered"));
        pair.at_rest().await;
        assert!(pair.near.metric("rouse_buffered_bytes{").unwrap() < 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_frees_the_owners_slot() {
    let pair = pair();
    let (answer, body) = channel();
    let body = std::sync::Mutex::new(Some(body));
    pair.far.pod(1, Protocol::Http1, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }.boxed()
    });
    answer.send(data("one")).await.unwrap();
    let mut response = pair.near.send(get("/")).await;
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    pair.far.in_flight(1).await;
    drop(response);
    answer.closed().await;
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn the_owners_problems_are_the_clients() {
    let pair = pair();
    pair.far
        .handle
        .set_timeouts(Timeouts { activation: Duration::from_secs(2), ..rig::timeouts() });
    let begun = Instant::now();
    let (status, problem) = pair.near.get("/").await;
    assert_eq!(status, 504);
    assert!(problem.contains("problems/activation-timeout\""), "{problem}");
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn bodies_and_trailers_stream_through_the_owner() {
    let pair = pair();
    pair.far.pod(1, Protocol::H2c, |request| {
        async move {
            let frames = request.into_body().into_data_stream();
            let frames = futures::StreamExt::map(frames, |chunk| Ok(Frame::data(chunk.unwrap())));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let last = futures::stream::iter([Ok(Frame::trailers(trailers))]);
            Response::new(BodyExt::boxed(StreamBody::new(futures::StreamExt::chain(frames, last))))
        }
        .boxed()
    });
    let (upload, body) = channel();
    let request = Request::post("http://f.shop/").header("te", "trailers").body(body).unwrap();
    let response = pair.near.http2().await.send_request(request).await.unwrap();
    let mut body = response.into_body();
    for word in ["one", "two"] {
        upload.send(data(word)).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), word);
    }
    drop(upload);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(body.frame().await.is_none());
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_body_passes_through_the_owner_both_ways() {
    let pair = pair();
    pair.far.pod(1, Protocol::Http1, rig::echo);
    let large = "0123456789abcdef".repeat(256 * 1024);
    let answer = pair.near.send(post("/", rig::full(large.clone()))).await;
    assert!(read(answer).await == large);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_leaves_http_through_the_owner() {
    let pair = pair();
    pair.far.pod(1, Protocol::Http1, tunnelling);
    let mut response = pair.near.send(upgrading()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut read = [0; 5];
    io.write_all(b"hello").await.unwrap();
    io.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello");
    pair.far.in_flight(1).await;
    drop(io);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_protocol_follows_the_owner_too() {
    let mut pair = pair();
    let mut sender = pair.near.http1().await;
    let answer = tokio::spawn(async move { sender.send_request(upgrading()).await.unwrap() });
    pair.far.waiting(1).await;
    pair.far.gate.shut(Refusal::Moved);
    rig::settle().await;
    pair.near.own_anew();
    pair.near.pod(1, Protocol::Http1, tunnelling);
    assert_eq!(answer.await.unwrap().status(), StatusCode::SWITCHING_PROTOCOLS);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_activator_is_asked_for_a_function_and_not_waited_for_without_end() {
    let pair = pair();
    let ask = || {
        let ProxyConfig { token_file, dialer, connector, .. } = pair.near.config.clone();
        let dialer = PeerDialer::new(dialer, connector);
        let to = Member { uid: "uid-near".into(), name: "near".into(), peer: "unused".into() };
        let release = Release { function: "uid-f".into(), version: 7, to };
        Arc::new(Releases::new(token_file, dialer)).ask(pair.member.clone(), release)
    };
    let Released::Gave { estate, rest } = ask().await else { panic!("it answers") };
    assert_eq!(estate, Estate::default());
    let lines: Vec<ReleaseLine> = rest.unwrap().0.collect().await;
    assert_eq!(lines, [ReleaseLine::Done]);
    for (patience, happens) in
        [(2, freeze as fn(&World)), (0, |world| world.refuse(rig::address(100)))]
    {
        happens(&pair.near.world);
        let begun = Instant::now();
        assert!(matches!(ask().await, Released::Silent));
        assert_eq!(begun.elapsed().as_secs(), patience);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_but_peers_is_served_on_their_port() {
    let pair = pair();
    pair.far.hello(1);
    for (token, status) in [
        (None, 401),
        (Some("forged"), 401),
        (Some("of-a-controller"), 401),
        (Some("of-whoever"), 421),
        (Some(rig::TOKEN), 200),
    ] {
        for http2 in [false, true] {
            let spoken = if http2 { Spoken::Http2 } else { Spoken::Http1 };
            let io = pair.near.world.call(rig::address(100), spoken).await;
            let mut request = get(if http2 { "http://f.shop/" } else { "/" });
            let headers = request.headers_mut();
            if http2 {
                headers.remove("host");
            }
            headers.insert("x-rouse-function", "f.shop".parse().unwrap());
            headers.insert("x-rouse-function-uid", "uid-f".parse().unwrap());
            headers.insert("x-rouse-arrived-ago-ms", "0".parse().unwrap());
            if let Some(token) = token {
                headers.insert("x-rouse-peer-token", token.parse().unwrap());
            }
            let response = if http2 {
                rig::http2_over(io).await.send_request(request).await.unwrap()
            } else {
                http1_over(io).await.send_request(request).await.unwrap()
            };
            assert_eq!(response.status(), status, "{token:?}");
            assert_eq!(response.headers().contains_key("x-rouse-unsent"), status != 200);
        }
    }
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn reports_are_for_peers_only() {
    let pair = pair();
    let io = pair.near.world.call(rig::address(100), Spoken::Http1).await;
    let mut sender = http1_over(io).await;
    let mut request = get("/v1/reports");
    let refused = sender.send_request(get("/v1/reports")).await.unwrap();
    assert_eq!(refused.status(), 401);
    drop(read(refused).await);
    request.headers_mut().insert("authorization", "Bearer of-a-controller".parse().unwrap());
    sender.ready().await.unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let line = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(line, "\"synced\"\n");
    drop(response);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_is_shown_what_proves_the_key() {
    let pair = pair();
    let io = pair.near.world.call(rig::address(100), Spoken::Http1).await;
    let mut sender = http1_over(io).await;
    let response = sender.send_request(get(IDENTITY_PATH)).await.unwrap();
    assert_eq!(response.status(), 200);
    let key = pair.far.shared.peers.key.fingerprint();
    assert_eq!(read(response).await, testing::proof("uid-far", key));
    pair.far.prove(None);
    sender.ready().await.unwrap();
    assert_eq!(sender.send_request(get(IDENTITY_PATH)).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_to_whoever_is_not_the_owner_and_all_to_it_once_it_is() {
    let pair = pair();
    for other in [Some("uid-near"), None] {
        pair.far.prove(other);
        let answer = pair.begin(post("/", rig::full("whole"))).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(pair.far.load().waiting, 0);
        pair.far.prove(Some("uid-far"));
        pair.far.pod(1, Protocol::Http1, rig::echo);
        assert_eq!(answer.await.unwrap(), (200, "whole".into()));
        pair.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_owner_is_reached_anew_without_the_api_server() {
    let pair = pair();
    pair.far.pod(1, Protocol::Http1, tunnelling);
    // Each has a connection of its own to the owner.
    for _ in 0..2 {
        let response = pair.near.send(upgrading()).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        drop(response);
        pair.near.world.tokens.set_away(true);
        pair.far.prove(None);
    }
    assert_eq!(pair.near.world.tokens.reviews(), 1);
    pair.at_rest().await;
}
