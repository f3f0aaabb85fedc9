//! A server of NATS for a test, and a source that reads it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;

use crate::credentials::Secrets;
use crate::nats::{Connections, Login, Messages, Nats, Server, Settings, Start, Stream};
use crate::stage::{Function, Play, Running, free_port, loopback, until};

/// The server, killed with this.
pub struct Broker {
    folder: PathBuf,
    port: u16,
    arguments: Vec<&'static str>,
    child: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Broker {
    pub async fn start(arguments: &[&'static str]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("rouse-nats-{}-{port}", std::process::id()));
        let child = spawn(&folder, port, arguments);
        let broker = Self { folder, port, arguments: arguments.to_vec(), child };
        broker.listens().await;
        broker
    }

    async fn listens(&self) {
        until(async || tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok())
            .await;
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, self.port, &self.arguments);
        self.listens().await;
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub async fn context(&self) -> Context {
        let mut client = None;
        until(async || {
            client = async_nats::connect(self.url()).await.ok();
            client.is_some()
        })
        .await;
        async_nats::jetstream::new(client.unwrap())
    }

    /// A client, and a stream `S` with all subjects `s.*`.
    pub async fn stream(&self) -> Context {
        let context = self.context().await;
        make_stream(&context).await;
        context
    }
}

pub async fn make_stream(context: &Context) {
    let (name, subjects) = ("S".to_owned(), vec!["s.*".to_owned()]);
    let config = async_nats::jetstream::stream::Config { name, subjects, ..Default::default() };
    context.create_stream(config).await.unwrap();
}

fn spawn(folder: &PathBuf, port: u16, arguments: &[&str]) -> Child {
    let program = std::env::var_os("ROUSE_NATS_SERVER").expect("cargo xtask test sets it");
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream"]);
    command.arg("--store_dir").arg(folder).args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// How a source is set up.
pub struct Setup {
    pub settings: Settings,
    pub play: Play,
    pub secrets: PathBuf,
}

impl Setup {
    pub fn new(broker: &Broker) -> Self {
        let server = Server { urls: vec![broker.url()], login: Login::Nobody, tls: None };
        let stream = Stream {
            name: "S".into(),
            consumer: "rouse-t".into(),
            subjects: Vec::new(),
            start: Start::Earliest,
            ack_wait: Duration::from_secs(2),
        };
        Self {
            settings: Settings { server, messages: Messages::Stream(stream) },
            play: Play::default(),
            secrets: broker.folder.join("secrets"),
        }
    }

    pub fn stream(&mut self) -> &mut Stream {
        match &mut self.settings.messages {
            Messages::Stream(stream) => stream,
            Messages::Subject { .. } => panic!("it has a subject"),
        }
    }

    pub fn start(&self, function: &Function) -> Running {
        self.start_on(function, connections(&self.secrets))
    }

    pub fn start_on(&self, function: &Function, connections: Connections) -> Running {
        let source = Nats::new(self.settings.clone(), connections);
        self.play.start(source, Arc::new(function.clone()))
    }
}

/// Connections of a source's own, to this machine.
pub fn connections(secrets: &Path) -> Connections {
    Connections::new(Secrets::below(secrets), loopback())
}
