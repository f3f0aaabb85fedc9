//! What is no plain request, spoken by libraries and programs of others, to Functions that sleep
//! until then.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::header::HOST;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use rouse_e2e::cluster::GRPC_IMAGES;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use rouse_e2e::{activators, wait};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Longer than a WebSocket's counts of half a second each may be missed: the Function would sleep
/// after two.
const COUNTS: usize = 8;

type Socket = WebSocketStream<TcpStream>;

/// Opens a WebSocket to the Function `host` by the activator at `address`.
async fn open(address: SocketAddr, host: &str) -> anyhow::Result<Socket> {
    let request = format!("ws://{host}/websocket?every=500").into_client_request()?;
    let stream = TcpStream::connect(address).await?;
    let opening = timeout(PATIENCE, client_async(request, stream));
    let (socket, response) = opening.await.context("the Function does not wake")??;
    ensure!(response.headers().contains_key("x-hello-pod"), "{response:?}");
    Ok(socket)
}

/// The next message that `is_wanted`.
async fn next(socket: &mut Socket, is_wanted: fn(&Message) -> bool) -> anyhow::Result<Message> {
    let waiting = async {
        loop {
            let message = socket.next().await.context("it was closed")??;
            if is_wanted(&message) {
                return anyhow::Ok(message);
            }
        }
    };
    timeout(PATIENCE, waiting).await.context("nothing more is said")?
}

fn is_count(message: &Message) -> bool {
    matches!(message, Message::Text(text) if text.starts_with("count "))
}

/// Both sides speak as they like, for longer than the Function would stay awake without them.
async fn talk(socket: &mut Socket) -> anyhow::Result<()> {
    socket.send(Message::text("ol\u{e1}")).await?;
    let echo = next(socket, |message| message.is_text() && !is_count(message)).await?;
    assert_eq!(echo.to_text()?, "ol\u{e1}");
    let large = Bytes::from(vec![7; 1 << 20]);
    socket.send(Message::Binary(large.clone())).await?;
    assert_eq!(next(socket, Message::is_binary).await?.into_data(), large);
    socket.send(Message::Ping(Bytes::from_static(b"there?"))).await?;
    assert_eq!(next(socket, Message::is_pong).await?.into_data(), "there?");
    for _ in 0..COUNTS {
        next(socket, is_count).await?;
    }
    let reason = CloseFrame { code: CloseCode::Away, reason: "enough".into() };
    socket.close(Some(reason.clone())).await?;
    let last = next(socket, Message::is_close).await?;
    assert_eq!(last, Message::Close(Some(reason)), "the last word is the Function's");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_websocket_wakes_a_function_and_keeps_it_awake() {
    Scope::run("websocket", async |scope| {
        let limited = json!({"concurrency": {"limit": 1}});
        for (name, more) in [("free", json!({})), ("limited", limited)] {
            scope.apply_function(name, hello(&more)).await?;
        }
        // One of them owns the Function, and the other does not.
        for address in activators::addresses(&activators::two(&scope.cluster).await?)? {
            for name in ["free", "limited"] {
                scope.asleep(name, PATIENCE).await?;
                let mut socket = open(address, &scope.host(name)).await?;
                let [pod] = &scope.pods(name, PATIENCE, |pods| pods.len() == 1).await?[..] else {
                    unreachable!("it was waited for")
                };
                talk(&mut socket).await?;
                let pods = scope.pods(name, PATIENCE, |_| true).await?;
                let uids: Vec<_> = pods.iter().map(|pod| &pod.metadata.uid).collect();
                assert_eq!(uids, [&pod.metadata.uid], "{name}: it was one pod all the time");
            }
        }
        scope.asleep("free", PATIENCE).await?;
        scope.asleep("limited", PATIENCE).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn server_sent_events_arrive_one_by_one_until_who_listens_leaves() {
    Scope::run("events", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        for address in activators::addresses(&activators::two(&scope.cluster).await?)? {
            scope.asleep("hello", PATIENCE).await?;
            let client = Client::builder(TokioExecutor::new()).build_http();
            // What has no end never comes whole.
            let path = "sse?count=1000000&pause=250";
            let request = Request::get(format!("http://{address}/{path}"))
                .header(HOST, scope.host("hello"))
                .header("accept", "text/event-stream")
                .body(Empty::<Bytes>::new())?;
            let response = timeout(PATIENCE, client.request(request)).await??;
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            let events = response.into_body().into_data_stream().eventsource();
            let events = events.take(12).collect::<Vec<_>>();
            for (i, event) in timeout(PATIENCE, events).await?.into_iter().enumerate() {
                let event = event?;
                let told = (event.event.as_str(), event.id, event.data);
                assert_eq!(told, ("count", i.to_string(), i.to_string()));
            }
        }
        // Who listened has left, and with it what kept the Function awake.
        scope.asleep("hello", PATIENCE).await
    })
    .await;
}

/// What gRPC's makers have each of their clients do. Left out are those of accounts elsewhere.
const CASES: [&str; 12] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
];

/// A spec of gRPC's own test server, which sleeps as the sample Function does.
pub fn grpc(more: &Value) -> Value {
    let mut spec = hello(more);
    spec["image"] = json!(GRPC_IMAGES[1]);
    spec["args"] = json!(["-port=8080"]);
    spec["protocol"] = json!("h2c");
    spec
}

/// A pod that calls `host` in each of the cases, all at the same time.
fn caller(name: &str, host: &str) -> anyhow::Result<Pod> {
    let containers = CASES.map(|case| {
        json!({
            "name": case.replace('_', "-"), "image": GRPC_IMAGES[0],
            "args": [format!("-server_host={host}"), "-server_port=80", format!("-test_case={case}")],
        })
    });
    let spec = json!({"restartPolicy": "Never", "containers": containers});
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What the containers of the pod said that ended with an error.
async fn failures(scope: &Scope, pod: &Pod) -> anyhow::Result<Vec<String>> {
    let mut told = Vec::new();
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    for container in status.into_iter().flatten() {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        if ended.is_none_or(|ended| ended.exit_code != 0) {
            let params =
                LogParams { container: Some(container.name.clone()), ..LogParams::default() };
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let log = scope.api::<Pod>().logs(name, &params).await?;
            told.push(format!("{}: {log}", container.name));
        }
    }
    Ok(told)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn grpcs_own_client_speaks_to_its_own_server_which_sleeps_until_then() {
    Scope::run("grpc", async |scope| {
        let limited = json!({"concurrency": {"limit": 4}, "scaling": {"max": 3}});
        for (name, more) in [("free", json!({})), ("limited", limited)] {
            scope.apply_function(name, grpc(&more)).await?;
        }
        for name in ["free", "limited"] {
            scope.asleep(name, PATIENCE).await?;
            let caller = caller(name, &scope.host(name))?;
            scope.api::<Pod>().create(&PostParams::default(), &caller).await?;
            let pods = scope.api::<Pod>();
            let ended = wait::object(&pods, name, PATIENCE, |pod| pod.is_some_and(has_ended));
            let ended = ended.await?.context("the caller is there")?;
            let failures = failures(&scope, &ended).await?;
            assert!(failures.is_empty(), "{name}: {failures:#?}");
            scope.asleep(name, PATIENCE).await?;
        }
        Ok(())
    })
    .await;
}
