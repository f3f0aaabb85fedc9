//! Processes that listen on a port: what passes through, and what becomes of those that misbehave.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::rig::{
    Shim, call, digest, eventually, files, get, handler, is_stopped, lives, post, send,
};

async fn serving(variables: &[(&str, &str)]) -> (Shim, u16) {
    Shim::serving(&[&handler()], variables).await
}

#[tokio::test]
async fn bodies_pass_as_they_are_and_in_both_directions_bit_by_bit() {
    let (_shim, port) = serving(&[]).await;
    let body: Vec<u8> = (0..3_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
    let answer = post(port, "/any/path", body.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, body.len()));
    assert_eq!(answer.body, body);
    let request = Request::get("/?stream").body(Full::default()).unwrap();
    let (parts, mut body) = send(port, request).await.into_parts();
    assert_eq!(parts.status, 200);
    let mut pieces = 0;
    let mut first = None;
    while let Some(frame) = body.frame().await {
        pieces += frame.unwrap().into_data().unwrap().len();
        first.get_or_insert_with(Instant::now);
    }
    assert_eq!(pieces, 15);
    assert!(first.unwrap().elapsed() >= std::time::Duration::from_millis(90));
}

#[tokio::test]
async fn a_connection_can_be_taken_over() {
    let (_shim, port) = serving(&[]).await;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/")
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .header("host", "x")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
}

#[tokio::test]
async fn what_is_printed_is_of_its_request() {
    let (mut shim, port) = serving(&[]).await;
    for id in ["r1", "r2", "r3"] {
        let request = Request::get(format!("/?print=200#{id}")).header("x-request-id", id);
        send(port, request.body(Full::default()).unwrap()).await;
        let of = |line: &serde_json::Value| (line["requestId"] == id).then(|| line.clone());
        let line = shim.said(of).await;
        assert_eq!(
            (&line["stream"], line["message"].as_str().unwrap().len()),
            (&"stdout".into(), 99)
        );
    }
}

#[tokio::test]
async fn a_line_that_has_no_end_is_of_its_request_alone() {
    let (mut shim, port) = serving(&[]).await;
    for id in ["r1", "r2"] {
        let request = Request::get("/?unended").header("x-request-id", id);
        call(port, request.body(Full::default()).unwrap()).await;
    }
    let line = shim.said(|line| (line["requestId"] == "r1").then(|| line.clone())).await;
    assert_eq!((&line["stream"], &line["message"]), (&"stdout".into(), &"did unended".into()));
}

#[tokio::test]
async fn ten_megabytes_are_printed_while_requests_go_on() {
    let (mut shim, port) = serving(&[]).await;
    assert_eq!(get(port, "/?print=10000000").await.status, 200);
    assert_eq!(get(port, "/?exact").await.status, 200);
    shim.said(|line| (line["message"] == "did exact").then_some(())).await;
    let printed = shim.lines().iter().filter(|line| line["message"] == "x".repeat(99)).count();
    assert_eq!(printed, 100_000);
}

#[tokio::test]
async fn one_that_exits_is_named_and_started_again() {
    let (shim, port) = serving(&[]).await;
    let answer = get(port, "/?exit").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(answer.text().contains("exit code 7"), "{}", answer.text());
    assert_eq!(get(port, "/").await.status, 200, "it waits for the next one");
    assert_eq!(shim.state().await["starts"], 2, "{:#?}", shim.lines());
}

#[tokio::test]
async fn one_that_hangs_is_ended_when_the_time_is_over_and_another_begins() {
    // What hangs is all of it: a process that is stopped says nothing.
    let (shim, port) = serving(&[("ROUSE_REQUEST_TIMEOUT_MS", "300")]).await;
    let id = get(port, "/").await.header("x-pid").to_owned();
    let process = rustix::process::Pid::from_raw(id.parse().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    eventually(|| is_stopped(&id)).await;
    let answer = get(port, "/").await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    eventually(|| !lives(&id)).await;
    assert_eq!(get(port, "/").await.status, 200);
    assert_eq!(shim.state().await["starts"], 2, "{:#?}", shim.lines());
}

#[tokio::test]
async fn what_can_not_be_sent_to_one_that_goes_waits_for_the_next() {
    let (shim, port) = serving(&[]).await;
    assert_eq!(get(port, "/?shut").await.status, 502, "it may have done it");
    let body = "x".repeat(1_000_000);
    let (one, other) = tokio::join!(post(port, "/", body.clone()), get(port, "/"));
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (200, 200));
    assert!(one.body == body);
    assert_eq!(shim.state().await["starts"], 2, "{:#?}", shim.lines());
}

#[tokio::test]
async fn one_that_answers_others_lives_on_when_a_request_hangs() {
    let (shim, port) = serving(&[("ROUSE_REQUEST_TIMEOUT_MS", "200")]).await;
    let id = get(port, "/").await.header("x-pid").to_owned();
    assert_eq!(get(port, "/?hang").await.status, 504);
    assert_eq!(get(port, "/").await.header("x-pid"), id);
    assert_eq!(shim.state().await["starts"], 1);
}

