//! The process that keeps what a namespace's Functions printed: opens the ports, and keeps lines until
//! the next keeper has them.

use std::net::Ipv4Addr;

use anyhow::Context;
use prometheus_client::registry::Registry;
use rouse_keeper::{Keeper, Listeners, Metrics, Store};
use tokio::sync::watch;

use super::{open, own_client};
use crate::admin::{self, Admin};
use crate::args::KeeperArgs;
use crate::shutdown::Shutdown;

/// Keeps lines until the process shall stop and what it has was taken over.
pub async fn run(args: KeeperArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    let client = own_client().await?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let ready = watch::Sender::new(false);
    let known = ready.subscribe();
    let unready = Box::new(move || {
        (!*known.borrow()).then_some("the pods are not known yet, or what a keeper before had\n")
    });
    admin::spawn(open("admin", args.admin_addr).await?, Admin { registry, unready });
    let store = Store::open(&args.kept)
        .with_context(|| format!("opening what is kept in {}", args.kept.display()))?;
    let listeners = Listeners {
        people: open("people's", (Ipv4Addr::LOCALHOST, args.kept_port).into()).await?,
        heir: open("heir's", args.heir_addr).await?,
    };
    let (namespace, uid) = (args.namespace, args.pod_uid.into());
    let keeper = Keeper { client, namespace, uid, store, metrics, ready };
    keeper.run(listeners, shutdown).await;
    Ok(())
}
