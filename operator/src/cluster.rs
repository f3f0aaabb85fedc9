//! The cluster that a command asks: what kubeconfig says so, with whose rights it is asked, and what its
//! refusals mean for the user.

mod kubeconfig;
mod nearest;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::client::UpgradeConnectionError;
use kube::{Api, Client, ResourceExt};
use rouse_crds::v1alpha1::{Function, Trigger};

use self::kubeconfig::Place;
use self::nearest::nearest;
use crate::exit::Failure;

/// How Rouse comes into a cluster.
const INSTALL: &str = "install it by `helm install rouse charts/rouse --namespace rouse-system \
    --create-namespace` or `kubectl apply -f manifests/install.yaml`";
/// What serves Functions where there is no cluster.
const DEV: &str = "without a cluster `rouse dev DIR` runs Functions on this machine";
/// The right to read.
const VIEW: &str = "the role `view` there";
/// Names that an error lists.
const SHOWN: usize = 5;

/// Which cluster and namespace.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterArgs {
    /// Namespace. Default: that of the kubeconfig's context.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. Default: its current one.
    #[arg(long)]
    pub context: Option<String>,
    /// The kubeconfig. Default: what `KUBECONFIG` names, or `~/.kube/config`.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// A client with the user's rights.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
    /// Where Functions are called, if the kubeconfig says so (see `kubeconfig`).
    pub address: Option<String>,
    server: String,
    read: String,
}

impl Cluster {
    /// The cluster that `args` mean. It is not asked anything yet.
    pub async fn of(args: &ClusterArgs) -> anyhow::Result<Self> {
        let Place { config, read, address } = kubeconfig::place(args).await?;
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).context("making a client")?;
        Ok(Self { client, namespace, address, server, read })
    }

    /// The Function `name`.
    pub async fn function(&self, name: &str) -> anyhow::Result<Function> {
        let api: Api<Function> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await;
        match found.map_err(|error| self.refused(error, "get functions"))? {
            Some(function) => Ok(function),
            None => Err(self.missing(name).await),
        }
    }

    /// The Functions of the namespace, or of all that there are.
    pub async fn functions(
        &self,
        everywhere: bool,
        selector: Option<&str>,
    ) -> anyhow::Result<Vec<Function>> {
        let client = self.client.clone();
        let api: Api<Function> =
            if everywhere { Api::all(client) } else { Api::namespaced(client, &self.namespace) };
        let label_selector = selector.map(ToOwned::to_owned);
        let params = ListParams { label_selector, ..ListParams::default() };
        let list = api.list(&params).await;
        let place = self.place(everywhere);
        Ok(list.map_err(|error| self.refused_in(error, "list functions", &place, VIEW))?.items)
    }

    /// The Triggers of the namespace, or of all that there are.
    pub async fn triggers(&self, everywhere: bool) -> anyhow::Result<Vec<Trigger>> {
        let client = self.client.clone();
        let api: Api<Trigger> =
            if everywhere { Api::all(client) } else { Api::namespaced(client, &self.namespace) };
        let list = api.list(&ListParams::default()).await;
        let place = self.place(everywhere);
        Ok(list.map_err(|error| self.refused_in(error, "list triggers", &place, VIEW))?.items)
    }

    /// The Functions of the namespace, read without their types: a newer cluster may know more.
    pub fn objects(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<Function>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Where something was looked for, in words.
    pub fn place(&self, everywhere: bool) -> String {
        if everywhere { "all namespaces".into() } else { format!("namespace {}", self.namespace) }
    }

    /// What an answer of the API server means for who may read the namespace.
    pub fn refused(&self, error: kube::Error, doing: &str) -> anyhow::Error {
        self.refused_in(error, doing, &self.place(false), VIEW)
    }

    /// What an answer of the API server means for who wanted to do something somewhere, which takes
    /// that `right`.
    pub fn refused_in(
        &self,
        error: kube::Error,
        doing: &str,
        place: &str,
        right: &str,
    ) -> anyhow::Error {
        let (server, read) = (&self.server, &self.read);
        match code_of(&error) {
            Some(401) => Failure::Forbidden(format!(
                "the API server at {server} does not know you ({read}): log in again"
            )),
            Some(403) => {
                Failure::Forbidden(format!("you may not {doing} in {place}: ask for {right}"))
            }
            Some(404) => Failure::NoCluster(format!(
                "the cluster at {server} ({read}) knows nothing of rouse.dev: {INSTALL}, or choose \
                 another cluster by --context; {DEV}"
            )),
            None if is_unreached(&error) => Failure::NoCluster(format!(
                "the API server at {server} is not reached ({read}): {}. Start the cluster, or \
                 choose another by --context or KUBECONFIG; {DEV}",
                innermost(&error)
            )),
            _ => return anyhow::Error::new(error).context("asking the API server"),
        }
        .into()
    }

    /// What is said of a Function that is not there. It asks what there is.
    async fn missing(&self, name: &str) -> anyhow::Error {
        let there = match self.functions(false, None).await {
            Ok(there) => there,
            Err(error) => return error,
        };
        let names: Vec<String> = there.iter().map(ResourceExt::name_any).collect();
        // Whoever may not look elsewhere is told of his own namespace alone.
        let all = self.functions(true, None).await.unwrap_or_default();
        let elsewhere = all.iter().filter(|function| function.name_any() == name);
        let elsewhere: Vec<String> = elsewhere.filter_map(ResourceExt::namespace).collect();
        let hint = hint(name, &names, &elsewhere);
        let place = self.place(false);
        Failure::Missing(format!("there is no Function {name} in {place}: {hint}")).into()
    }
}

