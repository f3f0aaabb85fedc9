//! What the tests stand on: activators, pods and clients, joined by connections in memory.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use rouse_core::function::{BufferBounds, Concurrency, FunctionKey, Timeouts};
use rouse_core::handover::{Estate, Release};
use rouse_core::membership::Member;
use rouse_core::routing::{Destination, Listener, RouteTable};
use rouse_core::trigger::{Grant, HostPolicy, TriggerKey};
use rouse_crds::v1alpha1::{HttpMethod, Protocol};
use rouse_peer::testing::{self, Tokens};
use rouse_peer::{ClientStream, Connector, ProofMetrics, ServerKey, ServerStream};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::yield_now;

use crate::admission::{Bounds, Gate, Load};
use crate::body::ResponseBody;
use crate::buffer::Buffer;
use crate::function::{FunctionHandle, Owner};
use crate::pod::{Pod, Start};
use crate::proxy::{Proxy, ProxyConfig};
use crate::release::Handed;
use crate::request_metrics::RequestMetrics;
use crate::seats::{Seated, Seats};
use crate::server::Listeners;
use crate::server::presence::Presence;
use crate::server::{Peer, PeerDenied, PeerService, Shared, client, origin, peer};
use crate::upstream::{Connections, Dialer, Shard, Stream};

/// Token that the peers of the tests know one another by, as it stands in the file `token`.
pub const TOKEN: &str = "of-an-activator";
/// Connections that the tests may have, which is more than they make.
const SEATS: usize = 10_000;
/// Host of the Function of the tests.
pub const HOST: &str = "f.shop";

pub type Body = BoxBody<Bytes, io::Error>;
pub type Answer = BoxFuture<'static, Response<Body>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;
type Accept = Arc<dyn Fn(DuplexStream) + Send + Sync>;

/// Bytes that stand in a connection to a pod. Its buffer is in the process whose memory is measured,
/// and takes up to twice as much, as it happens to grow.
pub const PIPE: usize = 16 * 1024;

/// What listens at which address.
#[derive(Clone, Default)]
pub struct World {
    listening: Arc<Mutex<HashMap<SocketAddr, Accept>>>,
    /// What the next dial waits for before it arrives.
    delays: Arc<Mutex<HashMap<SocketAddr, BoxFuture<'static, ()>>>>,
    dials: Arc<AtomicUsize>,
    /// Says who an activator is.
    pub tokens: Tokens,
}

impl World {
    pub fn listen(
        &self,
        address: SocketAddr,
        accept: impl Fn(DuplexStream) + Send + Sync + 'static,
    ) {
        self.listening.lock().unwrap().insert(address, Arc::new(accept));
    }

    /// The next dial to `address` takes as long as `delay`.
    pub fn listen_slowly(
        &self,
        address: SocketAddr,
        delay: impl Future<Output = ()> + Send + 'static,
    ) {
        self.delays.lock().unwrap().insert(address, delay.boxed());
    }

    /// Nobody accepts at `address` any more; connections that were made stay.
    pub fn refuse(&self, address: SocketAddr) {
        self.listening.lock().unwrap().remove(&address);
    }

    /// Connections that were asked for so far.
    pub fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    /// The caller's end of a connection to what listens at `address`.
    pub fn dial(&self, address: SocketAddr) -> DuplexStream {
        let accept = self.listening.lock().unwrap().get(&address).cloned().unwrap();
        let (near, far) = duplex(64 * 1024);
        accept(far);
        near
    }

    /// The caller's end of a connection to the activator at `address`.
    pub async fn call(
        &self,
        address: SocketAddr,
        protocol: rouse_peer::Protocol,
    ) -> ClientStream<DuplexStream> {
        testing::handshake(self.dial(address), protocol).await.unwrap().0
    }

    /// An activator at `address`, proved, of which `serve` gets the connections that are not for
    /// the proof: those of HTTP/1.1 with the first head read.
    pub fn activator<F>(
        &self,
        name: &str,
        address: SocketAddr,
        serve: impl Fn(ServerStream<DuplexStream>) -> F + Clone + Send + Sync + 'static,
    ) -> Member
    where
        F: Future<Output = ()> + Send,
    {
        let member = member(name, address);
        let key = ServerKey::generate().unwrap();
        let token = testing::proof(&member.uid, key.fingerprint());
        self.listen(address, move |io| {
            let (key, token, serve) = (key.clone(), token.clone(), serve.clone());
            tokio::spawn(async move {
                if let Some((stream, _)) = testing::welcome(&key, Some(&token), io).await {
                    serve(stream).await;
                }
            });
        });
        member
    }