#[tokio::test]
async fn answers_that_are_none_are_gateway_errors() {
    let (_shim, port) = serving(&[]).await;
    assert_eq!(get(port, "/?odd").await.status, 502);
    let (parts, body) =
        send(port, Request::get("/?cut").body(Full::default()).unwrap()).await.into_parts();
    assert_eq!(parts.status, 200);
    assert!(body.collect().await.is_err(), "who reads half an answer must know");
    assert_eq!(get(port, "/").await.status, 200);
}

#[tokio::test]
async fn one_that_does_not_come_up_is_told_with_its_last_words_and_the_port_stays_shut() {
    let code = files(&[("app.txt", "hello")]);
    let variables = [("HANDLER_INIT_FAILS", "no module named flask")];
    let shim = Shim::start(&digest(&code), &[&handler()], &variables).await;
    shim.push(code).await;
    let state = shim.until("InitFailed").await;
    let message = state["message"].as_str().unwrap();
    assert!(
        message.contains("exit code 3") && message.contains("no module named flask"),
        "{message}"
    );
    assert!(shim.lines().iter().all(|line| line["port"].is_null()));
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let code = files(&[("app.txt", "hello")]);
    let shim = Shim::start(&digest(&code), &["./nothing"], &[]).await;
    shim.push(code).await;
    let state = shim.until("InitFailed").await;
    assert!(state["message"].as_str().unwrap().contains("./nothing"), "{state}");
}

#[tokio::test]
async fn what_a_process_left_behind_goes_with_it() {
    let (mut shim, port) = serving(&[]).await;
    get(port, "/?fork").await;
    let of = |line: &serde_json::Value| {
        Some(line["message"].as_str()?.strip_prefix("forked ")?.to_owned())
    };
    let child = shim.said(of).await;
    assert!(lives(&child));
    get(port, "/?exit").await;
    eventually(|| !lives(&child)).await;
    let zombies = || {
        let parent = format!("PPid:\t{}", shim.id());
        let folders = std::fs::read_dir("/proc").unwrap().flatten();
        let status = folders.filter_map(|f| std::fs::read_to_string(f.path().join("status")).ok());
        status.filter(|s| s.contains(&parent) && s.contains("State:\tZ")).count()
    };
    eventually(|| zombies() == 0).await;
    assert_eq!(get(port, "/").await.status, 200);
}

#[tokio::test]
async fn the_end_waits_for_requests_and_not_for_one_that_ignores_it() {
    let deaf = format!("trap '' TERM; exec {}", handler());
    let variables = [("ROUSE_TERM_TIMEOUT_MS", "200")];
    let (mut shim, port) = Shim::serving(&["sh", "-c", &deaf], &variables).await;
    let id = get(port, "/").await.header("x-pid").to_owned();
    let under_way = tokio::spawn(async move { get(port, "/?sleep=500").await });
    // The request has come when the one after it is answered.
    let request = || TcpStream::connect(("127.0.0.1", port));
    request().await.unwrap();
    get(port, "/?before").await;
    shim.said(|line| (line["message"] == "did before").then_some(())).await;
    shim.terminate();
    shim.said(|line| (line["message"] == "the pod ends").then_some(())).await;
    assert_eq!(under_way.await.unwrap().status, 200);
    assert_eq!(shim.ended().await.code(), Some(0));
    assert!(!lives(&id));
}

#[tokio::test]
async fn only_what_is_an_event_reaches_one_that_takes_events() {
    let (_shim, port) = serving(&[("ROUSE_CONTRACT", "cloudevents")]).await;
    let binary = Request::post("/")
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/a")
        .header("ce-type", "b")
        .header("content-type", "application/json");
    let answer = crate::rig::call(port, binary.body("{}".into()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{}".into()));
    let typed = |kind: &str, body: &str| {
        let request = Request::post("/").header("content-type", kind);
        crate::rig::call(port, request.body(body.to_owned().into()).unwrap())
    };
    let event = r#"{"specversion":"1.0","id":"1","source":"/a","type":"b","data":{"x":1}}"#;
    let structured = typed("application/cloudevents+json", event).await;
    assert_eq!((structured.status.as_u16(), structured.text()), (200, event.into()));
    let batch = typed("application/cloudevents-batch+json", &format!("[{event}]")).await;
    assert_eq!(batch.status, 415, "{}", batch.text());
    let without = typed("application/cloudevents+json", r#"{"specversion":"1.0","id":"1"}"#).await;
    assert_eq!(without.status, 400);
    assert!(without.text().contains("source"), "{}", without.text());
    assert_eq!(typed("application/json", "{}").await.status, 400);
    assert_eq!(get(port, "/").await.status, 405);
}
