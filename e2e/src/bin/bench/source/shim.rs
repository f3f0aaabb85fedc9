//! Starts the shim, and gives it code.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rouse_e2e::hollow::process::{BOUND, Figures, bound_command};
use rouse_e2e::process::free_port;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::report::mebibytes;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The code: nothing reads it, since the programs that are measured are in no archive.
const CODE: &[u8] = br#"{"app.txt":"hello"}"#;
/// Its SHA-256.
const DIGEST: &str = "68a29e18975d0d4d4b5b91af7db13998452d8495dc3f06ef7dd09efdda22f2e9";

/// A program that runs until this is dropped.
pub struct Running {
    _child: Child,
    id: u32,
}

impl Running {
    /// Starts a program.
    pub fn start(
        program: &Path,
        arguments: &[&Path],
        variables: &[(&str, String)],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let child = bound_command(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let id = child.id().context("it ended at once")?;
        Ok(Self { _child: child, id })
    }
}

/// A shim that serves.
pub struct Shim {
    running: Running,
    /// The port for requests.
    pub port: u16,
}

impl Shim {
    /// Starts one with a language process, and waits until it is ready.
    pub async fn start(
        program: &Path,
        process: &Path,
        variables: &[(&str, &str)],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let (port, control) = (free_port(Ipv4Addr::LOCALHOST)?, free_port(Ipv4Addr::LOCALHOST)?);
        let own = [
            ("PORT", port.to_string()),
            ("ROUSE_CONTROL_PORT", control.to_string()),
            ("ROUSE_CODE_DIGEST", DIGEST.to_owned()),
            ("ROUSE_CODE_FOLDER", folder.join(format!("task-{port}")).display().to_string()),
        ];
        let given = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let all: Vec<_> = own.into_iter().chain(given).collect();
        let command = [&BOUND.map(Path::new)[..], &[process]].concat();
        let running = Running::start(program, &command, &all, folder)?;
        timeout(PATIENCE, push(control)).await.context("the shim took no code")??;
        Ok(Self { running, port })
    }

    /// What it has in memory.
    pub fn memory_kib(&self) -> anyhow::Result<f64> {
        let held = Figures::of(i32::try_from(self.running.id)?)?.resident;
        Ok(mebibytes(held) * 1024.0)
    }
}

async fn push(control: u16) -> anyhow::Result<()> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let request = Request::put(format!("http://127.0.0.1:{control}/code"));
        let request = request.body(Full::new(Bytes::from_static(CODE)))?;
        match client.request(request).await {
            Ok(response) => {
                ensure!(response.status() == 200, "the code was refused");
                return Ok(());
            }
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}
