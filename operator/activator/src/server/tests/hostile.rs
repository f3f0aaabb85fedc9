//! Clients that mean harm, on real sockets of real ports. Each case is followed by a request of
//! somebody else, who must be served; nothing may be left behind.

pub mod floods;
pub mod frames;
mod http1;
mod http2;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::rig::{self, Rig, text};
use crate::server::{Drain, Server, ServerConfig, Workers};

/// More than any answer takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// An activator with real ports before one pod, which keeps the targets that it is asked for.
pub struct Ports {
    pub rig: Rig,
    pub cluster: SocketAddr,
    public: SocketAddr,
    peer: SocketAddr,
    reached: Arc<Mutex<Vec<String>>>,
    leave: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

impl Ports {
    pub async fn open() -> Self {
        Self::with(1000, Duration::ZERO).await
    }

    /// Ports of a Function that takes its time for each answer.
    pub async fn open_with_answers_after(time: Duration) -> Self {
        Self::with(1000, time).await
    }

    async fn with(most_connections: usize, answers_after: Duration) -> Self {
        let rig = Rig::owner();
        let reached = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&reached);
        rig.pod(1, Protocol::Http1, move |request| {
            seen.lock().unwrap().push(request.uri().path().to_owned());
            async move {
                let body = http_body_util::BodyExt::collect(request.into_body()).await;
                tokio::time::sleep(answers_after).await;
                text(format!("{} bytes", body.map_or(0, |body| body.to_bytes().len())))
            }
            .boxed()
        });
        let listeners = rig::listeners().await;
        let [cluster, public, peer] = [&listeners.cluster, &listeners.public, &listeners.peer]
            .map(|listener| listener.local_addr().unwrap());
        let (proxy, peers) = (rig.config.clone(), rig.shared.peers.clone());
        let (leave, left) = oneshot::channel::<()>();
        let drain = Drain { announce: Duration::ZERO, total: Duration::from_secs(5) };
        let config = ServerConfig { drain, most_connections, trusted_proxies: Vec::new() };
        let server = Server::new(proxy, peers, Workers::here(), config);
        let ended = tokio::spawn(server.run(listeners, left.map(drop)));
        Self { rig, cluster, public, peer, reached, leave: Some(leave), ended }
    }

    /// The ports for callers, each with a host that it answers.
    const fn for_callers(&self) -> [(SocketAddr, &'static str); 2] {
        [(self.cluster, "f.shop"), (self.public, "f.shop.fn.example.org")]
    }

    /// The targets that reached the pod since this was last asked.
    fn take_reached(&self) -> Vec<String> {
        std::mem::take(&mut *self.reached.lock().unwrap())
    }

    /// Somebody else is served, at once.
    async fn serves(&self) {
        self.serves_beside("/fair").await;
    }

    /// Somebody else is served, while some that asked for `other` may have reached the pod.
    async fn serves_beside(&self, other: &str) {
        for (port, host) in self.for_callers() {
            let request =
                format!("GET /fair HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let answer = exchange(port, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let reached = self.take_reached();
        assert!(reached.iter().all(|target| target == "/fair" || target == other), "{reached:?}");
    }

    /// Begins to close the ports.
    fn leave(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave.send(()).unwrap();
        }
    }

    /// Closes the ports; nothing is left behind.
    pub async fn close(mut self) {
        self.leave();
        timeout(PATIENCE, self.ended).await.unwrap().unwrap();
        self.rig.at_rest().await;
    }
}

/// Sends `bytes` as they stand, says that no more follow, and reads until the port closes.
async fn exchange(port: SocketAddr, bytes: &[u8]) -> String {
    let mut client = TcpStream::connect(port).await.unwrap();
    // The port may answer and close before it has read all.
    drop(client.write_all(bytes).await);
    read_all(&mut client).await
}

/// The same at the port for peers, over TLS.
async fn exchange_as_peer(port: SocketAddr, bytes: &[u8]) -> String {
    let client = TcpStream::connect(port).await.unwrap();
    let spoken = rouse_peer::Protocol::Http1;
    let (mut client, _) = rouse_peer::testing::handshake(client, spoken).await.unwrap();
    drop(client.write_all(bytes).await);
    drop(client.flush().await);
    read_all(&mut client).await
}

/// What comes until the port closes or says nothing more.
async fn read_all(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let mut part = vec![0; 64 * 1024];
    while let Ok(Ok(count @ 1..)) = timeout(PATIENCE, client.read(&mut part)).await {
        answer.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
