//! Where a request goes: an immutable table from host, path and method to a Function.
//!
//! A table is built when a Function or Trigger changes and never changed after; a look-up
//! allocates nothing unless the host has upper-case letters.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;

use rouse_crds::v1alpha1::HttpMethod;

use crate::function::FunctionKey;
use crate::trigger::{DoorGrant, Grant, HostPolicy};

/// The port on which a request came in, which decides whom it may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// Callers in the cluster: reaches every Function.
    Cluster,
    /// Callers outside: reaches Functions with `exposure: Public` only.
    Public,
}

/// A Function in a table: where its requests go, and who may reach it.
#[derive(Clone, Debug)]
pub struct Destination<T> {
    /// Whether the public port reaches it.
    pub public: bool,
    /// What the table answers with.
    pub target: T,
}

/// The answer of a table.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a, T> {
    /// The request goes there.
    Found(&'a T),
    /// The request is an event for a source.
    Door(Door),
    /// The host and path have a Function, for other methods than this.
    MethodNotAllowed(&'a [HttpMethod]),
    /// The host is a bare name, which does not tell the namespace.
    Ambiguous,
    /// Nothing answers to that host and path here.
    NotFound,
}

/// Where events for a source go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The pod that runs the sources of the namespace; none while there is none that is ready.
    pub pod: Option<SocketAddr>,
}

/// An immutable table of routes.
#[derive(Debug)]
pub struct RouteTable<T> {
    /// Functions by `NAME.NAMESPACE`.
    functions: HashMap<Box<str>, Destination<T>>,
    /// Routes of Triggers by host, longest path first.
    hosts: HashMap<Box<str>, Vec<PathRoute<T>>>,
    /// What may follow `NAME.NAMESPACE` in the cluster, longest first, each with its leading dot. Names
    /// below `localhost` are for who came through a port forward, and for `rouse dev`.
    cluster_suffixes: Vec<String>,
    /// What follows `NAME.NAMESPACE` outside, with its leading dot.
    public_suffix: Option<String>,
}

#[derive(Debug)]
struct PathRoute<T> {
    path: Box<str>,
    methods: Vec<HttpMethod>,
    place: Place<T>,
}

/// Where a path leads.
#[derive(Debug)]
enum Place<T> {
    Function(Destination<T>),
    /// From everywhere: senders prove who they are.
    Door(Door),
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self {
            functions: HashMap::new(),
            hosts: HashMap::new(),
            cluster_suffixes: Vec::new(),
            public_suffix: None,
        }
    }
}

impl<T: Clone> RouteTable<T> {
    /// Builds the table of `functions` and of the `grants` of Triggers. A grant whose Function is
    /// not among `functions` is left out.
    pub fn build(
        functions: impl IntoIterator<Item = (FunctionKey, Destination<T>)>,
        grants: &[Grant],
        policy: &HostPolicy,
    ) -> Self {
        let functions: HashMap<Box<str>, Destination<T>> = functions
            .into_iter()
            .map(|(key, destination)| (key.cluster_host().into_boxed_str(), destination))
            .collect();
        let mut hosts: HashMap<Box<str>, Vec<PathRoute<T>>> = HashMap::new();
        for grant in grants {
            if let Some(destination) = functions.get(grant.function.cluster_host().as_str()) {
                hosts.entry(grant.host.as_str().into()).or_default().push(PathRoute {
                    path: grant.path.trim_end_matches('/').into(),
                    methods: grant.methods.clone(),
                    place: Place::Function(destination.clone()),
                });
            }
        }
        for routes in hosts.values_mut() {
            routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        }
        Self {
            functions,
            hosts,
            cluster_suffixes: vec![
                format!(".svc.{}", policy.cluster_domain),
                ".localhost".into(),
                ".svc".into(),
            ],
            public_suffix: policy.public_domain.as_ref().map(|domain| format!(".{domain}")),
        }
    }
}

impl<T> RouteTable<T> {
    /// Adds doors, each to the pod that `pod_of` its namespace gives.
    pub fn hang(&mut self, doors: &[DoorGrant], pod_of: impl Fn(&str) -> Option<SocketAddr>) {
        for DoorGrant { trigger, host, path } in doors {
            let pod = pod_of(&trigger.namespace);
            let (path, methods) = (path.as_str().into(), Vec::new());
            let routes = self.hosts.entry(host.as_str().into()).or_default();
            routes.push(PathRoute { path, methods, place: Place::Door(Door { pod }) });
            routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        }
    }

