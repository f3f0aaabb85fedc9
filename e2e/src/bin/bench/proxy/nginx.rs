//! nginx as the yardstick: its configuration is checked in, this fills in what the run decides.

use std::ffi::OsStr;
use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::Context;
use rouse_e2e::hollow::Hollow;
use rouse_e2e::hollow::process::{Figures, Process};
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
    workers: Vec<Process>,
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
        let address = SocketAddr::from((hollow.ground.block.own(ADDRESS), PORT));
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
        let mut running = Vec::new();
        for number in 0..workers {
            running.push(start_worker(hollow, address, number)?);
        }
        let mut nginx = Self { address, workers: running };
        timeout(PATIENCE, nginx.listening()).await.context("nginx does not listen")??;
        Ok(nginx)
    }

    /// What the kernel counts of all workers.
    pub fn figures(&self) -> anyhow::Result<Figures> {
        self.workers.iter().try_fold(Figures::default(), |sum, one| Ok(sum.plus(one.figures()?)))
    }

    async fn listening(&mut self) -> anyhow::Result<()> {
        let mut pauses = interval(Duration::from_millis(20));
        while TcpStream::connect(self.address).await.is_err() {
            self.workers.iter_mut().try_for_each(Process::check)?;
            pauses.tick().await;
        }
        Ok(())
    }
}

fn start_worker(hollow: &Hollow, address: SocketAddr, number: usize) -> anyhow::Result<Process> {
    let folder = hollow.folder();
    let text = CONFIGURATION
        .replace("@WORKER@", &number.to_string())
        .replace("@LISTEN@", &address.to_string())
        .replace("@FOLDER@", &folder.display().to_string());
    let name = format!("nginx-{number}");
    let configuration = folder.join(format!("{name}.conf"));
    std::fs::write(&configuration, text)?;
    let errors = folder.join("nginx-errors.log");
    let flags: [&OsStr; 6] = [
        OsStr::new("-p"),
        folder.as_os_str(),
        OsStr::new("-e"),
        errors.as_os_str(),
        OsStr::new("-c"),
        configuration.as_os_str(),
    ];
    Process::start(&name, &hollow.programs().get("nginx")?, flags, &[], folder)
}
