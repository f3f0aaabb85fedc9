//! The cluster that a command asks: what kubeconfig says so, with whose rights it is asked, and what it
//! has of Rouse. What its refusals mean is said in `refused`.

mod kubeconfig;
mod nearest;
mod patience;
mod proxy;
mod refused;

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::client::ClientBuilder;
use kube::core::{ObjectList, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use rouse_core::function::parse_duration;
use rouse_crds::v1alpha1::{Function, Trigger};
use serde::de::DeserializeOwned;

use self::kubeconfig::Place;
use self::nearest::nearest;
use self::patience::Patience;
use self::refused::{VIEW, is_missing};
use crate::exit::Failure;

pub use self::refused::code_of;

/// What serves Functions where there is no cluster.
const DEV: &str = "without a cluster `rouse dev DIR` runs Functions on this machine";
/// Names that an error lists.
const SHOWN: usize = 5;
/// Objects that are asked for at once.
const PAGE: u32 = 500;

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
    /// How long the API server may take to answer a question; 0s waits for ever.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_patience)]
    pub request_timeout: Duration,
}

fn parse_patience(text: &str) -> Result<Duration, String> {
    if text == "0s" || text == "0" {
        return Ok(Duration::ZERO);
    }
    parse_duration("--request-timeout", text).map_err(|error| error.to_string())
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
        let named = args.namespace.clone().filter(|namespace| !namespace.is_empty());
        let namespace = named.unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let builder = ClientBuilder::try_from(config);
        let builder = builder.map_err(|error| refused::no_client(error, &server, &read))?;
        let client = builder.with_layer(&Patience(args.request_timeout)).build();
        Ok(Self { client, namespace, address, server, read })
    }

    /// The Function `name`.
    pub async fn function(&self, name: &str) -> anyhow::Result<Function> {
        self.object(name).await
    }

    /// The Trigger `name`.
    pub async fn trigger(&self, name: &str) -> anyhow::Result<Trigger> {
        self.object(name).await
    }

    /// An object of Rouse's.
    async fn object<K: Ours>(&self, name: &str) -> anyhow::Result<K> {
        match self.api::<K>(false).get(name).await {
            Ok(object) => Ok(object),
            Err(error) if is_missing(&error) => Err(self.missing::<K>(name).await),
            Err(error) => Err(self.refused(error, &format!("get {}", K::plural(&())))),
        }
    }

    /// What there is of the Function `name` but its spec and status, if there is one.
    pub async fn find(&self, name: &str) -> anyhow::Result<Option<PartialObjectMeta<Function>>> {
        match self.api::<Function>(false).get_metadata(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.refused(error, "get functions")),
        }
    }

    /// The Functions of the namespace, or of all that there are, without the code that stands in them.
    pub async fn functions(
        &self,
        everywhere: bool,
        selector: Option<&str>,
    ) -> anyhow::Result<Vec<Function>> {
        let api = self.api::<Function>(everywhere);
        let list = self.pages(everywhere, selector, async |params| {
            let mut list = api.list(&params).await?;
            for source in list.items.iter_mut().filter_map(|it| it.spec.source.as_mut()) {
                source.files.clear();
                source.archive = None;
            }
            Ok(list)
        });
        list.await
    }

    /// The Triggers of the namespace, or of all that there are.
    pub async fn triggers(&self, everywhere: bool) -> anyhow::Result<Vec<Trigger>> {
        let api = self.api::<Trigger>(everywhere);
        self.pages(everywhere, None, async |params| api.list(&params).await).await
    }

    /// Names and namespaces of objects.
    async fn names<K: Ours>(&self, everywhere: bool) -> anyhow::Result<Vec<(String, String)>> {
        let api = self.api::<K>(everywhere);
        let all = self.pages(everywhere, None, async |params| api.list_metadata(&params).await);
        let name = |it: &PartialObjectMeta<K>| (it.name_any(), it.namespace().unwrap_or_default());
        Ok(all.await?.iter().map(name).collect())
    }

    /// All that a list has, page by page.
    async fn pages<K: Clone + Resource<DynamicType = ()>>(
        &self,
        everywhere: bool,
        selector: Option<&str>,
        list: impl AsyncFn(ListParams) -> kube::Result<ObjectList<K>>,
    ) -> anyhow::Result<Vec<K>> {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = selector.map(ToOwned::to_owned);
        let mut all = Vec::new();
        loop {
            let page = list(params.clone()).await.map_err(|error| {
                let doing = format!("list {}", K::plural(&()));
                self.refused_in(error, &doing, &self.place(everywhere), VIEW)
            })?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    fn api<K: Ours>(&self, everywhere: bool) -> Api<K> {
        let client = self.client.clone();
        if everywhere { Api::all(client) } else { Api::namespaced(client, &self.namespace) }
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

    /// What is said of an object that is not there. It asks what there is.
    async fn missing<K: Ours>(&self, name: &str) -> anyhow::Error {
        let there = match self.names::<K>(false).await {
            Ok(there) => there,
            Err(error) => return error,
        };
        let names: Vec<String> = there.into_iter().map(|(name, _)| name).collect();
        // Whoever may not look elsewhere is told of his own namespace alone.
        let all = self.names::<K>(true).await.unwrap_or_default();
        let elsewhere = all.into_iter().filter(|(other, _)| other == name);
        let elsewhere: Vec<String> = elsewhere.map(|(_, namespace)| namespace).collect();
        let hint = hint((name, K::MADE_BY), &names, &elsewhere);
        let (kind, place) = (K::kind(&()), self.place(false));
        Failure::Missing(format!("there is no {kind} {name} in {place}: {hint}")).into()
    }
}

/// What Rouse's API has.
trait Ours: Clone + Debug + DeserializeOwned + Send + 'static
where
    Self: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    /// What makes one.
    const MADE_BY: &'static str;
}

impl Ours for Function {
    const MADE_BY: &'static str = "`rouse init`";
}

impl Ours for Trigger {
    const MADE_BY: &'static str = "`kubectl apply`";
}

/// What `-o name` calls a Function.
pub fn name_of_function(name: &str) -> String {
    format!("function.rouse.dev/{name}")
}

/// What somebody might have meant by a name that there is not, of a kind of which something makes one.
fn hint((name, made_by): (&str, &str), names: &[String], elsewhere: &[String]) -> String {
    let near = nearest(name, names);
    if let Some(namespace) = elsewhere.first() {
        return format!("there is one in namespace {namespace}, choose that with -n {namespace}");
    }
    if !near.is_empty() {
        return format!("did you mean {}?", near.join(" or "));
    }
    if names.is_empty() {
        return format!("it has none. Choose another with -n, or make one: {made_by}");
    }
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = if names.len() > SHOWN { " and more" } else { "" };
    format!("it has {}{more}. Choose another namespace with -n", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    pub fn cluster_at(server: &str) -> Cluster {
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

    /// Answers each request with what `answer` makes of its head; gives where.
    async fn serve(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap_or_default();
                let (code, body) = answer(&String::from_utf8_lossy(&head[..read]));
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {code} Said\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        server
    }

    #[tokio::test]
    async fn a_cluster_without_rouse_is_told_with_how_it_comes_there() {
        // What an API server says of a group that it does not know.
        let server = serve(|_| (404, "404 page not found\n".into())).await;
        let cluster = cluster_at(&server);
        for error in [
            cluster.functions(true, None).await.map(drop).unwrap_err(),
            cluster.function("hello").await.map(drop).unwrap_err(),
            cluster.trigger("hello").await.map(drop).unwrap_err(),
            cluster.find("hello").await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(error.downcast_ref(), Some(Failure::NoCluster(_))), "{error:?}");
            let said = error.to_string();
            assert!(said.contains("helm install rouse") && said.contains("rouse dev"), "{said}");
        }
    }

    #[tokio::test]
    async fn who_errs_in_a_name_is_told_which_there_are_whatever_the_kind() {
        let server = serve(|head| {
            let named = head.contains("/triggers/") || head.contains("/functions/");
            if named {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Failure", "message": "it is not there", "reason": "NotFound",
                    "details": {"name": "ordesr"}, "code": 404});
                return (404, status.to_string());
            }
            assert!(head.contains("PartialObjectMetadata"), "only names are asked for: {head}");
            let item = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "orders", "namespace": "shop"}});
            let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {}, "items": [item]});
            (200, list.to_string())
        });
        let cluster = cluster_at(&server.await);
        for error in [
            cluster.trigger("ordesr").await.map(drop).unwrap_err(),
            cluster.function("ordesr").await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(error.downcast_ref(), Some(Failure::Missing(_))), "{error:?}");
            assert!(error.to_string().ends_with("did you mean orders?"), "{error}");
        }
        assert!(cluster.find("ordesr").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_list_is_read_page_by_page_and_without_code() {
        let server = serve(|head| {
            let name = if head.contains("continue=next") { "b" } else { "a" };
            assert!(head.contains("limit=500"), "{head}");
            let function = json!({"apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
                "metadata": {"name": name, "namespace": "shop"}, "spec": {"source": {
                "runtime": "python3.11", "handler": "app.py", "files": {"app.py": "code"}}}});
            let metadata = if name == "a" { json!({"continue": "next"}) } else { json!({}) };
            let list = json!({"apiVersion": "rouse.dev/v1alpha1", "kind": "FunctionList",
                "metadata": metadata, "items": [function]});
            (200, list.to_string())
        });
        let functions = cluster_at(&server.await).functions(false, None).await.unwrap();
        let names: Vec<String> = functions.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "b"]);
        let sources = functions.iter().filter_map(|it| it.spec.source.as_ref());
        assert!(sources.clone().count() == 2 && sources.clone().all(|it| it.files.is_empty()));
    }

    #[tokio::test]
    async fn a_cluster_that_is_away_is_named_with_what_was_read() {
        let error = cluster_at("http://127.0.0.1:1").functions(false, None).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Failure::NoCluster(_))), "{error:?}");
        let said = error.to_string();
        for part in ["http://127.0.0.1:1", "context kind", "refused", "rouse dev"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }

    #[test]
    fn who_errs_is_told_what_there_is() {
        let names = ["hello", "help", "thumbnails", "a", "b", "c"].map(String::from);
        let hint = |name, names: &[String], elsewhere: &[String]| {
            super::hint((name, Function::MADE_BY), names, elsewhere)
        };
        assert_eq!(hint("helo", &names, &[]), "did you mean hello or help?");
        assert!(hint("helo", &names, &["other".into()]).contains("-n other"));
        assert!(
            hint("zzz", &names, &[]).starts_with("it has hello, help, thumbnails, a, b and more")
        );
        assert!(hint("x", &[], &[]).contains("rouse init"));
    }
}
