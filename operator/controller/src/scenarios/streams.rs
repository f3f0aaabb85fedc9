//! Stories of the streams of reports, over real connections and on the real clock.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rouse_peer::testing::{proof, welcome};
use rouse_peer::{ServerKey, ServerStream};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::reports::collector;

/// An activator's peer port, served by hand.
struct Activator {
    shows: Arc<Mutex<(ServerKey, String)>>,
    /// Requests and their connections; none for whoever asked for the token or said nothing.
    seen: mpsc::Receiver<Option<(String, Connection)>>,
    /// Accepts as long as this lives.
    _accepting: JoinSet<()>,
}

impl Activator {
    fn listen(listener: TcpListener) -> Self {
        let shows = Arc::new(Mutex::new(Self::right()));
        let (sender, seen) = mpsc::channel(16);
        let now = Arc::clone(&shows);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (key, token) = now.lock().unwrap().clone();
                let sender = sender.clone();
                tokio::spawn(async move {
                    let welcomed = welcome(&key, Some(&token), stream).await;
                    let seen = welcomed.map(|(stream, head)| (head, stream));
                    let _ = sender.send(seen).await;
                });
            }
        });
        Self { shows, seen, _accepting: accepting }
    }

    /// A key, and what proves it.
    fn right() -> (ServerKey, String) {
        let key = ServerKey::generate().unwrap();
        let token = proof("uid-activator-0", key.fingerprint());
        (key, token)
    }

    /// The head of the next request for reports, and the connection to answer on.
    async fn accept(&mut self) -> (String, Connection) {
        loop {
            if let Some(request) = self.seen.recv().await.unwrap() {
                return request;
            }
        }
    }
}

type Connection = ServerStream<TcpStream>;

async fn answer(stream: &mut Connection, status: &str) {
    let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

async fn send(stream: &mut Connection, lines: &[ReportLine]) {
    let text: String =
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    // In two chunks, cut anywhere.
    for part in [&text[..7], &text[7..]] {
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.flush().await.unwrap();
}

fn line(report: FunctionReport) -> ReportLine {
    ReportLine::Function(Box::new(report))
}

/// A controller whose one activator is ours, and the file with its token.
async fn rig(name: &str) -> (Rig, Activator, PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let token = std::env::temp_dir().join(format!("rouse-{name}-{}", std::process::id()));
    std::fs::write(&token, "first\n").unwrap();
    let config = Config {
        peer_port: listener.local_addr().unwrap().port(),
        peer_token_file: token.clone(),
        ..config()
    };
    let api = FakeApi::default();
    api.make("pods", activator("activator-0", "127.0.0.1"));
    let (mut rig, membership) = Rig::with(api, config);
    let collector = collector::run(rig.context.clone(), membership);
    rig.tasks.spawn(async {
        collector.await;
        "reports"
    });
    (rig, Activator::listen(listener), token)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn reports_are_read_and_become_status() {
    let (rig, mut activator, token) = rig("read").await;
    let r = rig.create_function(&json!({}));
    let (head, mut stream) = activator.accept().await;
    assert!(head.starts_with("get /v1/reports http/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: bearer first\r\n"), "{head}");
    answer(&mut stream, "200 OK").await;
    let serving = report(Some(&r), &[(&r, [1, 1, 0])]);
    send(&mut stream, &[line(serving), ReportLine::Synced, ReportLine::Heartbeat]).await;
    let latest_ready = || {
        let function = rig.api.get("functions", NAMESPACE, "hello").unwrap();
        function.pointer("/status/latestReady").is_some_and(|ready| *ready == json!(r))
    };
    until("the status names the serving revision", latest_ready).await;
    assert!(rig.context.reports.get(HELLO_UID).unwrap().live);

    // The stream breaks; the next has the token that stands in the file by then.
    std::fs::write(&token, "second").unwrap();
    drop(stream);
    let (head, mut stream) = activator.accept().await;
    assert!(!rig.context.reports.get(HELLO_UID).unwrap().live, "nobody corrects it now");
    assert!(head.contains("authorization: bearer second\r\n"), "{head}");
    answer(&mut stream, "200 OK").await;
    send(&mut stream, &[line(report(Some(&r), &[(&r, [0, 0, 0])])), ReportLine::Synced]).await;
    let asleep = || rig.status()["replicas"] == json!(0);
    until("the status says that it sleeps", asleep).await;
    std::fs::remove_file(token).unwrap();
}

#[tokio::test]
async fn a_refusal_and_a_line_that_is_no_report_end_the_stream_only() {
    let (rig, mut activator, token) = rig("refuse").await;
    let (_, mut stream) = activator.accept().await;
    answer(&mut stream, "401 Unauthorized").await;
    let (_, mut stream) = activator.accept().await;
    answer(&mut stream, "200 OK").await;
    stream.write_all(b"9\r\n{\"no\": 1}\r\n1\r\n\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let (_, mut stream) = activator.accept().await;
    answer(&mut stream, "200 OK").await;
    send(&mut stream, &[line(report(None, &[]))]).await;
    until("the report is there", || rig.context.reports.get(HELLO_UID).is_some()).await;
    rig.api.remove("pods", SYSTEM, "activator-0");
    let gone = || !rig.context.reports.get(HELLO_UID).unwrap().live;
    until("a member that is gone has no live reports", gone).await;
    std::fs::remove_file(token).unwrap();
}

#[tokio::test]
async fn an_activator_that_is_not_ready_and_does_not_answer_is_dropped_at_once() {
    let (mut rig, activator, token) = rig("silent").await;
    let members = |rig: &Rig| {
        let stored = rig.api.get("configmaps", SYSTEM, "rouse-membership").unwrap();
        let text = stored["data"]["membership.json"].as_str().unwrap().to_owned();
        serde_json::from_str::<Membership>(&text).unwrap().members.len()
    };
    rig.settle().await;
    assert_eq!(members(&rig), 1);
    // Nobody accepts at its port any more.
    drop(activator);
    rig.api.change("pods", SYSTEM, "activator-0", |pod| {
        pod["status"]["conditions"][0]["status"] = json!("False");
    });
    until("it is dropped", || members(&rig) == 0).await;
    std::fs::remove_file(token).unwrap();
}

#[tokio::test]
async fn an_activator_that_cannot_prove_its_key_is_told_nothing() {
    let (_rig, mut activator, token) = rig("unproved").await;
    activator.shows.lock().unwrap().1 = "of somebody else".into();
    // Two connections of the first try, and one of the next.
    for _ in 0..3 {
        assert!(activator.seen.recv().await.unwrap().is_none(), "nothing is asked for");
    }
    *activator.shows.lock().unwrap() = Activator::right();
    let (head, _stream) = activator.accept().await;
    assert!(head.starts_with("get /v1/reports "), "{head}");
    std::fs::remove_file(token).unwrap();
}
