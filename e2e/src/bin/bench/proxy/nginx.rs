//! nginx as the yardstick: its configuration is checked in, this fills in what the run decides.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use rouse_e2e::hollow::Hollow;
use rouse_e2e::hollow::process::Process;
use tokio::net::TcpStream;
use tokio::time::{Duration, interval, timeout};

use super::stage::Host;

const CONFIGURATION: &str = include_str!("../../../../bench/nginx.conf");
/// Number of its address among the run's own.
const ADDRESS: u8 = 240;
const PORT: u16 = 8080;
/// Connections to each pod that a worker keeps: all that a load has.
const KEEP: usize = 512;
const PATIENCE: Duration = Duration::from_secs(20);

/// A running nginx.
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its master; the workers are its children.
    pub process: Process,
}

impl Nginx {
    /// Starts it with `workers` workers, the routes `hosts` and the pods `pods` of the Functions.
    pub async fn start(
        hollow: &Hollow,
        workers: usize,
        hosts: &[Host],
        pods: &[(String, SocketAddr)],
    ) -> anyhow::Result<Self> {
        let folder = hollow.folder();
        let address = SocketAddr::from((hollow.block.own(ADDRESS), PORT));
        write(folder, address, workers)?;
        let mut map = String::new();
        for host in hosts {
            writeln!(map, "{} {};", host.name, host.function)?;
        }
        std::fs::write(folder.join("nginx-hosts.conf"), map)?;
        let mut upstreams = String::new();
        for (function, pod) in pods {
            writeln!(
                upstreams,
                "upstream {function} {{ server {pod}; keepalive {KEEP}; \
                 keepalive_requests 100000000; keepalive_timeout 600s; }}"
            )?;
        }
        std::fs::write(folder.join("nginx-upstreams.conf"), upstreams)?;
        let flags = [
            "-p".to_owned(),
            folder.display().to_string(),
            "-e".to_owned(),
            folder.join("nginx-errors.log").display().to_string(),
            "-c".to_owned(),
            folder.join("nginx.conf").display().to_string(),
        ];
        let program = hollow.programs().get("nginx")?;
        let mut process = Process::start("nginx", &program, flags, &[], folder)?;
        let listening = async {
            let mut pauses = interval(Duration::from_millis(20));
            while TcpStream::connect(address).await.is_err() {
                process.check()?;
                pauses.tick().await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, listening).await.context("nginx does not listen")??;
        Ok(Self { address, process })
    }
}

fn write(folder: &Path, address: SocketAddr, workers: usize) -> anyhow::Result<()> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let text = CONFIGURATION
        .replace("@WORKERS@", &workers.to_string())
        .replace("@FILES@", &files.unwrap_or(65_536).to_string())
        .replace("@LISTEN@", &address.to_string())
        .replace("@FOLDER@", &folder.display().to_string());
    Ok(std::fs::write(folder.join("nginx.conf"), text)?)
}