/// What `-o name` calls a Function.
pub fn name_of_function(name: &str) -> String {
    format!("function.rouse.dev/{name}")
}

/// What somebody might have meant by a name that there is not.
fn hint(name: &str, names: &[String], elsewhere: &[String]) -> String {
    let near = nearest(name, names);
    if let Some(namespace) = elsewhere.first() {
        return format!("there is one in namespace {namespace}, choose that with -n {namespace}");
    }
    if !near.is_empty() {
        return format!("did you mean {}?", near.join(" or "));
    }
    if names.is_empty() {
        return "it has none. Choose another with -n, or make one: `rouse init`".to_owned();
    }
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = if names.len() > SHOWN { " and more (`rouse list`)" } else { "" };
    format!("it has {}{more}. Choose another namespace with -n", shown.join(", "))
}

/// The status that the API server answered with.
pub fn code_of(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Some(status.as_u16())
        }
        _ => None,
    }
}

fn is_unreached(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}

/// The last cause: what the system said.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use kube::core::Status;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn cluster() -> Cluster {
        cluster_at("http://127.0.0.1:1")
    }

    fn cluster_at(server: &str) -> Cluster {
        drop(rustls::crypto::ring::default_provider().install_default());
        let config = Config::new(server.parse().unwrap());
        Cluster {
            client: Client::try_from(config).unwrap(),
            namespace: "shop".into(),
            address: None,
            server: server.into(),
            read: "context kind of /home/u/.kube/config".into(),
        }
    }

    #[tokio::test]
    async fn errors_say_what_to_do() {
        let cluster = cluster();
        let error = |code| {
            let status = Status { code, ..Status::default() };
            cluster.refused(kube::Error::Api(Box::new(status)), "get functions").to_string()
        };
        assert!(error(401).contains("log in"));
        assert!(error(403).contains("you may not get functions in namespace shop"));
        assert!(error(403).contains("role `view`"));
        assert!(error(404).contains("helm install rouse"));
        assert_eq!(error(500), "asking the API server");
    }

    #[tokio::test]
    async fn a_cluster_without_rouse_is_told_with_how_it_comes_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        // What an API server says of a group that it does not know.
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\nconnection: close\r\n\
                      content-length: 19\r\n\r\n404 page not found\n";
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let cluster = cluster_at(&server);
        for error in [
            cluster.functions(true, None).await.map(drop).unwrap_err(),
            cluster.function("hello").await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(error.downcast_ref(), Some(Failure::NoCluster(_))), "{error:?}");
            let said = error.to_string();
            assert!(said.contains("helm install rouse") && said.contains("rouse dev"), "{said}");
        }
    }

    #[tokio::test]
    async fn who_may_not_forward_ports_is_told_which_right_is_missing() {
        let upgrade = UpgradeConnectionError::ProtocolSwitch(hyper::StatusCode::FORBIDDEN);
        let error = kube::Error::UpgradeConnection(upgrade);
        let right = "`create` on pods/portforward";
        let text = cluster().refused_in(error, "forward ports of pods", "shop", right).to_string();
        assert!(text.starts_with("you may not forward ports of pods in shop"), "{text}");
        assert!(text.ends_with("ask for `create` on pods/portforward"), "{text}");
    }

    #[tokio::test]
    async fn a_cluster_that_is_away_is_named_with_what_was_read() {
        let error = cluster().functions(false, None).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Failure::NoCluster(_))), "{error:?}");
        let said = error.to_string();
        for part in ["http://127.0.0.1:1", "context kind", "refused", "rouse dev"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }

    #[test]
    fn who_errs_is_told_what_there_is() {
        let names = ["hello", "help", "thumbnails", "a", "b", "c"].map(String::from);
        assert_eq!(hint("helo", &names, &[]), "did you mean hello or help?");
        assert!(hint("helo", &names, &["other".into()]).contains("-n other"));
        assert!(
            hint("zzz", &names, &[]).starts_with("it has hello, help, thumbnails, a, b and more")
        );
        assert!(hint("x", &[], &[]).contains("rouse init"));
    }
}
