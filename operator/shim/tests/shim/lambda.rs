//! The contract of Lambda with a language process of our own, which can do what vendors' clients
//! can't be brought to.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::{Value, json};

use crate::rig::{Answer, Shim, call, digest, eventually, files, handler, lives, post, send};

async fn serving(variables: &[(&str, &str)]) -> (Shim, u16) {
    let mut all = vec![("ROUSE_CONTRACT", "lambda"), ("ROUSE_HANDLER", "app.handler")];
    all.extend(variables);
    Shim::serving(&[&handler()], &all).await
}

/// Sends an event as a source does.
async fn event(port: u16, event: impl Into<Bytes>) -> Answer {
    let request = Request::post("/").header("rouse-event", "lambda");
    call(port, request.body(Full::new(event.into())).unwrap()).await
}

async fn deed(port: u16, deed: &str) -> Answer {
    event(port, json!({"do": deed}).to_string()).await
}

#[tokio::test]
async fn a_request_becomes_an_event_and_an_event_of_a_source_stays_what_it_is() {
    let (_shim, port) = serving(&[]).await;
    let answer = post(port, "/a/b?c=d", "body").await;
    let echoed = answer.json();
    assert_eq!((answer.status.as_u16(), &echoed["version"]), (200, &json!("2.0")));
    assert_eq!((&echoed["rawPath"], &echoed["rawQueryString"]), (&json!("/a/b"), &json!("c=d")));
    let raw = r#"{"Records": [ 1, 2.50 ]}"#;
    assert_eq!(event(port, raw).await.text(), raw);
    assert_eq!(event(port, "").await.text(), "{}");
}

#[tokio::test]
async fn a_stream_comes_as_it_is_written_with_the_head_that_it_names() {
    let (_shim, port) = serving(&[]).await;
    let request = Request::post("/").header("content-type", "application/json");
    let body = json!({"do": "stream"}).to_string();
    // As the body of a request the deed is escaped; as an event it is not.
    let request = request.header("rouse-event", "lambda").body(body.into()).unwrap();
    let (parts, mut body) = send(port, request).await.into_parts();
    assert_eq!(parts.status, 201);
    assert_eq!(parts.headers["x-a"], "1");
    assert_eq!(parts.headers["set-cookie"], "c=1");
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap());
    }
    assert_eq!(pieces.concat(), b"one,two,three");
    assert_eq!(pieces.len(), 3);
}

