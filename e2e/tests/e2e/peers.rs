//! The port for peers: whoever connects learns for sure whom he talks to.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use rouse_core::membership::Member;
use rouse_e2e::cluster::NAMESPACE;
use rouse_e2e::scope::Scope;
use rouse_peer::{ConnectError, Connector, ProofMetrics, Protocol};
use tokio::net::TcpStream;

const ACTIVATORS: &str = "app.kubernetes.io/name=rouse,app.kubernetes.io/component=activator";
const PORT: u16 = 8082;

fn member(pod: &Pod) -> anyhow::Result<Member> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
    Ok(Member {
        uid: pod.metadata.uid.clone().context("a UID")?,
        name: pod.metadata.name.clone().context("a name")?,
        peer: format!("{}:{PORT}", ip.context("an address")?),
    })
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn each_activator_proves_that_it_is_itself_and_no_other() {
    Scope::run("peers", async |scope| {
        let client = scope.cluster.client.clone();
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let pods = pods.list(&ListParams::default().labels(ACTIVATORS)).await?.items;
        let here = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        let members: Vec<Member> =
            pods.iter().filter(here).map(member).collect::<Result<_, _>>()?;
        ensure!(members.len() > 1, "there are several activators");
        for member in &members {
            let connector = Connector::new(client.clone(), NAMESPACE, ProofMetrics::default())?;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                connector.connect(member, protocol, TcpStream::connect).await?;
            }
            for other in members.iter().filter(|other| other.uid != member.uid) {
                let pretended = Member { uid: other.uid.clone(), ..member.clone() };
                let result =
                    connector.connect(&pretended, Protocol::Http2, TcpStream::connect).await;
                ensure!(matches!(result, Err(ConnectError::Wrong(_))), "{:?}", result.err());
            }
        }
        Ok(())
    })
    .await;
}
