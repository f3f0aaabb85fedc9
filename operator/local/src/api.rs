//! A small Kubernetes API in memory: as much of it as Rouse's roles and command line use, so that they
//! run unchanged where there is no cluster.
//!
//! Objects are kept in memory and go with the process. Requests are answered under one lock, and
//! the controllers that a cluster would have run within the write that concerns them: there is no task
//! and nothing to poll. Within the process a [`kube::Client`] calls it without a socket; the command
//! line calls it over TLS on a loopback address, with a token. Everybody who gets in may do everything.

mod admit;
mod answer;
mod apply;
mod control;
mod definition;
mod discovery;
mod fields;
mod form;
mod http;
mod kinds;
mod meta;
mod patch;
mod route;
mod select;
mod service;
mod store;
mod tls;
mod tokens;
mod verbs;
mod watch;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use kube::client::Body;
use rouse_crds::v1alpha1::crds;
use serde_json::json;
use tokio::net::TcpListener;
use tower::service_fn;

use answer::Refusal;
use kinds::Kinds;
use route::{Query, Target};
use store::Store;
use tls::ServerKey;
use tokens::Tokens;

pub use definition::Broken;
pub use tls::TlsError;

/// Names of the cluster, the user and the context in a kubeconfig of this API.
pub const CONTEXT: &str = "rouse-dev";
/// What of a cluster in a kubeconfig is Rouse's: where its Functions are called.
const EXTENSION: &str = "rouse.dev";

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of Rouse's own definitions can't be used.
    #[error("reading the definitions of Function and Trigger")]
    Definition(#[from] Broken),
    /// The namespace that is there from the start was refused.
    #[error("making the namespace `default`: {0}")]
    Namespace(String),
    /// It has no key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There are no random numbers for its token.
    #[error("this machine gives no random numbers")]
    Random,
}

/// Who has the logs of pods.
pub trait PodLogs: Send + Sync {
    /// The log of a pod; none where the pod has none here. The stream stays open while `follow` is
    /// asked for and the container runs.
    fn read(
        &self,
        namespace: &str,
        pod: &str,
        query: LogQuery,
    ) -> Option<BoxStream<'static, Bytes>>;
}

/// What of a log is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of this container; the only one if none is named.
    pub container: Option<String>,
    /// New lines too, as they come.
    pub follow: bool,
    /// No more than the last lines.
    pub tail_lines: Option<u64>,
    /// Nothing older than that.
    pub since: Option<Duration>,
    /// Each line begins with when it was written.
    pub timestamps: bool,
    /// Of the container that ran before.
    pub previous: bool,
    /// No more than so many bytes.
    pub limit_bytes: Option<u64>,
}

impl LogQuery {
    fn of(query: &Query) -> Self {
        Self {
            container: Some(query.get("container").to_owned()).filter(|name| !name.is_empty()),
            follow: query.is_set("follow"),
            tail_lines: query.number("tailLines"),
            since: query.number("sinceSeconds").map(Duration::from_secs),
            timestamps: query.is_set("timestamps"),
            previous: query.is_set("previous"),
            limit_bytes: query.number("limitBytes"),
        }
    }
}

/// How the API starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiOptions {
    /// What UIDs and made-up names come from; random if none is given.
    pub seed: Option<u64>,
}

/// Where the command line finds what runs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The API.
    pub api: SocketAddr,
    /// The Functions, by the host that is asked for.
    pub functions: SocketAddr,
}

/// The API. Cheap to clone; its objects go with the last clone, client and connection.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    kinds: Kinds,
    state: Mutex<State>,
    logs: OnceLock<Arc<dyn PodLogs>>,
    token: String,
    key: ServerKey,
}