#[tokio::test]
async fn a_failure_is_told_to_a_source_and_hidden_from_others() {
    let (mut shim, port) = serving(&[]).await;
    let told = deed(port, "fail").await;
    assert_eq!((told.status.as_u16(), told.header("x-amz-function-error")), (500, "Unhandled"));
    assert_eq!(told.json()["errorMessage"], "on purpose");
    let hidden = post(port, "/", r#"{"do":"fail"}"#).await;
    assert_eq!(hidden.status, 200, "a body is escaped in an event, so this one is an echo");
    let why = shim.said(|line| line["why"].as_str().map(ToOwned::to_owned)).await;
    assert_eq!(why, "ValueError: on purpose");
}

#[tokio::test]
async fn results_that_are_none_are_gateway_errors_and_the_process_lives_on() {
    let (shim, port) = serving(&[]).await;
    let pid = deed(port, "pid").await.text();
    let odd = deed(port, "odd").await;
    assert_eq!(odd.status, 200, "a source gets what there is");
    let large = deed(port, "large=6291557").await;
    assert_eq!(large.status, 500);
    assert!(large.text().contains("ResponseSizeTooLarge"), "{}", large.text());
    let fits = deed(port, "large=6291556").await;
    assert_eq!((fits.status.as_u16(), fits.body.len()), (200, 6_291_556));
    let silent = deed(port, "silent").await;
    assert_eq!(silent.status, 502);
    assert!(silent.text().contains("never answered"), "{}", silent.text());
    assert_eq!(deed(port, "pid").await.text(), pid);
    assert_eq!(shim.state().await["starts"], 1);
}

#[tokio::test]
async fn more_than_an_event_may_have_is_refused_before_it_is_sent() {
    let (_shim, port) = serving(&[]).await;
    assert_eq!(event(port, vec![b' '; 6 * 1024 * 1024 + 101]).await.status, 413);
    let request = Request::post("/").header("content-type", "image/png");
    let request = request.body(vec![0; 5 << 20].into()).unwrap();
    assert_eq!(call(port, request).await.status, 413, "in base64 it is a third larger");
}

#[tokio::test]
async fn one_that_hangs_is_ended_at_its_deadline_whether_or_not_somebody_waits() {
    let (shim, port) = serving(&[("ROUSE_REQUEST_TIMEOUT_MS", "300")]).await;
    let first = deed(port, "pid").await.text();
    assert_eq!(deed(port, "hang").await.status, 504);
    let second = deed(port, "pid").await.text();
    assert_ne!(first, second);
    assert!(!lives(&first));
    // This one leaves before the time is over.
    let request = Request::post("/").header("rouse-event", "lambda");
    let request = request.body(json!({"do": "hang"}).to_string().into()).unwrap();
    let left = tokio::time::timeout(std::time::Duration::from_millis(100), call(port, request));
    left.await.unwrap_err();
    eventually(|| !lives(&second)).await;
    assert_ne!(deed(port, "pid").await.text(), second);
    assert_eq!(shim.state().await["starts"], 3);
}

#[tokio::test]
async fn one_that_exits_is_told_and_replaced_and_what_waits_goes_on() {
    let (_shim, port) = serving(&[]).await;
    let (exit, next) = tokio::join!(deed(port, "exit"), deed(port, "pid"));
    assert_eq!(exit.status, 502);
    assert!(exit.text().contains("exit code 7"), "{}", exit.text());
    assert_eq!(next.status, 200);
}

#[tokio::test]
async fn one_that_leaks_descriptors_is_replaced_before_it_can_do_no_more() {
    let few = format!("ulimit -n 64; exec {}", handler());
    let variables = [("ROUSE_CONTRACT", "lambda")];
    let (shim, port) = Shim::serving(&["sh", "-c", &few], &variables).await;
    let pid = deed(port, "pid").await.text();
    assert_eq!(deed(port, "leak").await.status, 500);
    eventually(|| !lives(&pid)).await;
    assert_ne!(deed(port, "pid").await.text(), pid);
    assert_eq!(shim.state().await["starts"], 2);
}

#[tokio::test]
async fn several_processes_serve_several_requests_and_each_one_only() {
    let (shim, port) = serving(&[("ROUSE_PROCESSES", "3")]).await;
    let wait = async {
        while shim.state().await["ready"] != 3 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    wait.await;
    let began = tokio::time::Instant::now();
    let all =
        tokio::join!(deed(port, "sleep=300"), deed(port, "sleep=300"), deed(port, "sleep=300"));
    assert!([all.0, all.1, all.2].iter().all(|answer| answer.status == 200));
    assert!(began.elapsed() < std::time::Duration::from_millis(850), "{:?}", began.elapsed());
}

#[tokio::test]
async fn why_it_does_not_come_up_is_said_as_it_says_it() {
    let code = files(&[("app.py", "")]);
    let variables = [
        ("ROUSE_CONTRACT", "lambda"),
        ("HANDLER_INIT_ERROR", "Unable to import module 'app': No module named 'flask'"),
    ];
    let shim = Shim::start(&digest(&code), &[&handler()], &variables).await;
    shim.push(code).await;
    let state = shim.until("InitFailed").await;
    let message = state["message"].as_str().unwrap();
    assert!(message.starts_with("Runtime.ImportModuleError: Unable to import"), "{message}");
    assert!(shim.lines().iter().all(|line| line["port"].is_null()));
}

#[tokio::test]
async fn what_is_printed_is_of_its_invocation() {
    let (mut shim, port) = serving(&[]).await;
    for id in ["r1", "r2", "r3"] {
        let request = Request::post("/").header("rouse-event", "lambda").header("x-request-id", id);
        let body: Value = json!({"do": "print=100"});
        call(port, request.body(body.to_string().into()).unwrap()).await;
        let of = |line: &Value| {
            (line["requestId"] == id && line["message"] == "did print=100").then_some(())
        };
        shim.said(of).await;
    }
}