    pub fn dialer(&self) -> Dialer {
        let world = self.clone();
        Dialer::new(move |address| {
            world.dials.fetch_add(1, Ordering::SeqCst);
            let accept = world.listening.lock().unwrap().get(&address).cloned();
            let delay = world.delays.lock().unwrap().remove(&address);
            async move {
                if let Some(delay) = delay {
                    delay.await;
                }
                let accept = accept.ok_or(io::ErrorKind::ConnectionRefused)?;
                let (near, far) = duplex(PIPE);
                accept(far);
                Ok(Box::new(near) as Stream)
            }
            .boxed()
        })
    }
}

/// Real ports on loopback, without TLS for callers.
pub async fn listeners() -> Listeners {
    let bind = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
    Listeners { cluster: bind().await, public: bind().await, public_tls: None, peer: bind().await }
}

pub fn member(name: &str, address: SocketAddr) -> Member {
    Member { uid: format!("uid-{name}"), name: name.into(), peer: address.to_string() }
}

pub fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 8080).into()
}

/// An activator with one Function, `f` in `shop`.
pub struct Rig {
    pub world: World,
    pub shared: Arc<Shared>,
    pub handle: Arc<FunctionHandle>,
    pub gate: Arc<Gate>,
    pub registry: Registry,
    pub config: ProxyConfig,
    tell_token: Box<dyn Fn(Option<String>) + Send + Sync>,
    seats: Seats,
    routes: Arc<ArcSwap<RouteTable<Arc<FunctionHandle>>>>,
}

pub fn timeouts() -> Timeouts {
    Timeouts {
        activation: Duration::from_mins(1),
        request: Duration::from_mins(5),
        first_byte: Duration::from_mins(5),
        idle: None,
    }
}

pub fn bounds(limit: u32, requests: u32) -> Bounds {
    Bounds {
        concurrency: Concurrency {
            target: NonZeroU32::new(80).unwrap(),
            limit: NonZeroU32::new(limit),
        },
        buffer: BufferBounds { requests, bytes: 1 << 20 },
    }
}

/// Two activators: one that knows that the other owns the Function, and the owner, which the first
/// knows as the member.
pub fn pair() -> (Rig, Rig, Member) {
    let world = World::default();
    let near = Rig::new(world.clone());
    let far = Rig::new(world);
    let member = far.join("far", address(100));
    far.own();
    near.give_to(&member);
    (near, far, member)
}

impl Rig {
    /// An activator that owns the Function.
    pub fn owner() -> Self {
        let rig = Self::new(World::default());
        rig.own();
        rig
    }

    /// An activator that knows of no owner.
    pub fn new(world: World) -> Self {
        Self::with_buffer(world, BufferBounds { requests: 1 << 20, bytes: 1 << 30 })
    }

    /// An activator in which no more requests may wait than `buffer` holds.
    pub fn with_buffer(world: World, buffer: BufferBounds) -> Self {
        let mut registry = Registry::default();
        let metrics = RequestMetrics::register(&mut registry);
        let key = FunctionKey::new("shop", "f");
        let handle = Arc::new(FunctionHandle::new(key.clone(), "uid-f".into(), timeouts()));
        let routes = Arc::new(ArcSwap::from_pointee(table(&handle)));
        let seats = Seats::new(SEATS, Arc::clone(&metrics));
        tokio::spawn(seats.clone().watch());
        let config = ProxyConfig {
            routes: Arc::clone(&routes),
            cluster_domain: "cluster.local".into(),
            token_file: concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/tests/token").into(),
            metrics,
            buffer: Buffer::new(buffer),
            dialer: world.dialer(),
            connector: connector(&world),
        };
        let (tell_token, identity) = testing::identity();
        let peers = PeerService {
            check: Arc::new(check),
            reports: Arc::new(reports),
            last_words: Arc::new(Bytes::new),
            release: Arc::new(release),
            key: ServerKey::generate().unwrap(),
            identity,
        };
        let proxy = Proxy::new(config.clone(), Shard::ONLY);
        let shared = Arc::new(Shared::new(proxy, peers, Arc::default()));
        let gate = Gate::new(bounds(0, 100));
        let tell_token = Box::new(tell_token);
        Self { world, shared, handle, gate, registry, config, tell_token, seats, routes }
    }

    /// Another Function of the namespace, owned here; answers with its gate.
    pub fn second_function(&self, name: &str) -> Arc<Gate> {
        let key = FunctionKey::new("shop", name);
        let handle = FunctionHandle::new(key, format!("uid-{name}").into(), timeouts());
        let gate = Gate::new(bounds(0, 100));
        handle.set_owner(Owner::Here(Arc::clone(&gate)));
        let destination =
            |target: &Arc<FunctionHandle>| Destination { public: true, target: Arc::clone(target) };
        let functions = [&self.handle, &Arc::new(handle)].map(|h| (h.key.clone(), destination(h)));
        self.set_table(RouteTable::build(functions, &[], &HostPolicy::default()));
        gate
    }

