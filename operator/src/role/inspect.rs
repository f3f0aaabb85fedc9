//! What a user asks of a Function: reads its object with the user's own rights, and nothing else.
//! Whoever may see a Function may ask.

pub mod args;
mod cold;
mod usage;
mod why;

use anyhow::{Context, anyhow};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use rouse_crds::v1alpha1::Function;

use self::args::{ClusterArgs, Question};
use crate::output;

/// Answers `question` on standard output.
pub async fn run(question: &Question) -> anyhow::Result<()> {
    let text = match question {
        Question::Why(args) => {
            let function = fetch(&args.cluster, &args.name).await?;
            why::explain(&function, args.output)?
        }
        Question::Cold(args) => {
            let function = fetch(&args.cluster, &args.name).await?;
            cold::explain(&function, args.output)?
        }
        Question::Usage(args) => {
            let functions = match &args.name {
                Some(name) => vec![fetch(&args.cluster, name).await?],
                None => fetch_all(&args.cluster, args.all_namespaces).await?,
            };
            usage::sum_up(&functions, args)?
        }
    };
    output::print(&text)
}

async fn fetch(cluster: &ClusterArgs, name: &str) -> anyhow::Result<Function> {
    let (client, namespace) = connect(cluster).await?;
    let api: Api<Function> = Api::namespaced(client, &namespace);
    let found =
        api.get_opt(name).await.map_err(|error| refused(error, "get functions", &namespace))?;
    found.with_context(|| {
        format!("there is no Function {name} in namespace {namespace}: choose another with -n")
    })
}

async fn fetch_all(cluster: &ClusterArgs, everywhere: bool) -> anyhow::Result<Vec<Function>> {
    let (client, namespace) = connect(cluster).await?;
    let (api, place): (Api<Function>, _) = if everywhere {
        (Api::all(client), "all namespaces".to_owned())
    } else {
        (Api::namespaced(client, &namespace), namespace)
    };
    let list = api.list(&kube::api::ListParams::default()).await;
    Ok(list.map_err(|error| refused(error, "list functions", &place))?.items)
}

/// A client, and the namespace that is meant.
pub(super) async fn connect(cluster: &ClusterArgs) -> anyhow::Result<(Client, String)> {
    let config = match &cluster.context {
        None => Config::infer().await.context(
            "finding the cluster: set KUBECONFIG, or see whether `kubectl get functions` works",
        )?,
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.clone()),
                ..KubeConfigOptions::default()
            };
            let reading = || format!("reading the context {context:?} of the kubeconfig");
            Config::from_kubeconfig(&options).await.with_context(reading)?
        }
    };
    let namespace = cluster.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok((Client::try_from(config).context("making a client")?, namespace))
}

/// What an answer of the API server means for the user.
pub(super) fn refused(error: kube::Error, doing: &str, place: &str) -> anyhow::Error {
    match &error {
        kube::Error::Api(status) if status.code == 403 => {
            anyhow!("you may not {doing} in {place}: ask for the role `view` there")
        }
        kube::Error::Api(status) if status.code == 404 => anyhow!(
            "this cluster knows nothing of rouse.dev: Rouse is not installed, or this is another \
             cluster (choose one with --context)"
        ),
        _ => anyhow::Error::new(error).context("asking the API server"),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let error = |code| {
            let status = Status { code, ..Status::default() };
            refused(kube::Error::Api(Box::new(status)), "get functions", "shop").to_string()
        };
        assert!(error(403).contains("role `view`"));
        assert!(error(404).contains("--context"));
        assert_eq!(error(500), "asking the API server");
    }
}
