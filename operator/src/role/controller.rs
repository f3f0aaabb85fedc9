//! The controller's process: waits for the lead, works while it has it, and gives it back.

use prometheus_client::registry::Registry;
use rouse_controller::{Config, Metrics};
use rouse_core::resident::Resident;

use super::{open, own_client};
use crate::admin::{self, Admin};
use crate::args::ControllerArgs;
use crate::lease::{self, LeaseConfig};
use crate::shutdown::Shutdown;

/// Name of the Lease for which the controllers compete.
const LEASE: &str = "rouse-controller";

/// Runs a controller until the process shall stop, or fails when the lead is lost.
pub async fn run(args: ControllerArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    run_with(own_client().await?, args, shutdown).await
}

/// The same, with that API server.
pub async fn run_with(
    client: kube::Client,
    args: ControllerArgs,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let admin = Admin { registry, unready: Box::new(|| None) };
    admin::spawn(open("admin", args.common.admin_addr).await?, admin);
    let lease = LeaseConfig {
        namespace: args.common.namespace.clone(),
        name: LEASE.to_owned(),
        identity: format!("{}_{}", args.common.pod_name, args.common.pod_uid),
    };
    let residents =
        [(Resident::Source, args.source_template), (Resident::Keeper, args.keeper_template)];
    let residents = residents.into_iter().filter_map(|(it, template)| Some((it, template?)));
    let residents = residents.collect();
    let config = Config {
        namespace: args.common.namespace.clone(),
        pod_name: args.common.pod_name.clone(),
        activator_host: args.activator_host,
        host_policy: args.common.host_policy(),
        peer_token_file: args.common.peer_token_file,
        peer_port: args.peer_port,
        residents,
        runtimes: args.runtimes.unwrap_or_default(),
    };
    let stop = shutdown.clone();
    let work = {
        let (client, metrics) = (client.clone(), metrics.clone());
        |fence| {
            metrics.set_leader(true);
            rouse_controller::run(config, client, fence, metrics, stop)
        }
    };
    let led = lease::lead(client, lease, shutdown, work).await;
    metrics.set_leader(false);
    // None if it never led before it was told to stop.
    led?.transpose()?;
    Ok(())
}