    pub fn own(&self) {
        self.handle.set_owner(Owner::Here(Arc::clone(&self.gate)));
    }

    /// Gives the Function a new gate, as an activator does that owns it anew.
    pub fn own_anew(&mut self) {
        self.gate = Gate::new(bounds(0, 100));
        self.own();
    }

    /// Makes `member` the owner.
    pub fn give_to(&self, member: &Member) {
        self.handle.set_owner(Owner::Peer(Arc::new(member.clone())));
    }

    /// Serves the port for peers at `address`, as `name`.
    pub fn join(&self, name: &str, address: SocketAddr) -> Member {
        let (shared, seats) = (Arc::clone(&self.shared), self.seats.clone());
        self.world.listen(address, move |io| {
            let shared = Arc::clone(&shared);
            let seat = seats.take().unwrap();
            tokio::spawn(async move { peer::serve(&shared, io, seat).await });
        });
        let member = member(name, address);
        self.prove(Some(&member.uid));
        member
    }

    /// Lets the activator prove itself as that of the pod `uid`, or not at all.
    pub fn prove(&self, uid: Option<&str>) {
        let key = self.shared.peers.key.fingerprint();
        (self.tell_token)(uid.map(|uid| testing::proof(uid, key)));
    }

    /// A pod at `address`, open, that answers with `handler`.
    pub fn pod(
        &self,
        last: u8,
        protocol: Protocol,
        handler: impl Fn(Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> Arc<Pod> {
        serve_pod(&self.world, address(last), protocol, handler);
        let pod = pod(&format!("pod-{last}"), address(last), protocol);
        self.gate.open(&pod);
        pod
    }

    /// A pod that answers every request with `Hello`.
    pub fn hello(&self, last: u8) -> Arc<Pod> {
        self.pod(last, Protocol::Http1, |_| async { text("Hello") }.boxed())
    }

    /// The client's end of a new connection.
    pub fn connect(&self, listener: Listener) -> DuplexStream {
        self.connect_as(listener, false)
    }

    /// The same of a connection that is never tried plainly.
    pub fn connect_to_hyper(&self, listener: Listener) -> DuplexStream {
        self.connect_as(listener, true)
    }

    fn connect_as(&self, listener: Listener, by_hyper: bool) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        let shared = Arc::clone(&self.shared);
        let far = self.seat(far);
        self.shared.connections.spawn(async move {
            let from = "192.0.2.7:4711".parse().unwrap();
            let caller = (listener, origin(&shared, listener, from, false));
            if by_hyper {
                client::tests::serve_by_hyper(&shared, far, caller).await;
            } else {
                client::serve(&shared, far, Presence::unknown(), caller).await;
            }
        });
        near
    }

    /// A connection in a seat of its own.
    pub fn seat<I>(&self, io: I) -> Seated<I> {
        Seated::new(io, self.seats.take().unwrap())
    }

    pub async fn http1(&self) -> http1::SendRequest<Body> {
        http1_over(self.connect(Listener::Cluster)).await
    }

    pub async fn http2(&self) -> http2::SendRequest<Body> {
        http2_over(self.connect(Listener::Cluster)).await
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        self.http1().await.send_request(request).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.send(get(path)).await;
        let status = response.status().as_u16();
        (status, read(response).await)
    }

    pub fn load(&self) -> Load {
        self.gate.take_load()
    }

    pub fn set_table(&self, table: RouteTable<Arc<FunctionHandle>>) {
        self.routes.store(Arc::new(table));
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Value of the series that starts with `series`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics();
        let line = text.lines().find(|line| line.starts_with(series))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// Waits until nothing is held any more: no slot, no place, no count.
    pub async fn at_rest(&self) {
        let gauges = ["rouse_requests_in_flight{", "rouse_requests_queued{"];
        eventually("every count is zero", || {
            let load = self.load();
            load.in_flight == 0
                && load.waiting == 0
                && self.shared.requests.is_empty()
                && self.shared.proxy.tunnels().is_empty()
                && gauges.iter().all(|gauge| self.metric(gauge).unwrap_or(0.0) == 0.0)
        })
        .await;
    }

    pub async fn waiting(&self, count: u32) {
        eventually("requests wait", || self.load().waiting == count).await;
    }

    /// Waits for that many requests over real sockets, which take their time.
    pub async fn in_flight_on_sockets(&self, count: u32) {
        for _ in 0..2000 {
            if self.load().in_flight >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {count} requests are in flight: {:?}", self.load());
    }

    pub async fn in_flight(&self, count: u32) {
        eventually("requests are in flight", || self.load().in_flight == count).await;
    }
}

/// Lets every task go on until `condition` holds. No time passes.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        yield_now().await;
    }
    panic!("never: {what}");
}

/// Lets every task go on as far as it can without time passing.
pub async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

/// A table in which the Function is public, with a Trigger for its `/v1` that takes GET only.
fn table(handle: &Arc<FunctionHandle>) -> RouteTable<Arc<FunctionHandle>> {
    let policy = HostPolicy {
        cluster_domain: "cluster.local".into(),
        public_domain: Some("fn.example.org".into()),
        ..HostPolicy::default()
    };
    let grant = Grant {
        trigger: TriggerKey { namespace: "shop".into(), name: "t".into() },
        function: handle.key.clone(),
        host: "api.example.com".into(),
        path: "/v1".into(),
        methods: vec![HttpMethod::Get],
    };
    let target = Destination { public: true, target: Arc::clone(handle) };
    RouteTable::build([(handle.key.clone(), target)], &[grant], &policy)
}

pub fn pod(uid: &str, address: SocketAddr, protocol: Protocol) -> Arc<Pod> {
    Arc::new(Pod {
        uid: uid.into(),
        name: uid.into(),
        revision: "r".into(),
        address,
        protocol,
        memory: 64 << 20,
        start: Start::default(),
        connections: Connections::default(),
    })
}

pub fn serve_pod(
    world: &World,
    address: SocketAddr,
    protocol: Protocol,
    handler: impl Fn(Request<Incoming>) -> Answer + Send + Sync + 'static,
) {
    let handler: Handler = Arc::new(handler);
    world.listen(address, move |io| {
        let handler = Arc::clone(&handler);
        let service = service_fn(move |request| handler(request).map(Ok::<_, io::Error>));
        tokio::spawn(async move {
            let io = TokioIo::new(io);
            match protocol {
                Protocol::Http1 => {
                    let mut http = hyper::server::conn::http1::Builder::new();
                    // It is in the process whose memory is measured.
                    http.max_buf_size(16 * 1024);
                    drop(http.serve_connection(io, service).with_upgrades().await);
                }
                Protocol::H2c => {
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    drop(http.serve_connection(io, service).await);
                }
            }
        });
    });
}

fn connector(world: &World) -> Connector {
    let metrics = ProofMetrics::default();
    Connector::new(world.tokens.client(), testing::NAMESPACE, metrics).unwrap()
}

pub async fn http1_over<I>(io: I) -> http1::SendRequest<Body>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    sender
}

