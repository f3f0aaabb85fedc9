//! A request from its head to the head of its answer, phase by phase: receive, route, own or
//! forward, admit, send, respond. Nothing here listens and nothing here decides how many pods run.

mod admit;
mod door;
mod exchange;
mod receive;
mod respond;
mod route;
mod send;
mod tunnel;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Request, Response};
use rouse_core::event::EVENT_HEADER;
use rouse_core::routing::{Listener, RouteTable};
use rouse_core::spread::Subscribe;
use rouse_peer::Connector;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::access_log::AccessRecord;
use crate::body::{RequestBody, ResponseBody};
use crate::buffer::Buffer;
use crate::forward::{Forwarder, PeerDialer};
use crate::function::{FunctionHandle, Owner};
use crate::headers::ClientFacts;
use crate::problem::{self, Failure};
use crate::request_metrics::{Entry, RequestMetrics};
use crate::spread;
use crate::tick::Tick;
use crate::told::Told;
use crate::upstream::{Dialer, SentOn, Shard, Upstream};

use self::door::Doors;
use self::exchange::Exchange;
pub(crate) use self::exchange::InQueue;
use self::route::Place;

/// The routes in force; the control side puts others in their place.
pub type Routes = Arc<ArcSwap<RouteTable<Arc<FunctionHandle>>>>;

/// What a proxy is made of.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The routes in force.
    pub routes: Routes,
    /// DNS domain of the cluster, for what is told to callers.
    pub cluster_domain: String,
    /// File with the token by which this activator proves itself to others.
    pub token_file: PathBuf,
    /// What is counted.
    pub metrics: Arc<RequestMetrics>,
    /// What all waiting requests may hold together.
    pub buffer: Arc<Buffer>,
    /// How connections are made.
    pub dialer: Dialer,
    /// How those to other activators are proved to lead there.
    pub connector: Connector,
}

/// Carries requests, on one thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    routes: Routes,
    cluster_domain: String,
    metrics: Arc<RequestMetrics>,
    buffer: Arc<Buffer>,
    upstream: Upstream,
    forwarder: Forwarder,
    doors: Doors,
    tick: Tick,
    /// Connections that left HTTP; the server waits for them.
    tunnels: TaskTracker,
}

impl Proxy {
    /// A proxy that serves nobody yet, in the runtime that this is called in. It uses the part
    /// `shard` of each pod's connections.
    pub fn new(config: ProxyConfig, shard: Shard) -> Self {
        let ProxyConfig { routes, cluster_domain, token_file, metrics, buffer, dialer, connector } =
            config;
        Self(Arc::new(Inner {
            routes,
            cluster_domain,
            upstream: Upstream::new(dialer.clone(), Arc::clone(&metrics), shard),
            forwarder: Forwarder::new(
                token_file,
                PeerDialer::new(dialer, connector),
                Arc::clone(&metrics),
            ),
            doors: Doors::new(),
            metrics,
            buffer,
            tick: Tick::start(),
            tunnels: TaskTracker::new(),
        }))
    }

    pub(crate) fn metrics(&self) -> &Arc<RequestMetrics> {
        &self.0.metrics
    }

    pub(crate) fn tick(&self) -> &Tick {
        &self.0.tick
    }

    pub(crate) fn tunnels(&self) -> &TaskTracker {
        &self.0.tunnels
    }

