//! The samples with code answer alike in `rouse dev` and where the API server is a real one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use rouse_e2e::hollow::PATIENCE;
use rouse_e2e::hollow::process::bound_command;
use rouse_e2e::http::{Answer, Caller};
use serde_json::Value;
use tokio::process::Child;
use tokio::time::{interval, timeout};

use super::{PROMPT, Stage};

const SAMPLES: [&str; 3] = [
    include_str!("../../../manifests/samples/hello-python.yaml"),
    include_str!("../../../manifests/samples/hello-node.yaml"),
    include_str!("../../../manifests/samples/hello-bash.yaml"),
];

/// Calls each sample here and there.
pub async fn answer_alike(stage: &Stage) -> anyhow::Result<()> {
    let folder = stage.hollow.folder().join("samples");
    std::fs::create_dir_all(&folder)?;
    let mut names = Vec::new();
    for text in SAMPLES {
        let function: Value = serde_saphyr::from_str(text)?;
        let name = function["metadata"]["name"].as_str().context("a sample has a name")?;
        std::fs::write(folder.join(format!("{name}.yaml")), text)?;
        stage.apply(name, function["spec"].clone()).await?;
        names.push(name.to_owned());
    }
    let dev = Dev::start(&stage.hollow.programs().rouse, &folder)?;
    for name in &names {
        let there = stage.get(name, "/").await?;
        let here = dev.get(name).await?;
        assert_eq!(there.status, 200, "{name}: {there:?}");
        let kind = |answer: &Answer| answer.header("content-type").map(str::to_owned);
        assert_eq!((kind(&here), &here.body), (kind(&there), &there.body), "{name}");
    }
    Ok(())
}

/// A running `rouse dev`, which ends with this value.
struct Dev {
    _child: Child,
    caller: Caller,
}

impl Dev {
    fn start(rouse: &Path, folder: &Path) -> anyhow::Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = bound_command(rouse)
            .arg("dev")
            .arg(folder)
            .args(["--port", &free.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .context("starting `rouse dev`")?;
        let caller = Caller::new(SocketAddr::from((Ipv4Addr::LOCALHOST, free)));
        Ok(Self { _child: child, caller })
    }

    /// Asks a Function until it answers well.
    async fn get(&self, name: &str) -> anyhow::Result<Answer> {
        let host = format!("{name}.default.localhost");
        let mut pauses = interval(PROMPT / 100);
        let asking = async {
            loop {
                pauses.tick().await;
                match self.caller.get(&host, "/").await {
                    Ok(answer) if answer.status == 200 => return answer,
                    // It has not begun to listen, or does not know the Function yet.
                    Ok(_) | Err(_) => {}
                }
            }
        };
        timeout(PATIENCE, asking).await.with_context(|| format!("{name} does not answer"))
    }
}
