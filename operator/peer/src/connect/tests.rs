//! Connections over TLS in memory, to activators that are right and to those that pretend.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::ServerKey;
use crate::testing::{NAMESPACE, Tokens, proof, token, welcome};

/// Whoever is at an address.
#[derive(Clone)]
struct Server {
    key: ServerKey,
    token: Option<String>,
    /// Bytes that were said to it on connections that were not to ask for the token.
    heard: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    fn new(token: impl FnOnce(Fingerprint) -> Option<String>) -> Self {
        let key = ServerKey::generate().unwrap();
        let token = token(key.fingerprint());
        Self { key, token, heard: Arc::default(), accepted: Arc::default() }
    }

    fn right() -> Self {
        Self::new(|key| Some(proof("uid-1", key)))
    }

    async fn serve(self, io: DuplexStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let welcomed = welcome(&self.key, self.token.as_deref(), io).await;
        let Some((mut stream, _)) = welcomed else { return };
        let mut buffer = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            self.heard.fetch_add(read, Ordering::SeqCst);
            stream.write_all(&buffer[..read]).await.unwrap();
            stream.flush().await.unwrap();
        }
    }

    fn dial(self) -> std::future::Ready<io::Result<DuplexStream>> {
        let (near, far) = duplex(16 * 1024);
        tokio::spawn(self.serve(far));
        std::future::ready(Ok(near))
    }
}

struct Rig {
    api: Tokens,
    connector: Connector,
    metrics: ProofMetrics,
}

impl Rig {
    fn new() -> Self {
        let (api, metrics) = (Tokens::default(), ProofMetrics::default());
        let connector = Connector::new(api.client(), NAMESPACE, metrics.clone()).unwrap();
        Self { api, connector, metrics }
    }

    async fn connect(&self, server: &Server) -> Result<ClientStream<DuplexStream>, ConnectError> {
        let member = Member {
            uid: "uid-1".into(),
            name: "activator-1".into(),
            peer: "10.0.0.1:8082".into(),
        };
        self.connector.connect(&member, Protocol::Http2, |_| server.clone().dial()).await
    }

    async fn refused(&self, server: &Server) -> ConnectError {
        let error = self.connect(server).await.expect_err("it must not be trusted");
        assert_eq!(server.heard.load(Ordering::SeqCst), 0, "nothing is said to it");
        error
    }
}

#[tokio::test(start_paused = true)]
async fn an_activator_is_proved_once_and_known_for_good() {
    let (rig, server) = (Rig::new(), Server::right());
    let mut stream = rig.connect(&server).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
    assert_eq!(rig.api.reviews(), 1);
    assert_eq!(server.accepted.load(Ordering::SeqCst), 2, "one of them for the token");

    rig.api.set_away(true);
    rig.connect(&server).await.unwrap();
    assert_eq!(server.accepted.load(Ordering::SeqCst), 3);
    assert_eq!(rig.metrics.count(Outcome::proved), 1);
}

#[tokio::test(start_paused = true)]
async fn a_right_token_with_another_key_proves_nothing() {
    let (rig, right) = (Rig::new(), Server::right());
    rig.connect(&right).await.unwrap();
    // Somebody in between, who asked the right one for its token.
    let between = Server::new(|_| right.token.clone());
    let error = rig.refused(&between).await;
    assert!(matches!(error, ConnectError::Wrong(Unproved::Token)), "{error}");
    rig.connect(&right).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_right_key_with_a_token_of_another_pod_or_account_proves_nothing() {
    let rig = Rig::new();
    let other = Server::new(|key| Some(proof("uid-2", key)));
    let error = rig.refused(&other).await;
    assert!(matches!(error, ConnectError::Wrong(Unproved::Pod)), "{error}");
    let account = "system:serviceaccount:shop:default";
    let stranger = Server::new(|key| Some(token(account, "uid-1", &key.audience())));
    let error = rig.refused(&stranger).await;
    assert!(matches!(error, ConnectError::Wrong(Unproved::Account(_))), "{error}");
    assert_eq!(rig.metrics.count(Outcome::wrong), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_audience_or_that_expired_proves_nothing() {
    let rig = Rig::new();
    let account = "system:serviceaccount:rouse-system:rouse-activator";
    for shown in [token(account, "uid-1", "rouse.dev/peer"), "expired".into(), String::new()] {
        let server = Server::new(|_| Some(shown.clone()));
        let error = rig.refused(&server).await;
        assert!(matches!(error, ConnectError::Wrong(Unproved::Token)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_token_there_is_no_connection_and_soon_another_try() {
    let rig = Rig::new();
    let mut server = Server::new(|_| None);
    let error = rig.refused(&server).await;
    assert!(matches!(error, ConnectError::NoToken(_)), "{error}");
    server.token = Some("x".repeat(MOST_BYTES + 1));
    let error = rig.refused(&server).await;
    assert!(matches!(error, ConnectError::Answer("it is too long")), "{error}");
    assert_eq!(rig.api.reviews(), 0);
    server.token = Some(proof("uid-1", server.key.fingerprint()));
    rig.connect(&server).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_not_asked_about_again_at_once() {
    let rig = Rig::new();
    let mut server = Server::new(|_| Some("expired".into()));
    rig.refused(&server).await;
    server.token = Some(proof("uid-1", server.key.fingerprint()));
    let error = rig.refused(&server).await;
    assert!(matches!(error, ConnectError::WrongBefore), "{error}");
    assert_eq!(rig.api.reviews(), 1);
    tokio::time::advance(Duration::from_secs(10)).await;
    rig.connect(&server).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_trusted_while_the_api_server_is_away() {
    let (rig, server) = (Rig::new(), Server::right());
    rig.api.set_away(true);
    let error = rig.refused(&server).await;
    assert!(matches!(error, ConnectError::Untold(_)), "{error}");
    assert_eq!(rig.metrics.count(Outcome::untold), 1);
    rig.api.set_away(false);
    rig.connect(&server).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_connections_at_once_need_few_proofs() {
    let (rig, server) = (Rig::new(), Server::right());
    let connecting = (0..100).map(|_| rig.connect(&server));
    for connected in futures::future::join_all(connecting).await {
        connected.unwrap();
    }
    assert!(rig.api.reviews() <= MOST_PROOFS, "{}", rig.api.reviews());
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_or_no_tls_is_given_up() {
    let rig = Rig::new();
    let member =
        Member { uid: "uid-1".into(), name: "activator-1".into(), peer: "10.0.0.1:1".into() };
    let silent = |_| async {
        let (near, far) = duplex(1024);
        tokio::spawn(async move {
            let _kept = far;
            std::future::pending::<()>().await;
        });
        Ok(near)
    };
    let begun = Instant::now();
    let error = rig.connector.connect(&member, Protocol::Http1, silent).await.unwrap_err();
    assert!(matches!(error, ConnectError::Late), "{error}");
    assert_eq!(begun.elapsed(), CONNECT_TIMEOUT);
    let plain = |_| async {
        let (near, mut far) = duplex(1024);
        tokio::spawn(async move { far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await });
        Ok(near)
    };
    let error = rig.connector.connect(&member, Protocol::Http1, plain).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error}");
    let nowhere = Member { peer: "nowhere".into(), ..member };
    let error = rig.connector.connect(&nowhere, Protocol::Http1, plain).await.unwrap_err();
    assert!(matches!(error, ConnectError::Address(_)), "{error}");
}