    /// Answers a request of a client that came in on `listener`.
    pub(crate) async fn handle(
        &self,
        request: Request<RequestBody>,
        listener: Listener,
        client: &Arc<ClientFacts>,
    ) -> Response<ResponseBody> {
        let arrived = Instant::now();
        let entry = Entry::from(listener);
        let admitted = receive::receive(request).and_then(|mut received| {
            if listener == Listener::Public {
                received.request.headers_mut().remove(EVENT_HEADER);
            }
            let table = self.0.routes.load();
            let place = route::find(&table, listener, &received.request, &self.0.cluster_domain)?;
            let told = Told::of(client, received.request.headers_mut());
            if let Place::Function(handle) = &place {
                received.bound_body(handle)?;
            }
            Ok((received, place, told))
        });
        match admitted {
            Ok((mut received, Place::Door, told)) => {
                told.tell(received.request.headers_mut());
                // In a box: every request would have to keep room for it.
                Box::pin(self.pass(listener, received)).await
            }
            Ok((mut received, Place::Function(handle), told)) => {
                let record = handle.rules().access_log.then(|| {
                    told.tell(received.request.headers_mut());
                    AccessRecord::begin(&handle.key, arrived, &received.request)
                });
                let mut exchange = Exchange::new(handle, &self.0.metrics, entry, arrived);
                exchange.record = record;
                exchange.told = told;
                self.answer(&mut exchange, received).await
            }
            Err(failure) => self.refuse(&failure, entry),
        }
    }

    /// Passes an event on to the source that it is for.
    async fn pass(
        &self,
        listener: Listener,
        received: receive::Received,
    ) -> Response<ResponseBody> {
        let pod = |request: &Request<RequestBody>| {
            route::find_pod(&self.0.routes.load(), listener, request)
        };
        let passed = self.0.doors.pass(received, pod).await;
        passed.unwrap_or_else(|failure| self.refuse(&failure, Entry::from(listener)))
    }

    /// Answers a request that another activator passes on because this one owns its Function.
    /// `sent_on` is told once it may no longer be passed on elsewhere.
    pub(crate) async fn handle_forwarded(
        &self,
        request: Request<RequestBody>,
        sent_on: Option<SentOn>,
    ) -> Response<ResponseBody> {
        let forwarded = receive::receive_forwarded(request).and_then(|(received, told)| {
            let handle = route::find_told(&self.0.routes.load(), (&told.function, &told.uid))?;
            Ok((received, told, handle))
        });
        match forwarded {
            Ok((received, told, handle)) => {
                let arrived = told.arrived;
                let mut exchange = Exchange::new(handle, &self.0.metrics, Entry::peer, arrived);
                exchange.sent_on = sent_on;
                self.answer(&mut exchange, received).await
            }
            Err(failure) => self.refuse(&failure, Entry::peer),
        }
    }

    /// Lets another activator follow a Function that this one owns.
    pub(crate) async fn handle_follower(&self, body: RequestBody) -> Response<ResponseBody> {
        let followed = spread::receive(body).await.and_then(|follower| {
            let Subscribe { function, uid, member } = &follower.subscribe;
            let host = function.cluster_host();
            let handle = route::find_told(&self.0.routes.load(), (&host, uid))?;
            let Owner::Here(gate) = handle.owner() else { return Err(Failure::NotOwner) };
            let following = gate.follow(member, &follower.first).ok_or(Failure::NotOwner)?;
            Ok(spread::respond(following, follower.lines))
        });
        followed.unwrap_or_else(|failure| self.refuse(&failure, Entry::peer))
    }

    async fn answer(
        &self,
        exchange: &mut Exchange,
        received: receive::Received,
    ) -> Response<ResponseBody> {
        let bounds = received.bounds.clone();
        let answered = self.0.drive(exchange, received).await;
        let response = answered.unwrap_or_else(|failure| {
            let own = bounds.and_then(|bounds| bounds.failure());
            self.refuse(&own.unwrap_or(failure), exchange.entry)
        });
        exchange.status = Some(response.status());
        match &exchange.record {
            Some(record) => {
                record.note_status(response.status());
                let record = Arc::clone(record);
                response.map(|body| body.logged(record))
            }
            None => response,
        }
    }

    fn refuse(&self, failure: &Failure, entry: Entry) -> Response<ResponseBody> {
        self.0.metrics.note_problem(failure.name(), entry);
        tracing::debug!(problem = failure.name(), %failure, "request refused");
        problem::respond(failure)
    }
}
