//! Custom handlers of Azure Functions, with requests passed on and not.

mod nats;

use hyper::Request;
use serde_json::{Value, json};

use crate::rig::{Shim, call, digest, files, get, handler, post};

fn app(host: &Value, functions: &[(&str, Value)]) -> Vec<u8> {
    let mut all = vec![("host.json".to_owned(), host.to_string())];
    for (name, function) in functions {
        all.push((format!("{name}/function.json"), function.to_string()));
    }
    let all: Vec<_> = all.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files(&all)
}

fn host(forwards: bool) -> Value {
    json!({"version": "2.0", "customHandler": {
        "description": {"defaultExecutablePath": handler(), "arguments": ["run"]},
        "enableForwardingHttpRequest": forwards,
    }})
}

fn http(route: Option<&str>) -> Value {
    json!({"bindings": [
        {"type": "httpTrigger", "direction": "in", "name": "req", "methods": ["get", "post"], "route": route},
        {"type": "http", "direction": "out", "name": "res"},
    ]})
}

/// Takes requests, answers, and sends to a queue.
fn sending(connection: &str) -> Value {
    json!({"bindings": [
        {"type": "httpTrigger", "direction": "in", "name": "req"},
        {"type": "http", "direction": "out", "name": "res"},
        {"type": "queue", "direction": "out", "name": "sent", "queueName": "orders",
            "connection": connection},
    ]})
}

async fn serving(code: Vec<u8>) -> (Shim, u16) {
    Shim::serving_code(code, &[], &[("ROUSE_CONTRACT", "azure")]).await
}

#[tokio::test]
async fn requests_are_passed_on_as_they_are_where_the_app_says_so() {
    let (_shim, port) = serving(app(&host(true), &[("hello", http(None))])).await;
    let answer = post(port, "/api/hello?a=b", "body").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "body".into()));
    assert_eq!(get(port, "/hello").await.status, 404);
    let put = Request::put("/api/hello").body("".into()).unwrap();
    assert_eq!(call(port, put).await.status, 405);
}

#[tokio::test]
async fn else_the_handler_is_told_of_them_and_its_outputs_are_the_answer() {
    let code = app(
        &host(false),
        &[("items", http(Some("items/{id:int}"))), ("any", http(Some("{*rest}")))],
    );
    let (mut shim, port) = serving(code).await;
    let answer = post(port, "/api/items/7?a=b", "{\"x\":1}").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-path")), (201, "/items"));
    let told = answer.json();
    let request = &told["Data"]["req"];
    assert_eq!(request["Params"], json!({"id": "7"}));
    assert_eq!((&request["Query"], &request["Body"]), (&json!({"a": "b"}), &json!("{\"x\":1}")));
    assert_eq!(told["Metadata"]["sys"]["MethodName"], "items");
    shim.said(|line| (line["message"] == "a line").then_some(())).await;
    assert_eq!(get(port, "/api/items/x").await.header("x-path"), "/any");
}

#[tokio::test]
async fn timers_and_messages_call_functions_too() {
    let timer = json!({"bindings": [{"type": "timerTrigger", "name": "tick", "direction": "in", "schedule": "0 * * * * *"}]});
    let queue = json!({"bindings": [{"type": "queueTrigger", "name": "item", "direction": "in"}]});
    let (_shim, port) = serving(app(&host(true), &[("each", timer.clone()), ("one", queue)])).await;
    assert_eq!(post(port, "/admin/functions/each", "{}").await.status, 200);
    assert_eq!(post(port, "/admin/functions/one", "hello").await.status, 200);
    assert_eq!(post(port, "/admin/functions/none", "hello").await.status, 404);
    assert_eq!(post(port, "/", "hello").await.status, 200, "it is no tick");
    let tick = |source: &str| {
        let request = Request::post("/").header("ce-type", "dev.rouse.schedule.tick");
        call(port, request.header("ce-source", source).body("{}".into()).unwrap())
    };
    assert_eq!(tick("/namespaces/a/triggers/function-each").await.status, 200);
    let (_shim, port) = serving(app(&host(true), &[("each", timer)])).await;
    assert_eq!(post(port, "/", "{}").await.status, 200);
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_name() {
    let binding = |kind: &str, direction: &str| {
        json!({"bindings": [
            {"type": "httpTrigger", "name": "req", "direction": "in"},
            {"type": kind, "name": "x", "direction": direction},
        ]})
    };
    let worker = json!({"version": "2.0"});
    for (code, said) in [
        (app(&worker, &[("f", http(None))]), "custom handlers can"),
        (app(&host(true), &[("f", binding("blob", "in"))]), "\"blob\""),
        (app(&host(true), &[("f", binding("sendGrid", "out"))]), "\"sendGrid\""),
        (app(&host(true), &[("f", binding("queue", "out"))]), "queueName"),
        (app(&host(true), &[("f", sending("Nowhere"))]), "nats://nats.shop:4222"),
        (app(&host(true), &[("f", json!({"bindings": []}))]), "exactly one trigger"),
        (app(&host(true), &[]), "no folder with a function.json"),
        (files(&[("a", "b")]), "host.json"),
        (
            app(&json!({"customHandler": {"description": {"defaultExecutablePath": "../x"}}}), &[]),
            "leads out",
        ),
    ] {
        let shim = Shim::start(&digest(&code), &[], &[("ROUSE_CONTRACT", "azure")]).await;
        assert_eq!(shim.push(code).await.status, 200);
        let state = shim.until("CodeRefused").await;
        assert!(state["message"].as_str().unwrap().contains(said), "{state}");
    }
}
