use std::pin::pin;

use futures::FutureExt;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::server::tests::rig::{self, Rig, text};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n";

/// A connection of a client, and the client's end of it.
fn connect(rig: &Rig) -> (Arc<Connection>, Orders, Seated<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    let io = rig.seat(far);
    let origin =
        Origin { client: "192.0.2.7:4711".parse().unwrap(), believed: true, secure: false };
    let connection = Connection {
        shared: Arc::clone(&rig.shared),
        listener: Listener::Cluster,
        facts: Arc::new(ClientFacts::new(origin)),
        presence: Presence::unknown(),
        seat: Arc::clone(io.seat()),
    };
    let (phase, leave) = (rig.shared.phase.subscribe(), Leave::new(io.seat()));
    (Arc::new(connection), Orders { phase, leave }, io, near)
}

/// Serves a connection without trying it plainly.
pub async fn serve_by_hyper(
    shared: &Arc<Shared>,
    io: Seated<DuplexStream>,
    caller: (Listener, Origin),
) {
    let (connection, mut orders) = begin(shared, &io, Presence::unknown(), caller);
    serve_any(&connection, io, &mut orders, None).await;
}

/// Says `words` and serves them, until the connection rests or ends.
async fn say(
    (connection, orders): (&Arc<Connection>, &mut Orders),
    io: Seated<DuplexStream>,
    near: &mut DuplexStream,
    words: &[u8],
) -> Option<Seated<DuplexStream>> {
    near.write_all(words).await.unwrap();
    serve_http1(connection, io, orders, None).await
}

/// What the client has been answered.
async fn answered(near: &mut DuplexStream) -> String {
    let mut answer = vec![0; 4096];
    let count = near.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_between_requests_and_loses_nothing() {
    let rig = Rig::owner();
    rig.hello(1);
    let (connection, mut orders, mut io, mut near) = connect(&rig);
    let (early, late) = GET.split_at(9);
    let both = [GET, early].concat();
    for words in [GET, &both, late, GET] {
        // Of those that come in quick succession it sees the end only later.
        tokio::time::sleep(Duration::from_secs(3)).await;
        io = say((&connection, &mut orders), io, &mut near, words).await.unwrap();
        assert!(answered(&mut near).await.ends_with("Hello"));
    }
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn requests_in_quick_succession_are_not_rested_between() {
    let rig = Rig::owner();
    rig.hello(1);
    let (connection, mut orders, io, mut near) = connect(&rig);
    let io = say((&connection, &mut orders), io, &mut near, GET).await.unwrap();
    assert!(answered(&mut near).await.ends_with("Hello"));
    near.write_all(GET).await.unwrap();
    let mut serving = pin!(serve_http1(&connection, io, &mut orders, None));
    let second = Duration::from_millis(900);
    assert!(tokio::time::timeout(second, serving.as_mut()).await.is_err());
    assert!(answered(&mut near).await.ends_with("Hello"));
    assert!(serving.await.is_some(), "a look at the seats wakes it");
    rig.at_rest().await;
}

/// What follows belongs to the request, or there is nothing to follow: a parser that begins anew
/// would take the one for a request, and hide from the client that the other is so.
#[tokio::test(start_paused = true)]
async fn a_connection_keeps_its_parser_where_the_request_may_not_be_over() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::Http1, |_| async { text("Hello") }.boxed());
    let (connection, mut orders, io, mut near) = connect(&rig);
    let post = b"POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 34\r\n\r\n";
    near.write_all(post).await.unwrap();
    let mut served = pin!(serve_http1(&connection, io, &mut orders, None));
    assert!(tokio::time::timeout(Duration::from_secs(1), served.as_mut()).await.is_err());
    assert!(answered(&mut near).await.ends_with("Hello"));
    rig.at_rest().await;
    for closing in ["connection: close", "connection: keep-alive, close"] {
        let (connection, mut orders, io, mut near) = connect(&rig);
        let get = format!("GET / HTTP/1.1\r\nhost: f.shop\r\n{closing}\r\n\r\n");
        let rested = say((&connection, &mut orders), io, &mut near, get.as_bytes()).await;
        assert!(rested.is_none() && answered(&mut near).await.ends_with("Hello"));
    }
    rig::settle().await;
}
