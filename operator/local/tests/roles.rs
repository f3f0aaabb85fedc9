//! The roles themselves, controller and activator, against the API in memory: a Function is applied, a
//! request wakes it, its pods serve, and its end leaves nothing behind. A few lines stand in for the
//! node.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use prometheus_client::registry::Registry;
use rouse_activator::buffer::Buffer;
use rouse_activator::control::{Control, ControlConfig};
use rouse_activator::proxy::ProxyConfig;
use rouse_activator::request_metrics::RequestMetrics;
use rouse_activator::server::{Drain, Listeners, Server, ServerConfig, Workers};
use rouse_activator::spans::Spans;
use rouse_activator::upstream::Dialer;
use rouse_controller::{Config, Fence, Metrics};
use rouse_core::function::BufferBounds;
use rouse_core::function::names::PEER_AUDIENCE;
use rouse_core::scaling::allowance::PodCaps;
use rouse_core::trigger::HostPolicy;
use rouse_crds::v1alpha1::Function;
use rouse_local::api::{Api, ApiOptions};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const ROUSE: &str = "rouse-system";
const SHOP: &str = "shop";
/// How long each step may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// A run of both roles.
struct Roles {
    client: Client,
    http: SocketAddr,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    folder: tempfile::TempDir,
}

fn hosts() -> HostPolicy {
    HostPolicy { cluster_domain: "cluster.local".into(), ..HostPolicy::default() }
}

async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn typed<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

impl Roles {
    async fn start() -> Self {
        let api = Api::start(ApiOptions::default()).unwrap();
        let client = api.client("default");
        let params = PostParams::default();
        let namespaces = kube::Api::<Namespace>::all(client.clone());
        for name in [ROUSE, SHOP] {
            let namespace = typed(json!({"metadata": {"name": name}}));
            namespaces.create(&params, &namespace).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let accounts = kube::Api::<ServiceAccount>::namespaced(client.clone(), ROUSE);
        for name in ["rouse-activator", "rouse-controller"] {
            let account = typed(json!({"metadata": {"name": name}}));
            accounts.create(&params, &account).await.unwrap();
            let token = api.token(ROUSE, name, PEER_AUDIENCE).unwrap();
            std::fs::write(folder.path().join(name), token).unwrap();
        }
        let (cluster, peer) = (loopback().await, loopback().await);
        let http = cluster.local_addr().unwrap();
        let peer_port = peer.local_addr().unwrap().port();
        let (stop, _) = watch::channel(false);
        let tasks = JoinSet::new();
        let mut roles = Self { client, http, tasks, stop, folder };
        let uid = roles.make_activator_pod().await;
        roles.start_controller(peer_port);
        roles.start_activator(uid, cluster, peer).await;
        let node = run_node(roles.client.clone());
        roles.tasks.spawn(node);
        roles
    }

    async fn make_activator_pod(&self) -> String {
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), ROUSE);
        let pod = typed(json!({
            "metadata": {"name": "activator-1", "labels": {
                "app.kubernetes.io/name": "rouse", "app.kubernetes.io/component": "activator",
            }},
            "spec": {"nodeName": "dev", "containers": [{"name": "rouse", "image": "rouse"}]},
        }));
        let made = pods.create(&PostParams::default(), &pod).await.unwrap();
        say(&pods, "activator-1", "127.0.0.1", "rouse").await;
        made.uid().unwrap()
    }

    fn start_controller(&mut self, peer_port: u16) {
        let config = Config {
            namespace: ROUSE.into(),
            pod_name: "controller-1".into(),
            activator_host: "rouse-activator.rouse-system.svc.cluster.local".into(),
            host_policy: hosts(),
            peer_token_file: self.folder.path().join("rouse-controller"),
            peer_port,
            residents: BTreeMap::new(),
            runtimes: rouse_core::function::runtime::Runtimes::default(),
        };
        let metrics = Metrics::new(&mut Registry::default());
        let (client, stopped) = (self.client.clone(), self.stop.subscribe());
        self.tasks.spawn(async move {
            // Nobody else would lead.
            let (keeper, fence) = Fence::new(Instant::now() + Duration::from_hours(1));
            rouse_controller::run(config, client, fence, metrics, stopped).await.unwrap();
            drop(keeper);
        });
    }

    async fn start_activator(&mut self, uid: String, cluster: TcpListener, peer: TcpListener) {
        let mut registry = Registry::default();
        let metrics = RequestMetrics::register(&mut registry);
        let token_file = self.folder.path().join("rouse-activator");
        let config = ControlConfig {
            client: self.client.clone(),
            namespace: ROUSE.into(),
            pod_name: "activator-1".into(),
            uid,
            hosts: hosts(),
            pod_caps: PodCaps::default(),
            spans: Spans::register(&mut registry),
            token_file: token_file.clone(),
        };
        let (control, handles) = Control::new(config, &mut registry).unwrap();
        let proxy = ProxyConfig {
            routes: Arc::clone(&handles.routes),
            cluster_domain: "cluster.local".into(),
            token_file,
            metrics,
            buffer: Buffer::new(BufferBounds { requests: 1000, bytes: 16 << 20 }),
            dialer: Dialer::tcp(),
            connector: handles.connector,
        };
        let config = ServerConfig {
            drain: Drain::within(Duration::from_secs(1)),
            most_connections: 100,
            trusted_proxies: Vec::new(),
        };
        let workers = Workers::start(std::num::NonZeroUsize::MIN).unwrap();
        let server = Server::new(proxy, handles.peers, workers, config);
        let listeners = Listeners { cluster, public: loopback().await, public_tls: None, peer };
        let (mut synced, mut stopped) = (handles.synced, self.stop.subscribe());
        self.tasks.spawn(async move { control.run().await });
        self.tasks.spawn(async move {
            drop(synced.wait_for(|synced| *synced).await);
            server.run(listeners, async move { drop(stopped.wait_for(|stop| *stop).await) }).await;
        });
    }

    async fn call(&self, host: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.http).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/").header("host", host);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// How many objects there are of each kind that a Function has.
    async fn left(&self) -> Vec<(&'static str, usize)> {
        async fn count<K>(client: &Client) -> usize
        where
            K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
            K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
            K::DynamicType: Default,
        {
            let all = kube::Api::<K>::namespaced(client.clone(), SHOP);
            all.list(&ListParams::default()).await.unwrap().items.len()
        }
        let client = &self.client;
        vec![
            ("Function", count::<Function>(client).await),
            ("Deployment", count::<Deployment>(client).await),
            ("ReplicaSet", count::<ReplicaSet>(client).await),
            ("Pod", count::<Pod>(client).await),
            ("Service", count::<Service>(client).await),
            ("ControllerRevision", count::<ControllerRevision>(client).await),
        ]
    }
}

