//! TLS towards callers outside, on a real port.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rouse_crds::v1alpha1::Protocol;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::rig::{self, Rig, text};
use crate::server::{Drain, Listeners, Server, ServerConfig, Tls, Workers};

const HOST: &str = "f.shop.fn.example.org";

/// A folder with a certificate and a key, as a mounted Secret is one.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("rouse-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn certificate(&self) -> PathBuf {
        self.0.join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.0.join("tls.key")
    }

    /// Writes a new certificate; answers with it.
    fn renew(&self) -> RootCertStore {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([HOST.to_owned()]).unwrap();
        std::fs::write(self.certificate(), cert.pem()).unwrap();
        std::fs::write(self.key(), signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        roots
    }

    fn tls(&self) -> Tls {
        Tls::new(self.certificate(), self.key()).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn connect(
    port: std::net::SocketAddr,
    roots: &RootCertStore,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(HOST).unwrap();
    let stream = TcpStream::connect(port).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A port that serves with what is in `files`, and what makes it leave.
async fn open(rig: &Rig, files: &Files) -> (std::net::SocketAddr, oneshot::Sender<()>) {
    rig.pod(1, Protocol::Http1, |request| {
        let proto = request.headers()["x-forwarded-proto"].to_str().unwrap().to_owned();
        let forwarded = request.headers()["forwarded"].to_str().unwrap().to_owned();
        let said = request.headers()["x-forwarded-for"].to_str().unwrap().to_owned();
        async move { text(format!("{proto} {forwarded} {said}")) }.boxed()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap();
    let public_tls = Some((listener, files.tls()));
    let listeners = Listeners { public_tls, ..rig::listeners().await };
    let drain = Drain { announce: Duration::ZERO, total: Duration::from_secs(5) };
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let config = ServerConfig { drain, most_connections: 100, trusted_proxies };
    let (proxy, peers) = (rig.config.clone(), rig.shared.peers.clone());
    let (leave, left) = oneshot::channel::<()>();
    tokio::spawn(Server::new(proxy, peers, Workers::here(), config).run(listeners, left.map(drop)));
    (port, leave)
}

/// Connects until the port has a certificate that `roots` know.
async fn until_known(port: std::net::SocketAddr, roots: &RootCertStore) -> TlsStream<TcpStream> {
    for _ in 0..2000 {
        if let Ok(io) = connect(port, roots, &[b"h2"]).await {
            return io;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: the port has the new certificate");
}

#[tokio::test]
async fn both_protocols_are_offered_and_the_pod_is_told() {
    let (rig, files) = (Rig::owner(), Files::new("offered"));
    let roots = files.renew();
    let (port, _leave) = open(&rig, &files).await;
    let request = |uri: &str| {
        let request = Request::get(uri).header("x-forwarded-for", "192.0.2.9");
        request.header("forwarded", "for=192.0.2.9").body(rig::empty()).unwrap()
    };
    // Whoever calls from here is trusted: what he says is kept.
    let expected = "https for=192.0.2.9, for=127.0.0.1;proto=https 192.0.2.9, 127.0.0.1";
    let io = until_known(port, &roots).await;
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let answer = sender.send_request(request(&format!("https://{HOST}/"))).await.unwrap();
    assert_eq!(rig::read(answer).await, expected);
    let io = connect(port, &roots, &[b"http/1.1"]).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    for _ in 0..2 {
        let mut request = request("/");
        request.headers_mut().insert("host", HOST.parse().unwrap());
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(rig::read(answer).await, expected);
    }
    // None is taken for the oldest of them.
    let mut io = connect(port, &roots, &[]).await.unwrap();
    let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    io.write_all(get.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(connect(port, &roots, &[b"spdy/3"]).await.is_err());
    rig.at_rest().await;
}

#[tokio::test]
async fn a_certificate_that_changes_is_taken_and_a_bad_one_is_not() {
    let (rig, files) = (Rig::owner(), Files::new("changes"));
    // Nothing is there yet: the port waits for it.
    let (port, _leave) = open(&rig, &files).await;
    assert!(connect(port, &RootCertStore::empty(), &[b"h2"]).await.is_err());
    tokio::time::pause();
    let first = files.renew();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let io = until_known(port, &first).await;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    for wrong in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n"] {
        std::fs::write(files.certificate(), wrong).unwrap();
        look().await;
        assert!(connect(port, &first, &[b"h2"]).await.is_ok(), "{wrong}");
    }
    let second = files.renew();
    look().await;
    drop(until_known(port, &second).await);
    assert!(connect(port, &first, &[b"h2"]).await.is_err(), "the former is in use no more");
    // What stood before stands.
    let request = Request::get(format!("https://{HOST}/")).body(rig::empty()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(answer.into_body().collect().await);
    rig.at_rest().await;
}

/// Lets the time pass after which the files are looked at.
async fn look() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said() {
    let files = Files::new("wrong");
    let said = async || {
        let read = files.tls().reload(&mut None).await;
        read.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(said().await.starts_with("reading "), "{}", said().await);
    drop(files.renew());
    assert_eq!(said().await, "");
    let key = std::fs::read(files.key()).unwrap();
    drop(files.renew());
    std::fs::write(files.key(), key).unwrap();
    assert!(said().await.contains("can't be used"), "another's key: {}", said().await);
    std::fs::write(files.key(), "nonsense").unwrap();
    assert!(said().await.contains("tls.key holds no private key"), "{}", said().await);
    std::fs::write(files.certificate(), "nonsense").unwrap();
    assert!(said().await.contains("tls.crt holds no certificate"), "{}", said().await);
    let shown = format!("{:?}", files.tls());
    assert!(shown.contains("tls.crt") && !shown.contains("PRIVATE"), "{shown}");
    let _: &Path = &files.0;
}

#[tokio::test]
async fn who_does_not_speak_tls_gets_nothing() {
    let (rig, files) = (Rig::owner(), Files::new("plain"));
    let roots = files.renew();
    let (port, _leave) = open(&rig, &files).await;
    drop(until_known(port, &roots).await);
    for bytes in [
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").into_bytes(),
        b"\x16\x03\x01\xff\xff".repeat(1000),
        vec![0; 100_000],
    ] {
        let mut client = TcpStream::connect(port).await.unwrap();
        drop(client.write_all(&bytes).await);
        drop(client.shutdown().await);
        let mut answer = Vec::new();
        drop(client.read_to_end(&mut answer).await);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert!(connect(port, &roots, &[b"h2"]).await.is_ok(), "others are served");
    rig.at_rest().await;
}
