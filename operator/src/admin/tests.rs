use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;

async fn open() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin { registry: Registry::default(), unready: Box::new(|| None) };
    spawn(listener, admin);
    address
}

/// Sends `bytes` as they stand and reads until the port closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    // The port may answer and close before it has read all.
    drop(client.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(client.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn one_request_is_answered_and_nothing_after_it() {
    let address = open().await;
    let get = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let smuggled = "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\
                    transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for (request, status) in [
        (get.to_owned(), "200"),
        (get.repeat(3), "200"),
        (format!("{smuggled}{get}"), "405"),
        ("GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n".into(), "404"),
        ("GET /livez HTTP/1.1\r\nhost : a\r\n\r\n".into(), "400"),
        ("GET /livez HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n".into(), "400"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\n".into(), "400"),
        (format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(MOST_HEAD)), "431"),
        (format!("GET /livez HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200)), "431"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), ""),
    ] {
        let answer = exchange(address, request.as_bytes()).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(status.is_empty() == answer.is_empty(), "{request} {answer}");
        assert!(answer.is_empty() || answer.starts_with(&expected), "{request} {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{request} {answer}");
    }
}

/// Whatever is said of a body, and whatever follows: there is one answer, and the connection ends.
#[tokio::test]
async fn nothing_is_hidden_behind_a_request() {
    let address = open().await;
    let hidden = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let metrics = exchange(address, hidden.as_bytes()).await;
    assert!(metrics.contains("text/plain; version="), "{metrics}");
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: identity\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "content-length: 5\r\ncontent-length: 44\r\n\r\n",
        "content-length: +5\r\n\r\n",
        "content-length: 0\r\n\r\n",
        "x: a\r\n b\r\n\r\n",
        "x: a\ncontent-length: 44\n\n",
        "transfer-encoding: chunked\r\n\r\n5;a\nabcde\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0;a=\"b\"\r\n\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "\r\n",
    ] {
        for line in ["POST /livez HTTP/1.1", "GET /livez HTTP/1.1", "GET http://b/livez HTTP/1.1"] {
            let request = format!("{line}\r\nhost: a\r\n{fields}{hidden}");
            let answer = exchange(address, request.as_bytes()).await;
            assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{request} {answer}");
            assert!(!answer.contains("version="), "{request} {answer}");
        }
    }
}

/// A connection has its time, whatever comes on it.
#[tokio::test(start_paused = true)]
async fn who_is_slow_is_cut_off() {
    let address = open().await;
    for begun in [
        "",
        "GET /livez HTTP/1.1\r\nx: ",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n",
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(begun.as_bytes()).await.unwrap();
        let from = Instant::now();
        let mut answer = Vec::new();
        drop(client.read_to_end(&mut answer).await);
        assert!(from.elapsed() <= CONNECTION_TIMEOUT + Duration::from_secs(1), "{begun}");
    }
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let address = open().await;
    for (accept, kind, end) in [
        ("", "text/plain; version=0.0.4", ""),
        ("accept: application/openmetrics-text\r\n", "application/openmetrics-text", "# EOF\n"),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: a\r\n{accept}\r\n");
        let answer = exchange(address, request.as_bytes()).await;
        assert!(answer.contains(&format!("content-type: {kind}")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{end}")), "{answer}");
    }
}

#[tokio::test]
async fn the_kubelet_is_answered_while_others_fill_the_port() {
    let address = open().await;
    let mut idle = Vec::new();
    for _ in 0..4 * MOST_CONNECTIONS {
        let mut client = TcpStream::connect(address).await.unwrap();
        // Some begin a request and never end it.
        drop(client.write_all(b"GET /livez HTTP/1.1\r\n").await);
        idle.push(client);
    }
    let begun = Instant::now();
    for path in ["/livez", "/readyz", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = exchange(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(begun.elapsed() < CONNECTION_TIMEOUT / 2);
    let mut closed = 0;
    for client in &mut idle {
        let mut byte = [0];
        let read = timeout(Duration::from_millis(20), client.read(&mut byte)).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
        if closed >= 3 * MOST_CONNECTIONS {
            return;
        }
    }
    panic!("only {closed} of the idle connections were closed");
}
