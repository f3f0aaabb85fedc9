//! Plain exchanges with pods that answer in every way: what the caller gets is what `hyper` would
//! have made of it, a request reaches the pod once, and a connection in doubt serves nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

use super::rig::{self, Rig, World, get};

/// How a pod answers.
#[derive(Clone, Copy, Debug)]
struct Script {
    answer: &'static str,
    /// Bytes that are sent at a time.
    piece: usize,
    /// Whether it closes the connection after it.
    closes: bool,
}

/// What listens at `last` answers each request by `script`; counts the requests.
fn scripted(world: &World, last: u8, script: Script) -> Arc<AtomicUsize> {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    world.listen(rig::address(last), move |mut io| {
        let counted = Arc::clone(&counted);
        tokio::spawn(async move {
            let mut read = Vec::new();
            while let Ok(1..) = io.read_buf(&mut read).await {
                if !read.ends_with(b"\r\n\r\n") {
                    continue;
                }
                let heads = read.windows(4).filter(|end| end == b"\r\n\r\n").count();
                counted.fetch_add(heads, Ordering::SeqCst);
                read.clear();
                for piece in script.answer.as_bytes().chunks(script.piece) {
                    if io.write_all(piece).await.is_err() {
                        return;
                    }
                    yield_now().await;
                }
                if script.closes {
                    return;
                }
            }
        });
    });
    requests
}

/// Status, headers and body of the answer to a caller; no body where it broke off.
type Seen = (u16, Vec<(String, String)>, Option<String>);

/// What a caller sees, and how often the pod was asked.
async fn ask(script: Script, plainly: bool) -> (Seen, usize) {
    let rig = Rig::owner();
    let requests = scripted(&rig.world, 1, script);
    let pod = rig::pod("scripted", rig::address(1), Protocol::Http1);
    if !plainly {
        pod.connections.note_odd();
    }
    rig.gate.open(&pod);
    let (head, body) = rig.send(get("/")).await.into_parts();
    let mut headers: Vec<(String, String)> = head
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    // Why an exchange broke off is said in other words.
    let status = head.status.as_u16();
    let body = body.collect().await.ok();
    let text = body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap());
    let seen = if status == 502 { (status, vec![], None) } else { (status, headers, text) };
    rig.at_rest().await;
    (seen, requests.load(Ordering::SeqCst))
}

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHello",
    "HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nHel\r\n2\r\nlo\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-a\r\n\r\n1\r\nH\r\n0\r\nx-a: 1\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHello",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nH",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nHello",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nok",
    "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "SSH-2.0-server\r\n\r\n",
];

#[tokio::test(start_paused = true)]
async fn a_caller_gets_what_the_pod_answers_however_it_does() {
    for answer in ANSWERS {
        for piece in [1, 7, 1000] {
            for closes in [false, true] {
                let script = Script { answer, piece, closes };
                let (plain, asked) = ask(script, true).await;
                assert_eq!(asked, 1, "{script:?}");
                assert_eq!((plain, asked), ask(script, false).await, "{script:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_off_is_not_whole() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nHelloHello";
    for end in 1..whole.len() {
        let script = Script { answer: &whole[..end], piece: 16, closes: true };
        let ((status, _, body), asked) = ask(script, true).await;
        let head_came = whole[..end].contains("\r\n\r\n");
        assert_eq!((status, body, asked), (if head_came { 200 } else { 502 }, None, 1), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_doubt_serves_nobody_else() {
    for (answer, dials) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 1),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", 3),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\nok", 3),
    ] {
        for piece in [1, 1000] {
            let rig = Rig::owner();
            let requests = scripted(&rig.world, 1, Script { answer, piece, closes: false });
            rig.gate.open(&rig::pod("scripted", rig::address(1), Protocol::Http1));
            for _ in 0..3 {
                let body = rig.send(get("/")).await.into_body().collect().await.unwrap();
                assert!(["ok", ""].contains(&std::str::from_utf8(&body.to_bytes()).unwrap()));
                rig::settle().await;
            }
            assert_eq!((rig.world.dials(), requests.load(Ordering::SeqCst)), (dials, 3));
            rig.at_rest().await;
        }
    }
}
