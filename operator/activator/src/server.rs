//! The ports for requests: accepting connections, serving each in a task of its own, and leaving
//! without a lost request. What a request means is the proxy's business.

mod client;
mod drain;
mod linger;
mod peer;
mod presence;
mod tls;
mod workers;

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ipnet::IpNet;
use rouse_core::routing::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

pub use self::drain::Drain;
pub use self::peer::{CheckPeer, Peer, PeerDenied, PeerService, Reports};
pub use self::tls::{Tls, TlsError};
pub use self::workers::Workers;

use self::drain::Phase;
use self::presence::Watched;
use self::workers::Worker;
use crate::headers::Origin;
use crate::proxy::{Proxy, ProxyConfig};
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
    /// For callers outside that speak TLS, and what it is spoken with.
    pub public_tls: Option<(TcpListener, Tls)>,
    /// For other activators and the controller.
    pub peer: TcpListener,
}

/// Who a port is for.
#[derive(Clone, Copy, Debug)]
enum Port {
    Client(Listener),
    PublicTls,
    Peer,
}

/// How a server behaves.
#[derive(Debug)]
pub struct ServerConfig {
    /// How it leaves.
    pub drain: Drain,
    /// Connections that each port for callers may have.
    pub most_connections: usize,
    /// Whoever calls from these on the ports for callers outside is believed what he says of clients
    /// of his own.
    pub trusted_proxies: Vec<IpNet>,
}

/// Serves the ports.
#[derive(Debug)]
pub struct Server {
    proxy: ProxyConfig,
    peers: PeerService,
    workers: Workers,
    config: ServerConfig,
}

/// A port, and the seats of those that come in by it.
struct Entrance {
    port: Port,
    seats: Seats,
    tls: Option<TlsAcceptor>,
}

/// A connection that was accepted.
struct Comer {
    stream: net::TcpStream,
    from: SocketAddr,
    seat: Occupied,
}

/// What the connections of one thread share.
struct Shared {
    proxy: Proxy,
    peers: PeerService,
    clients: client::Builders,
    trusted_proxies: Arc<[IpNet]>,
    phase: watch::Sender<Phase>,
    connections: TaskTracker,
    /// Requests whose answers have not ended.
    requests: TaskTracker,
}

impl Shared {
    fn new(proxy: Proxy, peers: PeerService, trusted_proxies: Arc<[IpNet]>) -> Self {
        Self {
            proxy,
            peers,
            trusted_proxies,
            clients: client::Builders::new(),
            phase: watch::Sender::new(Phase::Serving),
            connections: TaskTracker::new(),
            requests: TaskTracker::new(),
        }
    }
}

/// A thread and what its connections share.
struct Lane {
    worker: Worker,
    shared: Arc<Shared>,
}

impl Server {
    /// A server of what `proxy` and `peers` answer, on the threads of `workers`.
    pub const fn new(
        proxy: ProxyConfig,
        peers: PeerService,
        workers: Workers,
        config: ServerConfig,
    ) -> Self {
        Self { proxy, peers, workers, config }
    }

    /// Serves until `shutdown` is done and all that was begun has ended or the time for it is over.
    pub async fn run(self, listeners: Listeners, shutdown: impl Future<Output = ()>) {
        let Self { proxy, peers, workers, config } = self;
        let trusted: Arc<[IpNet]> = config.trusted_proxies.into();
        let lane = |worker: Worker| {
            let _in_its_runtime = worker.runtime.enter();
            let proxy = Proxy::new(proxy.clone(), worker.shard);
            let shared = Shared::new(proxy, peers.clone(), Arc::clone(&trusted));
            Lane { worker, shared: Arc::new(shared) }
        };
        let lanes: Arc<[Lane]> = workers.into_each().map(lane).collect();
        let mut accepting = JoinSet::new();
        let mut watches = JoinSet::new();
        let Listeners { cluster, public, public_tls, peer } = listeners;
        let mut ports = vec![
            (cluster, Port::Client(Listener::Cluster), None),
            (public, Port::Client(Listener::Public), None),
            (peer, Port::Peer, None),
        ];
        if let Some((listener, tls)) = public_tls {
            ports.push((listener, Port::PublicTls, Some(tls.acceptor())));
            watches.spawn(tls.watch());
        }
        for (listener, port, tls) in ports {
            let most = match port {
                Port::Client(_) | Port::PublicTls => config.most_connections,
                Port::Peer => MOST_PEERS,
            };
            let seats = Seats::new(most, Arc::clone(&proxy.metrics));
            watches.spawn(seats.clone().watch());
            let entrance = Entrance { port, seats, tls };
            accepting.spawn(accept(Arc::clone(&lanes), listener, entrance));
        }
        shutdown.await;
        let shared: Vec<_> = lanes.iter().map(|lane| Arc::clone(&lane.shared)).collect();
        drain::run(&shared, &config.drain, accepting).await;
    }
}

