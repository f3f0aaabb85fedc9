//! The lines that are fetched before a pod is gone: by whom, from where, and up to the last one.

use http_body_util::Full;
use hyper::Request;
use serde_json::Value;

use crate::rig::{Answer, Shim, call, get, handler};

const UID: &str = "6fbf2a1e-0000-4000-8000-00000000abcd";

async fn serving() -> (Shim, u16) {
    Shim::serving(&[&handler()], &[("ROUSE_POD_UID", UID)]).await
}

async fn fetch(control: u16, pod: &str, query: &str) -> Answer {
    let request = Request::get(format!("/logs?{query}")).header("rouse-pod", pod);
    call(control, request.body(Full::default()).unwrap()).await
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fetches on from `from` until `wanted` is among the lines; gives all, and where they end.
async fn until(control: u16, mut from: u64, wanted: &str) -> (Vec<Value>, u64) {
    let mut all = Vec::new();
    let mut run = String::new();
    while !all.iter().any(|line: &Value| line["message"] == wanted) {
        let answer = fetch(control, UID, &format!("run={run}&from={from}")).await;
        answer.header("rouse-log-run").clone_into(&mut run);
        assert_eq!(answer.header("rouse-log-from"), from.to_string());
        from += answer.body.len() as u64;
        all.extend(lines(&answer));
    }
    (all, from)
}

#[tokio::test]
async fn who_knows_the_pod_gets_its_lines_with_their_requests_and_nobody_else_does() {
    let (mut shim, port) = serving().await;
    let request = Request::get("/?exact").header("x-request-id", "r1");
    call(port, request.body(Full::default()).unwrap()).await;
    let (all, _) = until(shim.control, 0, "did exact").await;
    let line = all.iter().find(|line| line["message"] == "did exact").unwrap();
    assert_eq!((&line["requestId"], &line["stream"]), (&"r1".into(), &"stdout".into()));
    // It is the line of the log, letter by letter, whichever way it comes first.
    shim.said(|said| (said == line).then_some(())).await;
    let other = fetch(shim.control, "6fbf2a1e-0000-4000-8000-00000000abce", "").await;
    assert_eq!(other.status, 403);
    assert!(!other.text().contains("exact"), "{}", other.text());
    assert_eq!(get(shim.control, "/logs").await.status, 403);

    let (without, _) = Shim::serving(&[&handler()], &[("ROUSE_POD_UID", "")]).await;
    assert_eq!(fetch(without.control, "", "").await.status, 403);
}

#[tokio::test]
async fn the_last_line_is_fetched_though_the_pod_ends() {
    let (mut shim, port) = serving().await;
    get(port, "/?exact").await;
    let (_, from) = until(shim.control, 0, "did exact").await;
    let control = shim.control;
    let run = fetch(control, UID, "from=0").await.header("rouse-log-run").to_owned();
    let query = format!("run={run}&from={from}");
    let rest = tokio::spawn(async move { fetch(control, UID, &query).await });
    // It is told to end while somebody waits for lines, or is about to.
    shim.terminate();
    shim.said(|line| (line["message"] == "the pod ends").then_some(())).await;
    let rest = rest.await.unwrap();
    let mut all = lines(&rest);
    if rest.header("rouse-log-end") != "true" {
        let next = from + rest.body.len() as u64;
        let last = fetch(control, UID, &format!("run={run}&from={next}")).await;
        assert_eq!(last.header("rouse-log-end"), "true");
        all.extend(lines(&last));
    }
    assert!(all.iter().any(|line| line["message"] == "the pod ends"), "{all:?}");
    assert_eq!(shim.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_earlier_start_of_the_shim_is_told_from_this_one() {
    let (shim, port) = serving().await;
    get(port, "/?exact").await;
    let (_, from) = until(shim.control, 0, "did exact").await;
    let answer = fetch(shim.control, UID, &format!("run=7&from={from}")).await;
    assert_eq!(answer.header("rouse-log-from"), "0");
}
