//! The way to a Function: an address that was given, or a port that is forwarded to an activator by way
//! of the API server.

use anyhow::{Context, anyhow};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, Uri};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use url::{Host, Url};

use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::https::{self, Http};
use crate::role::forward::{Forward, is_ready};

/// The activators' pods.
const ACTIVATORS: &str = "app.kubernetes.io/name=rouse,app.kubernetes.io/component=activator";
/// Name of the port at which they take calls from inside the cluster.
const PORT: &str = "http";
/// What lets one reach them.
const RIGHT: &str = "the Role `rouse-invoke` there (`list` on pods, `get` and `create` on \
    pods/portforward), or say by --address where the Function is reached from here";

/// A way, ready for one request.
pub enum Way {
    /// To an address.
    Address {
        /// The client.
        client: Box<Http>,
        /// Where.
        url: Url,
    },
    /// Through a port of an activator.
    Forwarded(Forward<Full<Bytes>>),
}

impl Way {
    /// The way to an address as the user writes it.
    pub fn to(address: &str) -> anyhow::Result<Self> {
        let full =
            if address.contains("://") { address.into() } else { format!("http://{address}") };
        let url: Url = full.parse().with_context(|| wrong(address))?;
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        if !is_http {
            return Err(anyhow!(wrong(address)));
        }
        Ok(Self::Address { client: Box::new(https::client()), url })
    }

    /// The way through an activator of the cluster, to which the Service of the Function `name` leads.
    pub async fn forward(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let services: Api<Service> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let service = services.get_opt(name).await;
        let service = service.map_err(|error| cluster.refused(error, "get services"))?;
        let namespace = service.as_ref().and_then(home).with_context(|| {
            format!(
                "the Function {name} has no Service that leads to Rouse: `rouse status {name} -n {}` \
                 says why",
                cluster.namespace
            )
        })?;
        let place = format!("namespace {namespace}");
        let refused = |error, verb| cluster.refused_in(error, verb, &place, RIGHT);
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
        let list = pods.list(&ListParams::default().labels(ACTIVATORS)).await;
        let list = list.map_err(|error| refused(error, "list pods"))?;
        let ready = list.items.iter().find_map(|pod| Some((pod.name_any(), port_of(pod)?)));
        let (pod, port) = ready.with_context(|| {
            format!("no activator of Rouse is ready: see `kubectl get pods -n {namespace}`")
        })?;
        Ok(Self::Forwarded(Forward::open(&pods, (&pod, port), refused).await?))
    }

    /// The host that is called there, if not by the name `usual` that a Function has in its cluster.
    pub fn host(&self, usual: &str) -> String {
        match self {
            Self::Address { url, .. } => named(url).unwrap_or_else(|| usual.to_owned()),
            Self::Forwarded(_) => usual.to_owned(),
        }
    }

    /// Sends `request`, whose URI is a path, and gives the head of the answer.
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Response<Incoming>> {
        match self {
            Self::Forwarded(Forward { sender, .. }) => {
                const BROKE: &str = "the connection to the activator broke off: try again";
                sender.ready().await.context(BROKE)?;
                sender.send_request(request).await.context(BROKE)
            }
            Self::Address { client, url } => {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let base = url.as_str().trim_end_matches('/');
                let uri: Uri = format!("{base}{path}").parse().context("the URL")?;
                *request.uri_mut() = uri;
                client.request(request).await.map_err(|error| {
                    let why = std::error::Error::source(&error).map(ToString::to_string);
                    let why = why.unwrap_or_else(|| error.to_string());
                    let text = format!("nobody answers at {url}: {why}. Is --address right?");
                    Failure::NoCluster(text).into()
                })
            }
        }
    }
}

fn wrong(address: &str) -> String {
    format!("{address:?} is no address such as http://127.0.0.1:8080")
}

/// The name by which `url` calls somebody; none where it says but where he is.
fn named(url: &Url) -> Option<String> {
    match (url.host()?, url.port()) {
        (Host::Domain(name), Some(port)) if name != "localhost" => Some(format!("{name}:{port}")),
        (Host::Domain(name), None) if name != "localhost" => Some(name.to_owned()),
        _ => None,
    }
}

/// The namespace that a Function's Service leads to.
fn home(service: &Service) -> Option<String> {
    let host = service.spec.as_ref()?.external_name.as_deref()?;
    let mut labels = host.split('.');
    let namespace = labels.nth(1).filter(|namespace| !namespace.is_empty())?;
    (labels.next() == Some("svc")).then(|| namespace.to_owned())
}

/// The port of a pod that answers at it.
fn port_of(pod: &Pod) -> Option<u16> {
    let mut ports = pod.spec.as_ref()?.containers.iter().flat_map(|it| it.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(PORT))?;
    let stays = pod.metadata.deletion_timestamp.is_none();
    (is_ready(pod) && stays).then(|| u16::try_from(port.container_port).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_is_called_by_its_name_if_it_has_one() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let host = |address: &str| Way::to(address).unwrap().host("hello.shop");
        for address in ["127.0.0.1:8080", "http://[::1]:8080/", "localhost:80"] {
            assert_eq!(host(address), "hello.shop", "{address}");
        }
        assert_eq!(host("https://hello.shop.fn.example.org"), "hello.shop.fn.example.org");
        assert_eq!(host("http://hello.shop.localhost:8080"), "hello.shop.localhost:8080");
        assert!(Way::to("ftp://x").is_err() && Way::to("http://").is_err());
    }

    #[test]
    fn the_service_of_a_function_tells_where_rouse_is() {
        let service = |host: &str| {
            let service = json!({"spec": {"type": "ExternalName", "externalName": host}});
            home(&serde_json::from_value(service).unwrap())
        };
        let usual = "rouse-activator.rouse-system.svc.cluster.local";
        assert_eq!(service(usual).as_deref(), Some("rouse-system"));
        assert_eq!(service("example.com"), None);
    }

    #[test]
    fn only_an_activator_that_answers_is_asked() {
        let pod = |ready: &str, leaves: Option<&str>| {
            let pod = json!({
                "metadata": {"deletionTimestamp": leaves},
                "spec": {"containers": [{"name": "activator", "ports": [
                    {"name": "public", "containerPort": 8081}, {"name": "http", "containerPort": 8080}]}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            port_of(&serde_json::from_value(pod).unwrap())
        };
        assert_eq!(pod("True", None), Some(8080));
        assert_eq!(pod("False", None), None);
        assert_eq!(pod("True", Some("2026-11-01T00:00:00Z")), None);
    }
}