    /// Looks up a request. `host` is the authority as the client sent it, with or without port;
    /// `method` is none for one that a Trigger can't name.
    pub fn find(
        &self,
        listener: Listener,
        host: &str,
        path: &str,
        method: Option<HttpMethod>,
    ) -> Route<'_, T> {
        let host = normalise(host);
        if let Some(routes) = self.hosts.get(host.as_ref()) {
            return find_path(routes, listener, path, method);
        }
        let Some((name, public_name)) = self.strip_suffix(&host) else {
            return Route::NotFound;
        };
        if listener == Listener::Cluster && !public_name && is_label(name) {
            return Route::Ambiguous;
        }
        match self.functions.get(name) {
            Some(found) if may_reach(listener, found.public, public_name) => {
                Route::Found(&found.target)
            }
            _ => Route::NotFound,
        }
    }

    /// Number of hosts and Functions in the table.
    pub fn len(&self) -> usize {
        self.functions.len() + self.hosts.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `NAME.NAMESPACE` of a host, and whether it stood below the public domain.
    fn strip_suffix<'h>(&self, host: &'h str) -> Option<(&'h str, bool)> {
        if host.is_empty() {
            return None;
        }
        if let Some(name) = self.public_suffix.as_deref().and_then(|s| host.strip_suffix(s)) {
            return Some((name, true));
        }
        let name = self.cluster_suffixes.iter().find_map(|suffix| host.strip_suffix(suffix));
        Some((name.unwrap_or(host), false))
    }
}

/// Outside callers reach public Functions by their public names only, so that a forged Host with a
/// name of the cluster reaches nothing.
const fn may_reach(listener: Listener, public: bool, public_name: bool) -> bool {
    match listener {
        Listener::Cluster => public || !public_name,
        Listener::Public => public && public_name,
    }
}

fn find_path<'a, T>(
    routes: &'a [PathRoute<T>],
    listener: Listener,
    path: &str,
    method: Option<HttpMethod>,
) -> Route<'a, T> {
    let reachable = |route: &&PathRoute<T>| match &route.place {
        Place::Function(destination) => {
            (listener == Listener::Cluster || destination.public) && covers(&route.path, path)
        }
        Place::Door(_) => *route.path == *path,
    };
    let Some(route) = routes.iter().find(reachable) else {
        return Route::NotFound;
    };
    let takes =
        route.methods.is_empty() || method.is_some_and(|method| route.methods.contains(&method));
    match &route.place {
        Place::Door(door) => Route::Door(*door),
        Place::Function(destination) if takes => Route::Found(&destination.target),
        Place::Function(_) => Route::MethodNotAllowed(&route.methods),
    }
}