struct State {
    store: Store,
    tokens: Tokens,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// An API with the kinds of Kubernetes that Rouse uses and Rouse's own, and the namespace `default`.
    pub fn start(options: ApiOptions) -> Result<Self, StartError> {
        let kinds = Kinds::new(&crds())?;
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        let store = Store::new(kinds.iter().map(|kind| kind.id), seed);
        let token = tokens::random_text().map_err(|_| StartError::Random)?;
        let key = ServerKey::generate()?;
        let state = Mutex::new(State { store, tokens: Tokens::default() });
        let shared = Shared { kinds, state, logs: OnceLock::new(), token, key };
        let api = Self { shared: Arc::new(shared) };
        api.make_default_namespace()?;
        Ok(api)
    }

    fn make_default_namespace(&self) -> Result<(), StartError> {
        let kinds = &self.shared.kinds;
        let target = Target {
            kind: Arc::clone(&kinds.namespace),
            namespace: None,
            name: "default".to_owned(),
            subresource: String::new(),
        };
        let (query, now) = (Query::default(), Timestamp::now());
        let call = verbs::Call { kinds, target: &target, query: &query, agent: "rouse-dev", now };
        let mut state = self.shared.lock();
        let made = verbs::create(&mut state.store, &call, json!({}));
        made.map_err(|refusal| StartError::Namespace(refusal.message))?;
        control::settle(&mut state.store, kinds, now);
        Ok(())
    }

    /// A client within the process. Must be called within a Tokio runtime, on which a task carries its
    /// requests as long as the client is there.
    pub fn client(&self, default_namespace: &str) -> kube::Client {
        let shared = Arc::clone(&self.shared);
        let service = service_fn(
            move |request: Request<Body>| -> BoxFuture<'static, Result<Response<service::Body>, Infallible>> {
                let shared = Arc::clone(&shared);
                Box::pin(async move { Ok(handle(&shared, request).await) })
            },
        );
        kube::Client::new(service, default_namespace)
    }

    /// Serves the API over TLS until `shutdown`. Refuses any but a loopback address.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        http::serve(Arc::clone(&self.shared), listener, shutdown).await
    }

    /// A kubeconfig for who may do everything at `addresses`. It has the token: only the user may read it.
    pub fn kubeconfig(&self, addresses: Addresses, default_namespace: &str) -> String {
        let token = &self.shared.token;
        let Addresses { api, functions } = addresses;
        // No port of a pod has to be forwarded to call a Function here.
        let called = json!({"address": format!("http://{functions}")});
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": {
                "server": format!("https://{api}"),
                "certificate-authority-data": self.shared.key.certificate(),
                "extensions": [{"name": EXTENSION, "extension": called}],
            }}],
            "users": [{"name": CONTEXT, "user": {"token": token}}],
            "contexts": [{"name": CONTEXT, "context": {
                "cluster": CONTEXT, "user": CONTEXT, "namespace": default_namespace,
            }}],
            "current-context": CONTEXT,
        });
        // JSON is YAML too.
        format!("{config:#}\n")
    }

    /// A token of a ServiceAccount for one audience, good as long as both are there: for the files from
    /// which roles read theirs. None where there is no such ServiceAccount, or no randomness.
    pub fn token(&self, namespace: &str, account: &str, audience: &str) -> Option<String> {
        let mut state = self.shared.lock();
        let place = store::Place {
            kind: self.shared.kinds.service_account.id,
            namespace: namespace.to_owned(),
            name: account.to_owned(),
        };
        let account = Arc::clone(state.store.get(&place)?);
        state.tokens.give_lasting(&account.value, audience).ok()
    }

    /// Says who has the logs of pods; the first who says so.
    pub fn set_logs(&self, logs: Arc<dyn PodLogs>) {
        // A second one would only be the same node again.
        let _ = self.shared.logs.set(logs);
    }
}

async fn handle(shared: &Arc<Shared>, request: Request<Body>) -> Response<service::Body> {
    let (parts, body) = request.into_parts();
    match Limited::new(body, http::LARGEST_BODY).collect().await {
        Ok(body) => service::answer(shared, &parts, &body.to_bytes()),
        Err(error) => service::refuse(&Refusal::bad(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
