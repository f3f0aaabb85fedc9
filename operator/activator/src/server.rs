//! The ports for requests: accepting connections, serving each in a task of its own, and leaving
//! without a lost request. What a request means is the proxy's business.

mod client;
mod drain;
mod peer;
mod presence;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rouse_core::routing::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

pub use self::drain::Drain;
pub use self::peer::{CheckPeer, Peer, PeerDenied, PeerService, Reports};

use self::drain::Phase;
use self::presence::Watched;
use crate::proxy::Proxy;
use crate::seats::{Occupied, Seated, Seats};

/// Pause after accepting failed, which it does for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that may have been made and not accepted when a port closes: what the kernel keeps.
const BACKLOG: usize = 1024;

/// Connections of other activators and of controllers: more than the largest cluster has of both.
const MOST_PEERS: usize = 4096;

/// The ports, open.
#[derive(Debug)]
pub struct Listeners {
    /// For callers in the cluster.
    pub cluster: TcpListener,
    /// For callers outside.
    pub public: TcpListener,
    /// For other activators and the controller.
    pub peer: TcpListener,
}

/// Who a port is for.
#[derive(Clone, Copy, Debug)]
enum Port {
    Client(Listener),
    Peer,
}

/// How a server behaves.
#[derive(Debug)]
pub struct ServerConfig {
    /// How it leaves.
    pub drain: Drain,
    /// Connections that each port for callers may have.
    pub most_connections: usize,
}

/// Serves the ports.
#[derive(Debug)]
pub struct Server {
    proxy: Proxy,
    peers: PeerService,
    config: ServerConfig,
}

/// A port, and the seats of those that come in by it.
struct Entrance {
    port: Port,
    seats: Seats,
}

/// What all connections share.
struct Shared {
    proxy: Proxy,
    peers: PeerService,
    clients: client::Builder,
    phase: watch::Sender<Phase>,
    connections: TaskTracker,
    /// Requests whose answers have not ended.
    requests: TaskTracker,
}

impl Server {
    /// A server of what `proxy` and `peers` answer.
    pub const fn new(proxy: Proxy, peers: PeerService, config: ServerConfig) -> Self {
        Self { proxy, peers, config }
    }

    /// Serves until `shutdown` is done and all that was begun has ended or the time for it is over.
    pub async fn run(self, listeners: Listeners, shutdown: impl Future<Output = ()>) {
        let shared = Arc::new(Shared {
            proxy: self.proxy,
            peers: self.peers,
            clients: client::builder(),
            phase: watch::Sender::new(Phase::Serving),
            connections: TaskTracker::new(),
            requests: TaskTracker::new(),
        });
        let mut accepting = JoinSet::new();
        let mut watches = JoinSet::new();
        let Listeners { cluster, public, peer } = listeners;
        for (listener, port) in [
            (cluster, Port::Client(Listener::Cluster)),
            (public, Port::Client(Listener::Public)),
            (peer, Port::Peer),
        ] {
            let most = match port {
                Port::Client(_) => self.config.most_connections,
                Port::Peer => MOST_PEERS,
            };
            let seats = Seats::new(most, Arc::clone(shared.proxy.metrics()));
            watches.spawn(seats.clone().watch());
            let entrance = Entrance { port, seats };
            accepting.spawn(accept(Arc::clone(&shared), listener, entrance));
        }
        shutdown.await;
        drain::run(&shared, &self.config.drain, accepting).await;
    }
}

/// Accepts connections until the port is to be closed.
async fn accept(shared: Arc<Shared>, listener: TcpListener, entrance: Entrance) {
    let mut phase = shared.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Finishing) => break,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = take(&shared, accepted, &entrance) {
            tracing::warn!(%error, port = ?entrance.port, "accepting a connection");
            sleep(ACCEPT_PAUSE).await;
        }
    }
    // Whoever has connected by now is served; closing the port would cut them off.
    for _ in 0..BACKLOG {
        let Some(accepted) = listener.accept().now_or_never() else { return };
        if take(&shared, accepted, &entrance).is_err() {
            return;
        }
    }
}

/// Serves a connection in a task of its own. Fails where the port can't accept.
fn take(
    shared: &Arc<Shared>,
    accepted: io::Result<(TcpStream, SocketAddr)>,
    entrance: &Entrance,
) -> io::Result<()> {
    match accepted {
        Ok((stream, from)) => {
            // Answers are small and waited for; without it they are only slower.
            drop(stream.set_nodelay(true));
            // Without a free seat the connection is closed at once.
            if let Some(seat) = entrance.seats.take() {
                spawn(shared, stream, from, (entrance.port, seat));
            }
            Ok(())
        }
        Err(error) if is_of_connection(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn spawn(
    shared: &Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
    (port, seat): (Port, Occupied),
) {
    let own = Arc::clone(shared);
    shared.connections.spawn(async move {
        let _counted = own.proxy.metrics().begin_connection();
        match port {
            Port::Client(listener) => {
                let (io, presence) = Watched::new(stream);
                client::serve(&own, Seated::new(io, seat), presence, (listener, from)).await;
            }
            Port::Peer => peer::serve(&own, Seated::new(stream, seat)).await,
        }
    });
}

/// Whether the error is of one connection that went away while it waited, not of the port.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
