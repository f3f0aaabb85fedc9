//! The activator's process: opens the ports, runs the control side and the server, and stops them
//! in the order that loses nothing.

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use prometheus_client::registry::Registry;
use rouse_activator::buffer::Buffer;
use rouse_activator::control::{Control, ControlConfig};
use rouse_activator::instances::client::build_client;
use rouse_activator::proxy::ProxyConfig;
use rouse_activator::request_metrics::RequestMetrics;
use rouse_activator::server::{Drain, Listeners, Server, ServerConfig, Tls, Workers};
use rouse_activator::spans::Spans;
use rouse_activator::upstream::Dialer;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::open;
use crate::admin::{self, Admin};
use crate::args::{ActivatorArgs, TlsArgs};
use crate::files;
use crate::memory;
use crate::otlp;
use crate::shutdown::Shutdown;

/// Runs an activator until the process shall stop and all that it serves has ended.
pub async fn run(args: ActivatorArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    let kube = kube::Config::infer().await.context("finding the API server")?;
    let client = build_client(&kube).context("making a client")?;
    let ports = Ports::open(&args).await?;
    Box::pin(run_with(client, args, ports, shutdown)).await
}

/// The ports that every activator has, open.
pub struct Ports {
    /// For callers in the cluster.
    pub http: TcpListener,
    /// For callers outside.
    pub public: TcpListener,
    /// For other activators and the controller.
    pub peer: TcpListener,
    /// For probes and metrics.
    pub admin: TcpListener,
}

impl Ports {
    async fn open(args: &ActivatorArgs) -> anyhow::Result<Self> {
        Ok(Self {
            http: open("http", args.http_addr).await?,
            public: open("public", args.public_addr).await?,
            peer: open("peer", args.peer_addr).await?,
            admin: open("admin", args.common.admin_addr).await?,
        })
    }
}

/// The same, with that API server and at those ports.
pub async fn run_with(
    client: kube::Client,
    args: ActivatorArgs,
    ports: Ports,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    #[cfg(feature = "count-allocations")]
    crate::allocations::register(&mut registry);
    let metrics = RequestMetrics::register(&mut registry);
    let (hosts, pod_caps) = (args.common.host_policy(), args.pod_caps());
    let bounds = args.buffer(memory::limit());
    tracing::info!(bounds.requests, bounds.bytes, "the buffer for waiting requests");
    let spans = tell_spans(&args, &mut registry)?;
    let config = ControlConfig {
        client,
        namespace: args.common.namespace.clone(),
        pod_name: args.common.pod_name.clone(),
        uid: args.common.pod_uid.clone(),
        hosts,
        pod_caps,
        spans,
        token_file: args.common.peer_token_file.clone(),
    };
    let (control, handles) =
        Control::new(config, &mut registry).context("starting the control side")?;
    let proxy = ProxyConfig {
        routes: Arc::clone(&handles.routes),
        cluster_domain: args.common.cluster_domain,
        token_file: args.common.peer_token_file,
        metrics,
        buffer: Buffer::new(bounds),
        dialer: Dialer::tcp(),
        connector: handles.connector,
    };
    let threads = args.threads.map_or_else(thread::available_parallelism, Ok);
    let threads = threads.context("asking how many threads can run at once")?;
    let workers = Workers::start(threads).context("starting the threads for requests")?;
    let listeners = Listeners {
        cluster: ports.http,
        public: ports.public,
        public_tls: open_tls(args.tls).await?,
        peer: ports.peer,
    };
    let (synced, stopping) = (handles.synced.clone(), shutdown.clone());
    let identity = handles.peers.identity.clone();
    let unready = Box::new(move || match (*stopping.borrow(), *synced.borrow()) {
        (true, _) => Some("stopping\n"),
        (_, false) => Some("the Functions are not known yet\n"),
        // Others could pass nothing on to it.
        _ if !identity.was_given() => Some("the token that proves its key has not come yet\n"),
        _ => None,
    });
    admin::spawn(ports.admin, Admin { registry, unready });
    let config = ServerConfig {
        drain: Drain::within(args.drain),
        most_connections: files::bound_connections(args.max_connections),
        trusted_proxies: args.trusted_proxy,
    };
    let server = Server::new(proxy, handles.peers, workers, config);
    tokio::select! {
        () = control.run() => anyhow::bail!("the control side ended"),
        () = serve(server, listeners, handles.synced, shutdown) => Ok(()),
    }
}

/// Serves the ports once hosts are known. They are open from the start, and whoever has connected
/// waits: a Service may lead to a container that was started again before it hears that it is not
/// ready.
async fn serve(
    server: Server,
    listeners: Listeners,
    mut synced: watch::Receiver<bool>,
    shutdown: Shutdown,
) {
    tokio::select! {
        _ = synced.wait_for(|synced| *synced) => {}
        () = stopped(shutdown.clone()) => return,
    }
    server.run(listeners, stopped(shutdown)).await;
}

/// Where wakings are told as spans, sent from now on if somebody takes them.
fn tell_spans(args: &ActivatorArgs, registry: &mut Registry) -> anyhow::Result<Spans> {
    let mut spans = Spans::register(registry);
    if let Some(endpoint) = &args.tracing_endpoint {
        let wakings = spans.open();
        otlp::spawn(endpoint, &args.common.pod_name, (spans.clone(), wakings))?;
    }
    Ok(spans)
}

/// The port for callers that speak TLS, where there shall be one.
async fn open_tls(args: TlsArgs) -> anyhow::Result<Option<(TcpListener, Tls)>> {
    let TlsArgs { addr, cert, key } = args;
    let (Some(address), Some(certificate), Some(key)) = (addr, cert, key) else {
        return Ok(None);
    };
    let tls = Tls::new(certificate, key).context("setting up TLS")?;
    Ok(Some((open("public TLS", address).await?, tls)))
}

async fn stopped(mut shutdown: Shutdown) {
    // The sender lives as long as the process: an error can only mean that it ends.
    drop(shutdown.wait_for(|stop| *stop).await);
}