pub async fn http2_over<I>(io: I) -> http2::SendRequest<Body>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

pub fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", HOST).body(empty()).unwrap()
}

pub fn post(path: &str, body: Body) -> Request<Body> {
    Request::builder().method("POST").uri(path).header("host", HOST).body(body).unwrap()
}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(full(text))
}

/// A body that gives what the sender is given.
pub fn channel() -> (mpsc::Sender<Result<Frame<Bytes>, io::Error>>, Body) {
    let (sender, mut receiver) = mpsc::channel(16);
    let frames = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, BodyExt::boxed(StreamBody::new(frames)))
}

/// A frame, as bodies give it.
#[allow(clippy::unnecessary_wraps, reason = "the frames of a body may fail")]
pub fn data(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub async fn read(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Answers with what it was sent, as it comes.
pub fn echo(request: Request<Incoming>) -> Answer {
    async move { Response::new(request.into_body().map_err(io::Error::other).boxed()) }.boxed()
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is that of `CheckPeer`")]
fn check(token: String) -> BoxFuture<'static, Result<Peer, PeerDenied>> {
    let peer = match token.as_str() {
        TOKEN => Ok(Peer::Activator),
        "of-a-controller" => Ok(Peer::Controller),
        "of-whoever" => Err(PeerDenied::Unavailable),
        _ => Err(PeerDenied::Unknown),
    };
    async move { peer }.boxed()
}

fn reports() -> Response<ResponseBody> {
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"\"synced\"\n")))]);
    let frames = futures::StreamExt::chain(first, futures::stream::pending());
    Response::new(ResponseBody::stream(BodyExt::boxed_unsync(StreamBody::new(frames))))
}

/// Has nothing to give.
fn release(_: Release) -> BoxFuture<'static, Handed> {
    async { Handed::Gave { estate: Estate::default(), gate: None } }.boxed()
}
