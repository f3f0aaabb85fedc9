//! Functions of the functions frameworks of Google.

use hyper::{Method, Request};
use serde_json::Value;

use crate::rig::{Answer, Shim, call, get};
use crate::{clients, serving, zipped};

const CONTRACT: (&str, &str) = ("ROUSE_CONTRACT", "functions-framework");

async fn python(target: &str, signature: &str) -> (Shim, u16) {
    let site = clients("python").join("site");
    let variables = [
        CONTRACT,
        ("ROUSE_HANDLER", target),
        ("ROUSE_SIGNATURE", signature),
        ("PYTHONPATH", site.to_str().unwrap()),
    ];
    serving(zipped("python", &["main.py"]), &["python3", "-m", "functions_framework"], &variables)
        .await
}

async fn node(target: &str, signature: &str) -> (Shim, u16) {
    let client = clients("node").join("node_modules/.bin/functions-framework");
    let variables = [CONTRACT, ("ROUSE_HANDLER", target), ("ROUSE_SIGNATURE", signature)];
    let command = [client.to_str().unwrap(), "--source=functions.js"];
    serving(zipped("node", &["functions.js"]), &command, &variables).await
}

async fn go(target: &str, signature: &str) -> (Shim, u16) {
    let program = clients("go").join("bin/functions");
    let variables = [CONTRACT, ("ROUSE_HANDLER", target), ("ROUSE_SIGNATURE", signature)];
    serving(zipped("go", &[program.to_str().unwrap()]), &["./functions"], &variables).await
}

/// A function that takes requests.
async fn requests(name: &str, port: u16) {
    let request = Request::post("/any/path").header("content-type", "text/plain");
    let answer = call(port, request.body("body".into()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (201, format!("hello from {name} body")));
    assert_eq!(answer.header("x-path"), "/any/path");
}

async fn event(port: u16, kind: &str, body: &str) -> Answer {
    let request = Request::post("/").header("content-type", kind);
    call(port, request.body(body.to_owned().into()).unwrap()).await
}

/// A function that takes `CloudEvents`: binary, structured, and none that is none.
async fn events(shim: &mut Shim, port: u16) {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/")
        .header("ce-specversion", "1.0")
        .header("ce-id", "e-binary")
        .header("ce-source", "/a")
        .header("ce-type", "b.c")
        .header("content-type", "application/json");
    let answer = call(port, request.body(r#"{"x":1}"#.into()).unwrap()).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    let took = |id: &'static str| {
        move |line: &Value| {
            line["message"].as_str()?.contains(&format!("took {id} b.c")).then_some(())
        }
    };
    shim.said(took("e-binary")).await;
    let document =
        r#"{"specversion":"1.0","id":"e-whole","source":"/a","type":"b.c","data":{"x":1}}"#;
    let answer = event(port, "application/cloudevents+json", document).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    shim.said(took("e-whole")).await;
    let batch = event(port, "application/cloudevents-batch+json", &format!("[{document}]")).await;
    assert_eq!(batch.status, 415, "a framework would lose it and say that it is done");
    let odd = event(port, "application/cloudevents+json", r#"{"specversion":"1.0"}"#).await;
    assert_eq!(odd.status, 400, "{}", odd.text());
    assert_eq!(get(port, "/").await.status, 405);
}

/// A function that takes events as before there were `CloudEvents`.
async fn old_events(shim: &mut Shim, port: u16) {
    let document = r#"{"context":{"eventId":"e-old","timestamp":"2026-01-01T00:00:00Z",
        "eventType":"b.c","resource":"projects/p"},"data":{"x":1}}"#;
    let answer = event(port, "application/json", document).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    let took = |line: &Value| line["message"].as_str()?.contains("took e-old b.c").then_some(());
    shim.said(took).await;
}

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn python_functions() {
    let (mut shim, port) = python("hello", "http").await;
    requests("python", port).await;
    assert_eq!(get(port, "/fail").await.status, 500);
    shim.said(|line| line["message"].as_str()?.contains("on purpose").then_some(())).await;
    let (mut shim, port) = python("take", "cloudevent").await;
    events(&mut shim, port).await;
    let (mut shim, port) = python("old", "event").await;
    old_events(&mut shim, port).await;
}

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn node_functions() {
    let (_shim, port) = node("hello", "http").await;
    requests("node", port).await;
    assert_eq!(get(port, "/fail").await.status, 500);
    let (mut shim, port) = node("take", "cloudevent").await;
    events(&mut shim, port).await;
    let (mut shim, port) = node("old", "event").await;
    old_events(&mut shim, port).await;
}

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn go_functions() {
    let (_shim, port) = go("hello", "http").await;
    requests("go", port).await;
    let (mut shim, port) = go("take", "cloudevent").await;
    events(&mut shim, port).await;
}
