//! Reads the kubeconfig as `kubectl` does, and tells what it read where that leads nowhere.
//!
//! A cluster in a kubeconfig may say where its Functions are called, for which nothing of Kubernetes has
//! a place: `extensions: [{name: rouse.dev, extension: {address: "http://127.0.0.1:8080"}}]`.

use std::path::PathBuf;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::proxy::is_direct;
use super::{ClusterArgs, DEV};
use crate::exit::Failure;

/// How long a cluster may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Name of the extension of a cluster, and its member.
pub const EXTENSION: &str = "rouse.dev";
const ADDRESS: &str = "address";

/// What is known of a cluster before it is asked.
pub struct Place {
    /// How it is asked.
    pub config: Config,
    /// What was read for that, in words.
    pub read: String,
    /// Where its Functions are called, if that was said.
    pub address: Option<String>,
}

/// Reads what `args` name.
pub async fn place(args: &ClusterArgs) -> Result<Place, Failure> {
    let files = files(args, std::env::var("KUBECONFIG").ok(), std::env::home_dir());
    let named = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(":");
    let kubeconfig = match merged(&files) {
        Ok(kubeconfig) => kubeconfig,
        Err(error) => return in_cluster(args, &files, &named, &error),
    };
    let context = args.context.clone().or_else(|| kubeconfig.current_context.clone());
    let address = context.as_deref().and_then(|context| address(&kubeconfig, context));
    let options =
        KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await;
    let mut config = config.map_err(|error| refused(&error, &kubeconfig, &named))?;
    config.connect_timeout = Some(CONNECT);
    let host = config.cluster_url.host().unwrap_or_default();
    let no_proxy = ["NO_PROXY", "no_proxy"].map(|name| std::env::var(name).unwrap_or_default());
    if !names_proxy(&kubeconfig, context.as_deref()) && is_direct(host, &no_proxy.join(",")) {
        config.proxy_url = None;
    }
    let read = format!("context {} of {named}", context.unwrap_or_default());
    Ok(Place { config, read, address })
}

/// What the files say together. One that is not there says nothing, unless none is.
fn merged(files: &[PathBuf]) -> Result<Kubeconfig, KubeconfigError> {
    let there: Vec<&PathBuf> = files.iter().filter(|file| file.exists()).collect();
    let all = if there.is_empty() { files.iter().collect() } else { there };
    all.into_iter().try_fold(Kubeconfig::default(), |all, file| {
        let mut next = Kubeconfig::read_from(file)?;
        next.current_context = next.current_context.filter(|context| !context.is_empty());
        all.merge(next)
    })
}

/// The files that `kubectl` would read.
fn files(args: &ClusterArgs, variable: Option<String>, home: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(path) = &args.kubeconfig {
        return vec![path.clone()];
    }
    match variable.filter(|paths| !paths.is_empty()) {
        Some(paths) => std::env::split_paths(&paths).collect(),
        None => home.map(|home| home.join(".kube/config")).into_iter().collect(),
    }
}

/// The cluster that this process runs in, where there is no kubeconfig and none was asked for.
fn in_cluster(
    args: &ClusterArgs,
    files: &[PathBuf],
    named: &str,
    error: &KubeconfigError,
) -> Result<Place, Failure> {
    let is_asked_for = args.kubeconfig.is_some() || args.context.is_some();
    let is_there = files.iter().any(|file| file.exists());
    if !is_asked_for
        && !is_there
        && let Ok(config) = Config::incluster()
    {
        let read = "the pod's own ServiceAccount".to_owned();
        return Ok(Place { config, read, address: None });
    }
    let why = if is_there {
        let text = error.to_string();
        // What follows shows the place again.
        let first = text.lines().next().unwrap_or_default();
        format!("the kubeconfig {named} can't be read: {first}. Mend it, or name another")
    } else {
        format!("no cluster is known, as there is no kubeconfig {named}. Name that of your cluster")
    };
    Err(Failure::NoCluster(format!("{why} by --kubeconfig or KUBECONFIG; {DEV}")))
}

/// Why a kubeconfig leads to no cluster.
fn refused(error: &KubeconfigError, kubeconfig: &Kubeconfig, named: &str) -> Failure {
    let contexts: Vec<&str> = kubeconfig.contexts.iter().map(|it| it.name.as_str()).collect();
    let contexts = if contexts.is_empty() { "none".to_owned() } else { contexts.join(", ") };
    match error {
        KubeconfigError::LoadContext(name) => Failure::NoCluster(format!(
            "there is no context {name:?} in the kubeconfig {named}: it has {contexts}"
        )),
        KubeconfigError::CurrentContextNotSet => Failure::NoCluster(format!(
            "the kubeconfig {named} has no current context: choose one by --context (it has \
             {contexts}); {DEV}"
        )),
        other => Failure::NoCluster(format!("the kubeconfig {named} can't be used: {other}")),
    }
}

