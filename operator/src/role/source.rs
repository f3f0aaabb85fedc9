//! The process of a namespace's sources: opens the ports, runs what the Triggers ask for, and lets
//! what is under way end.

use std::net::Ipv4Addr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use rouse_peer::Activators;
use rouse_source::address::Policy;
use rouse_source::credentials::Secrets;
use rouse_source::{Means, Metrics, Supervisor};
use tokio::sync::watch;

use super::{open, own_client};
use crate::admin::{self, Admin};
use crate::args::SourceArgs;
use crate::shutdown::Shutdown;

/// Runs the sources of a namespace until the process shall stop and what is under way has ended.
pub async fn run(args: SourceArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    let client = own_client().await?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let ready = watch::Sender::new(false);
    let (known, stopping) = (ready.subscribe(), shutdown.clone());
    let unready = Box::new(move || match (*stopping.borrow(), *known.borrow()) {
        (true, _) => Some("stopping\n"),
        (_, false) => Some("the Triggers are not known yet\n"),
        _ => None,
    });
    admin::spawn(open("admin", args.admin_addr).await?, Admin { registry, unready });
    let doors = open("doors", args.doors_addr).await?;
    let letters = open("letters", (Ipv4Addr::LOCALHOST, args.letters_port).into()).await?;
    let means = Means::new(Secrets::below(&args.secrets), policy(&args));
    let caller = Arc::new(Activators::new(&args.activator_host));
    let supervisor = Supervisor {
        client,
        namespace: args.namespace,
        caller,
        means: means.clone(),
        metrics,
        ready,
    };
    // Who is inside is answered while the sources end.
    tokio::join!(
        supervisor.run(shutdown.clone()),
        means.serve(doors, shutdown.clone()),
        means.serve_letters(letters, shutdown),
    );
    Ok(())
}

/// Where sources may connect, by what the administrator and Kubernetes say.
fn policy(args: &SourceArgs) -> Policy {
    let own = args.api_server.iter().chain(&args.host_ip);
    Policy {
        allowed: args.allow_address.clone(),
        forbidden: args.forbid_address.iter().chain(own).copied().collect(),
    }
}
