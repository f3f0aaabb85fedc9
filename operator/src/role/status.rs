//! `rouse status`: all that there is to know of one Function, what is wrong with it and what to do.

mod report;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use rouse_core::explain::health::Grade;
use rouse_core::function::names::LABEL_FUNCTION;

use self::report::Report;
use crate::cluster::{Cluster, ClusterArgs, name_of_function};
use crate::exit::Failure;
use crate::output::{self, Form, Sheet};

/// Which Function.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Name of the Function.
    pub name: String,
    /// Where it is.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// Prints how the Function is; fails where somebody must change something.
pub async fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let cluster = Cluster::of(&args.cluster).await?;
    let function = cluster.function(&args.name).await?;
    let triggers = cluster.triggers(false).await?;
    let of_function = ListParams::default().labels(&format!("{LABEL_FUNCTION}={}", args.name));
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let pods = api.list(&of_function).await;
    let pods = pods.map_err(|error| cluster.refused(error, "list pods"))?.items;
    let api: Api<ControllerRevision> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let records = api.list_metadata(&of_function).await;
    let records =
        records.map_err(|error| cluster.refused(error, "list controllerrevisions"))?.items;
    let report = Report::of(&function, &triggers, &pods, &records);
    match args.output {
        Form::Table | Form::Wide => {
            let coloured = output::is_coloured();
            output::print(&report.text((args.output, coloured), Timestamp::now()))?;
        }
        form => {
            let (head, rows) = report.flat();
            let names = vec![name_of_function(&args.name)];
            Sheet { head, rows, names, ..Sheet::default() }.print(form, &report)?;
        }
    }
    if report.health.grade == Grade::Bad {
        let text = format!("{} is not in order: {}", args.name, report.health.word);
        return Err(Failure::NotInOrder(text).into());
    }
    Ok(())
}
