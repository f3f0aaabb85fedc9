//! A running `rouse dev` over a folder of its own, callers of its Functions, and what the kernel knows
//! of its processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// A program in Python that answers with a text, after as many milliseconds as it is asked for.
pub const SERVER: &str = r#"
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        asked = parse_qs(urlsplit(self.path).query)
        time.sleep(int(asked.get("ms", ["0"])[0]) / 1000)
        body = TEXT.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.do_GET()
    def log_message(self, *args):
        print("asked for", self.path, flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello).serve_forever()
"#;

/// A Function whose code is that program, with `text` for what it answers.
pub fn function(name: &str, text: &str, more: &str) -> String {
    let code = SERVER.trim().replace("TEXT", text);
    let code = code.lines().fold(String::new(), |code, line| code + "        " + line + "\n");
    format!(
        "apiVersion: rouse.dev/v1alpha1\nkind: Function\nmetadata: {{name: {name}}}\nspec:\n  source:\n    \
         runtime: python3.11\n    handler: app.py\n    files:\n      app.py: |\n{code}{more}"
    )
}

/// Settings of a Function that sleeps soon.
pub const SLEEPY: &str = "  scaling: {stableWindow: 1s, idle: {after: 1s}}\n";

/// A folder of files.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// One with these files.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (place, text) in files {
            folder.write(place, text);
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, place: &str, text: &str) {
        let path = self.path().join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn remove(&self, place: &str) {
        std::fs::remove_file(self.path().join(place)).unwrap();
    }
}

/// The program over a folder, and a path without slow stand-ins of Python.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
    command.arg("dev").arg(folder).args(arguments);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("/usr/local/bin:/usr/bin:/bin:{path}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A running `rouse dev`.
#[derive(Debug)]
pub struct Dev {
    child: Child,
    folder: PathBuf,
    pub port: u16,
    said: watch::Receiver<String>,
}

impl Dev {
    /// Starts it, and waits until it has said how its Functions are called.
    pub async fn start(folder: &Folder) -> Self {
        Self::start_with(command(folder.path(), &["--port", "0"]), folder.path()).await
    }

    pub async fn start_with(mut command: Command, folder: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, said) = watch::channel(String::new());
        for output in [
            child
                .stdout
                .take()
                .map(|it| Box::new(it) as Box<dyn tokio::io::AsyncRead + Send + Unpin>),
            child.stderr.take().map(|it| Box::new(it) as _),
        ] {
            let sender = sender.clone();
            let mut lines = BufReader::new(output.unwrap()).lines();
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    sender.send_modify(|said| said.push_str(&(line + "\n")));
                }
            });
        }
        let mut dev = Self { child, folder: folder.to_owned(), port: 0, said };
        let line = dev.heard(".localhost:").await;
        let port = line.split(".localhost:").nth(1).and_then(|rest| rest.split('/').next());
        dev.port = port.unwrap().parse().unwrap();
        dev
    }

    /// The first line with these words, once it is there.
    pub async fn heard(&mut self, words: &str) -> String {
        let heard = match timeout(PATIENCE, self.said.wait_for(|said| said.contains(words))).await {
            Ok(Ok(said)) => Some(said.clone()),
            _ => None,
        };
        let Some(said) = heard else {
            panic!("it never said {words:?}:\n{}", self.said());
        };
        said.lines().find(|line| line.contains(words)).unwrap().to_owned()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.said.borrow().clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Asks a Function; gives the status and the body.
    pub async fn get(&self, function: &str, path: &str) -> (u16, String) {
        get(self.port, &format!("{function}.default.localhost"), path).await
    }

    /// Asks a Function for its text, which has to come.
    pub async fn text(&self, function: &str) -> String {
        let (status, body) = self.get(function, "/").await;
        assert_eq!(status, 200, "{body}\n{}", self.said());
        body
    }

    /// Ends it as Ctrl-C does, and waits until it has.
    pub async fn interrupt(mut self) {
        self.signal(Signal::INT);
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        assert!(status.success(), "{status}\n{}", self.said());
    }

    /// Ends it as nobody can refuse.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().await.unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ids of the processes that run in the folders of pods.
    pub fn processes(&self) -> Vec<i32> {
        processes_of(&self.folder)
    }

    /// Waits until `wanted` holds of those processes.
    pub async fn until_processes(&self, wanted: impl Fn(&[i32]) -> bool) {
        until(|| wanted(&self.processes()), || format!("{:?}\n{}", self.processes(), self.said()))
            .await;
    }
}

/// Waits until a condition holds.
pub async fn until(wanted: impl Fn() -> bool, state: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(Instant::now() < deadline, "it never came to that: {}", state());
        sleep(LOOK).await;
    }
}

/// Ids of the processes whose environment names a place below `folder`: all that runs for it, but the
/// program itself.
pub fn processes_of(folder: &Path) -> Vec<i32> {
    let mark = format!("TMPDIR={}", folder.canonicalize().unwrap().display());
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one.starts_with(mark.as_bytes()))
    })
    .collect()
}

/// Asks whoever has that host.
pub async fn get(port: u16, host: &str, path: &str) -> (u16, String) {
    send(port, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n"), "").await
}

/// Sends a request that begins so, with this body; gives the status and the body of the answer.
pub async fn send(port: u16, head: &str, body: &str) -> (u16, String) {
    let length =
        if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let request = format!("{head}{length}connection: close\r\n\r\n{body}");
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(PATIENCE, asked).await.expect("no answer in time").unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or_default(), body.unwrap_or(answer))
}