/// Accepts connections until the port is to be closed.
async fn accept(lanes: Arc<[Lane]>, listener: TcpListener, entrance: Entrance) {
    let Some(first) = lanes.first() else { return };
    let mut phase = first.shared.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Finishing) => break,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = take(&lanes, accepted, &entrance) {
            tracing::warn!(%error, port = ?entrance.port, "accepting a connection");
            sleep(ACCEPT_PAUSE).await;
        }
    }
    // Whoever has connected by now is served; closing the port would cut them off.
    for _ in 0..BACKLOG {
        let Some(accepted) = listener.accept().now_or_never() else { return };
        if take(&lanes, accepted, &entrance).is_err() {
            return;
        }
    }
}

/// Serves a connection in a task of its own. Fails where the port can't accept.
fn take(
    lanes: &[Lane],
    accepted: io::Result<(TcpStream, SocketAddr)>,
    entrance: &Entrance,
) -> io::Result<()> {
    match accepted {
        Ok((stream, from)) => {
            // Answers are small and waited for; without it they are only slower.
            drop(stream.set_nodelay(true));
            // Without a free seat the connection is closed at once.
            if let Some(seat) = entrance.seats.take() {
                let comer = Comer { stream: stream.into_std()?, from, seat };
                spawn(lanes, comer, entrance);
            }
            Ok(())
        }
        Err(error) if is_of_connection(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a connection to the thread that has the fewest.
fn spawn(lanes: &[Lane], comer: Comer, entrance: &Entrance) {
    let Some(lane) = lanes.iter().min_by_key(|lane| lane.worker.burden()) else { return };
    let mut begun = lane.worker.begin();
    let own = Arc::clone(&lane.shared);
    let (port, tls) = (entrance.port, entrance.tls.clone());
    let Comer { stream, from, seat } = comer;
    let serve = async move {
        begun.take();
        let _counted = own.proxy.metrics().begin_connection();
        // Registered where it is served: the thread that accepted it has no more part in it.
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "taking over a connection");
                return;
            }
        };
        // In boxes of their sizes: the task of a plain connection would keep room for TLS and peers.
        match port {
            Port::Client(listener) => {
                let (io, presence) = Watched::new(stream);
                let caller = (listener, origin(&own, listener, from, false));
                Box::pin(client::serve(&own, Seated::new(io, seat), presence, caller)).await;
            }
            Port::PublicTls => {
                let Some(acceptor) = tls else { return };
                let (io, presence) = Watched::new(stream);
                let Some(io) = Box::pin(tls::greet(&acceptor, io, &seat)).await else { return };
                let origin = origin(&own, Listener::Public, from, true);
                let caller = (Listener::Public, origin);
                Box::pin(client::serve(&own, Seated::new(io, seat), presence, caller)).await;
            }
            Port::Peer => Box::pin(peer::serve(&own, stream, seat)).await,
        }
    };
    lane.shared.connections.spawn_on(serve, &lane.worker.runtime);
}

fn origin(shared: &Shared, listener: Listener, client: SocketAddr, secure: bool) -> Origin {
    let ip = client.ip().to_canonical();
    let trusted = || shared.trusted_proxies.iter().any(|range| range.contains(&ip));
    Origin { client, believed: listener == Listener::Cluster || trusted(), secure }
}

/// Whether the error is of one connection that went away while it waited, not of the port.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