/// The cluster of the context.
fn cluster<'a>(kubeconfig: &'a Kubeconfig, context: &str) -> Option<&'a kube::config::Cluster> {
    let context = kubeconfig.contexts.iter().find(|it| it.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|it| it.name == context.cluster)?;
    cluster.cluster.as_ref()
}

/// Whether the context's cluster has a proxy of its own, whatever the environment says.
fn names_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> bool {
    let cluster = context.and_then(|context| cluster(kubeconfig, context));
    let proxy = cluster.and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

/// Where the Functions of the context's cluster are called, if the kubeconfig says so.
fn address(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let extensions = cluster(kubeconfig, context)?.extensions.as_ref()?;
    let extension = extensions.iter().find(|it| it.name == EXTENSION)?;
    extension.extension.get(ADDRESS)?.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: dev\n  cluster:\n    server: \
        http://127.0.0.1:1\n    extensions:\n    - name: rouse.dev\n      extension: {address: \
        'http://127.0.0.1:8080'}\n- name: far\n  cluster: {server: 'https://far.example.com'}\n\
        contexts:\n- name: dev\n  context: {cluster: dev, namespace: shop}\n- name: far\n  context: \
        {cluster: far}\n";

    fn args(folder: &tempfile::TempDir, text: &str, context: Option<&str>) -> ClusterArgs {
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        ClusterArgs {
            kubeconfig: Some(path),
            context: context.map(String::from),
            ..ClusterArgs::default()
        }
    }

    #[tokio::test]
    async fn a_context_leads_to_its_cluster_and_to_where_functions_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let dev = place(&args(&folder, TEXT, Some("dev"))).await.unwrap();
        assert_eq!(dev.config.cluster_url.to_string(), "http://127.0.0.1:1/");
        assert_eq!(dev.config.default_namespace, "shop");
        assert_eq!(dev.address.as_deref(), Some("http://127.0.0.1:8080"));
        assert!(dev.read.starts_with("context dev of "), "{}", dev.read);
        let far = place(&args(&folder, TEXT, Some("far"))).await.unwrap();
        assert_eq!(far.address, None);
    }

    #[tokio::test]
    async fn what_leads_nowhere_says_what_was_read_and_what_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let said = async |args: ClusterArgs| match place(&args).await {
            Ok(_) => panic!("it leads somewhere"),
            Err(error) => error.to_string(),
        };
        let none = said(args(&folder, TEXT, Some("near"))).await;
        assert!(none.contains("no context \"near\"") && none.contains("dev, far"), "{none}");
        let current = said(args(&folder, TEXT, None)).await;
        assert!(current.contains("--context") && current.contains("rouse dev"), "{current}");
        let gone = folder.path().join("gone");
        let gone = ClusterArgs { kubeconfig: Some(gone), ..ClusterArgs::default() };
        let gone = said(gone).await;
        assert!(gone.contains("no kubeconfig") && gone.contains("gone. Name that"), "{gone}");
        assert!(gone.contains("rouse dev"), "{gone}");
        let bad = said(args(&folder, "a: [", None)).await;
        assert!(bad.contains("can't be read") && bad.contains("line 1"), "{bad}");
    }

    #[test]
    fn the_files_are_those_of_kubectl() {
        let files = |variable: Option<&str>| {
            files(&ClusterArgs::default(), variable.map(String::from), Some("/home/u".into()))
        };
        assert_eq!(files(None), [PathBuf::from("/home/u/.kube/config")]);
        assert_eq!(files(Some("")), [PathBuf::from("/home/u/.kube/config")]);
        assert_eq!(files(Some("/a:/b")), [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing_unless_none_is() {
        let folder = tempfile::tempdir().unwrap();
        let (there, gone) = (folder.path().join("config"), folder.path().join("gone"));
        std::fs::write(&there, TEXT).unwrap();
        let both = merged(&[gone.clone(), there]).unwrap();
        assert_eq!(both.contexts.len(), 2);
        assert!(merged(&[gone]).is_err());
        assert!(!names_proxy(&both, Some("dev")));
    }
}