async fn say(pods: &kube::Api<Pod>, name: &str, ip: &str, container: &str) {
    let status = json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{
            "name": container, "image": "x", "imageID": "", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {}},
        }],
    }});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// Gives each pod of a Function a port of this machine and serves there, until it is told to go.
async fn run_node(client: Client) {
    let pods = kube::Api::<Pod>::namespaced(client, SHOP);
    let mut events = Box::pin(watcher(pods.clone(), watcher::Config::default()).default_backoff());
    let mut running: HashMap<String, JoinSet<()>> = HashMap::new();
    while let Ok(Some(event)) = events.try_next().await {
        let (Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let name = pod.name_any();
        if pod.metadata.deletion_timestamp.is_some() {
            running.remove(&name);
            drop(pods.delete(&name, &DeleteParams::default().grace_period(0)).await);
        } else if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
            let listener = loopback().await;
            let port = listener.local_addr().unwrap().port();
            let mut containers = serde_json::to_value(&pod.spec).unwrap()["containers"].clone();
            containers[0]["ports"][0]["containerPort"] = json!(port);
            let place = json!({"spec": {"nodeName": "dev", "containers": containers}});
            pods.patch(&name, &PatchParams::default(), &Patch::Merge(place)).await.unwrap();
            let mut tasks = JoinSet::new();
            tasks.spawn(serve(listener, name.clone()));
            running.insert(name.clone(), tasks);
            say(&pods, &name, "127.0.0.1", "function").await;
        }
    }
}

async fn serve(listener: TcpListener, name: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let name = name.clone();
        let service = service_fn(move |_| {
            let name = name.clone();
            async move { Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(name)))) }
        });
        let served = hyper::server::conn::http1::Builder::new();
        tokio::spawn(served.serve_connection(TokioIo::new(stream), service));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_is_made_woken_and_taken_away() {
    let mut roles = Roles::start().await;
    let functions = kube::Api::<Function>::namespaced(roles.client.clone(), SHOP);
    let function = json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "metadata": {"name": "hello"},
        "spec": {"image": "hello"},
    });
    let applied = Patch::Apply(&function);
    functions.patch("hello", &PatchParams::apply("test").force(), &applied).await.unwrap();
    let is_ready = |function: Option<&Function>| {
        let status = function.and_then(|function| function.status.as_ref());
        status.is_some_and(|status| {
            status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True")
        })
    };
    let ready = await_condition(functions.clone(), "hello", is_ready);
    timeout(PATIENCE, ready).await.expect("the Function becomes ready").unwrap();
    let deployments = kube::Api::<Deployment>::namespaced(roles.client.clone(), SHOP);
    let all = deployments.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].spec.replicas, Some(0));

    let answer = timeout(PATIENCE, roles.call("hello.shop")).await.expect("it answers");
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert!(answer.1.starts_with(&all[0].name_any()), "{}", answer.1);
    let left = roles.left().await;
    assert!(left.iter().all(|(_, count)| *count == 1), "{left:?}");

    let uid = functions.get("hello").await.unwrap().uid().unwrap();
    functions.delete("hello", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(functions.clone(), "hello", is_deleted(&uid));
    timeout(PATIENCE, gone).await.expect("the Function goes").unwrap();
    let pods = kube::Api::<Pod>::namespaced(roles.client.clone(), SHOP);
    let mut events = Box::pin(watcher(pods, watcher::Config::default()).default_backoff());
    let emptied = async {
        while roles.left().await.iter().any(|(_, count)| *count > 0) {
            events.next().await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("nothing is left");

    roles.stop.send_replace(true);
    roles.tasks.shutdown().await;
}