/// Whether `name` is a single label of DNS, as callers within a namespace might use it.
fn is_label(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether `prefix`, without trailing slash, stands for `path`: itself and all below it.
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The host alone, in lower case: no port, no trailing dot.
fn normalise(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::TriggerKey;

    fn table() -> RouteTable<&'static str> {
        let policy = HostPolicy {
            cluster_domain: "cluster.local".into(),
            public_domain: Some("fn.example.org".into()),
            ..HostPolicy::default()
        };
        let functions = [
            (FunctionKey::new("shop", "local"), Destination { public: false, target: "local" }),
            (FunctionKey::new("shop", "open"), Destination { public: true, target: "open" }),
        ];
        let grants = [
            grant("local", "local.example.com", "/", vec![]),
            grant("open", "api.example.com", "/v1", vec![HttpMethod::Get]),
            grant("local", "api.example.com", "/v1/deep/", vec![]),
            grant("missing", "gone.example.com", "/", vec![]),
        ];
        RouteTable::build(functions, &grants, &policy)
    }

    fn grant(function: &str, host: &str, path: &str, methods: Vec<HttpMethod>) -> Grant {
        Grant {
            trigger: TriggerKey { namespace: "shop".into(), name: "t".into() },
            function: FunctionKey::new("shop", function),
            host: host.into(),
            path: path.into(),
            methods,
        }
    }

    fn cluster<'a>(
        t: &'a RouteTable<&'static str>,
        host: &str,
        path: &str,
    ) -> Route<'a, &'static str> {
        t.find(Listener::Cluster, host, path, Some(HttpMethod::Get))
    }

    fn public<'a>(
        t: &'a RouteTable<&'static str>,
        host: &str,
        path: &str,
    ) -> Route<'a, &'static str> {
        t.find(Listener::Public, host, path, Some(HttpMethod::Get))
    }

    #[test]
    fn every_name_of_a_function_in_the_cluster_finds_it() {
        let t = table();
        for host in [
            "local.shop",
            "local.shop:80",
            "LOCAL.Shop.svc",
            "local.shop.svc.cluster.local",
            "local.shop.svc.cluster.local.:8080",
            "local.shop.localhost:8080",
        ] {
            assert_eq!(cluster(&t, host, "/any"), Route::Found(&"local"), "{host}");
        }
    }

    #[test]
    fn a_bare_name_is_ambiguous_in_the_cluster_only() {
        let t = table();
        assert_eq!(cluster(&t, "local", "/"), Route::Ambiguous);
        assert_eq!(public(&t, "local", "/"), Route::NotFound);
    }

    #[test]
    fn the_public_port_reaches_public_functions_by_public_names_only() {
        let t = table();
        assert_eq!(public(&t, "open.shop.fn.example.org", "/"), Route::Found(&"open"));
        assert_eq!(public(&t, "api.example.com", "/v1/x"), Route::Found(&"open"));
        for host in [
            "open.shop",
            "open.shop.svc.cluster.local",
            "local.shop.fn.example.org",
            "local.shop",
            "local.shop.svc.cluster.local",
            "open.shop.localhost",
            "local.example.com",
        ] {
            assert_eq!(public(&t, host, "/"), Route::NotFound, "{host}");
        }
    }

    #[test]
    fn a_path_that_is_local_falls_back_to_the_public_one_above_it() {
        let t = table();
        assert_eq!(cluster(&t, "api.example.com", "/v1/deep/x"), Route::Found(&"local"));
        assert_eq!(public(&t, "api.example.com", "/v1/deep/x"), Route::Found(&"open"));
    }

    #[test]
    fn paths_end_at_a_slash_and_methods_are_kept() {
        let t = table();
        assert_eq!(cluster(&t, "api.example.com", "/v1"), Route::Found(&"open"));
        assert_eq!(cluster(&t, "api.example.com", "/v10"), Route::NotFound);
        assert_eq!(cluster(&t, "api.example.com", "/"), Route::NotFound);
        assert_eq!(
            t.find(Listener::Cluster, "api.example.com", "/v1", Some(HttpMethod::Post)),
            Route::MethodNotAllowed(&[HttpMethod::Get])
        );
        assert_eq!(
            t.find(Listener::Cluster, "api.example.com", "/v1", None),
            Route::MethodNotAllowed(&[HttpMethod::Get])
        );
    }

    #[test]
    fn doors_stand_for_their_path_alone_and_are_open_to_all() {
        let mut t = table();
        let door = |name: &str, host: &str, path: &str| DoorGrant {
            trigger: TriggerKey { namespace: name.into(), name: "hook".into() },
            host: host.into(),
            path: path.into(),
        };
        let doors = [door("shop", "api.example.com", "/v1/hook"), door("x", "in.example.com", "/")];
        let pod = "10.0.0.7:8083".parse().ok();
        t.hang(&doors, |namespace| pod.filter(|_| namespace == "shop"));
        for find in [cluster, public] {
            assert_eq!(find(&t, "api.example.com", "/v1/hook"), Route::Door(Door { pod }));
            assert_eq!(find(&t, "api.example.com", "/v1/hook/x"), Route::Found(&"open"));
            assert_eq!(find(&t, "in.example.com", "/"), Route::Door(Door { pod: None }));
            assert_eq!(find(&t, "in.example.com", "/x"), Route::NotFound);
        }
    }

    #[test]
    fn odd_hosts_find_nothing() {
        let t = table();
        for host in
            ["", ".", ":80", "..", "local.shop.svc.other", "a.b.c", "[::1]:80", "gone.example.com"]
        {
            assert_eq!(cluster(&t, host, "/"), Route::NotFound, "{host:?}");
        }
    }
}
