//! The second phase: which Function, or which source, a request is for. Pure.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{Method, Request};
use rouse_core::routing::{Listener, Route, RouteTable};
use rouse_crds::v1alpha1::HttpMethod;

use crate::function::FunctionHandle;
use crate::problem::Failure;

/// Where a request goes.
pub(super) enum Place {
    /// To a Function.
    Function(Arc<FunctionHandle>),
    /// To the pod that runs the sources of its namespace, as an event.
    Door,
}

/// Where `request` goes.
pub(super) fn find<B>(
    table: &RouteTable<Arc<FunctionHandle>>,
    listener: Listener,
    request: &Request<B>,
    cluster_domain: &str,
) -> Result<Place, Failure> {
    let host = host(request).ok_or(Failure::BadRequest("the request names no host"))?;
    let path = request.uri().path();
    match table.find(listener, host, path, method(request.method())) {
        Route::Found(handle) => Ok(Place::Function(Arc::clone(handle))),
        Route::Door(_) => Ok(Place::Door),
        Route::MethodNotAllowed(methods) => Err(Failure::MethodNotAllowed(methods.to_vec())),
        Route::Ambiguous => {
            let name = host.split(':').next().unwrap_or(host).trim_end_matches('.');
            let (name, domain) = (name.to_ascii_lowercase(), cluster_domain.to_owned());
            Err(Failure::BareName { name, domain })
        }
        Route::NotFound => Err(Failure::NotFound {
            host: host.to_owned(),
            path: path.to_owned(),
            public: listener == Listener::Public,
        }),
    }
}

/// The pod that takes `request` as an event, while there is one.
pub(super) fn find_pod<B>(
    table: &RouteTable<Arc<FunctionHandle>>,
    listener: Listener,
    request: &Request<B>,
) -> Option<SocketAddr> {
    match table.find(listener, host(request)?, request.uri().path(), method(request.method())) {
        Route::Door(door) => door.pod,
        _ => None,
    }
}

/// The Function that another activator says a request is for. One of another UID is another
/// Function: the two activators have seen different states, and the other has to look again.
pub(super) fn find_told(
    table: &RouteTable<Arc<FunctionHandle>>,
    (function, uid): (&str, &str),
) -> Result<Arc<FunctionHandle>, Failure> {
    match table.find(Listener::Cluster, function, "/", Some(HttpMethod::Get)) {
        Route::Found(handle) if *handle.uid == *uid => Ok(Arc::clone(handle)),
        _ => Err(Failure::NotOwner),
    }
}

fn host<B>(request: &Request<B>) -> Option<&str> {
    request.headers().get(HOST)?.to_str().ok()
}

/// The method, where a Trigger can name it.
fn method(method: &Method) -> Option<HttpMethod> {
    match *method {
        Method::GET => Some(HttpMethod::Get),
        Method::HEAD => Some(HttpMethod::Head),
        Method::POST => Some(HttpMethod::Post),
        Method::PUT => Some(HttpMethod::Put),
        Method::PATCH => Some(HttpMethod::Patch),
        Method::DELETE => Some(HttpMethod::Delete),
        Method::OPTIONS => Some(HttpMethod::Options),
        Method::TRACE => Some(HttpMethod::Trace),
        Method::CONNECT => Some(HttpMethod::Connect),
        _ => None,
    }
}
