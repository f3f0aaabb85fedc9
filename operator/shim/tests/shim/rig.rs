//! Starts the program, and knows what it says.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that runs, and is ended with this.
pub struct Shim {
    child: Child,
    /// Where the code lies.
    pub folder: PathBuf,
    lines: watch::Receiver<Vec<Value>>,
    /// The port for questions and code.
    pub control: u16,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The bytes of files given in the object.
pub fn files(files: &[(&str, &str)]) -> Vec<u8> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), json!(text)));
    Value::Object(files.collect()).to_string().into_bytes()
}

/// A SHA-256 as it is written.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The path of the language process of the tests.
pub fn handler() -> String {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap();
    folder.join("examples/handler").to_str().unwrap().to_owned()
}

/// A new folder below the target's.
pub fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("shim-{}-{number}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

impl Shim {
    /// Starts it for code of a digest.
    pub async fn start(digest: &str, command: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = folder();
        let mut child = Command::new(env!("CARGO_BIN_EXE_rouse-shim"))
            .args(command)
            .env("ROUSE_CODE_DIGEST", digest)
            .env("ROUSE_CODE_FOLDER", folder.join("task"))
            .env("ROUSE_CONTROL_PORT", "0")
            .env("PORT", "0")
            .env("TMPDIR", &folder)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, mut lines) = watch::channel(Vec::new());
        let output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
                sender.send_modify(|lines: &mut Vec<Value>| lines.push(line));
            }
        });
        let control = said(&mut lines, |line| line["controlPort"].as_u64()).await;
        Self { child, folder, lines, control: u16::try_from(control).unwrap() }
    }

    /// Starts it with some code that is pushed, and waits until it serves; gives the port too.
    pub async fn serving(command: &[&str], variables: &[(&str, &str)]) -> (Self, u16) {
        Self::serving_code(files(&[("app.txt", "hello")]), command, variables).await
    }

    /// The same with code of one's own.
    pub async fn serving_code(
        code: Vec<u8>,
        command: &[&str],
        variables: &[(&str, &str)],
    ) -> (Self, u16) {
        let mut shim = Self::start(&digest(&code), command, variables).await;
        let answer = shim.push(code).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let port = shim.port().await;
        (shim, port)
    }

    /// Brings code.
    pub async fn push(&self, code: Vec<u8>) -> Answer {
        let request = Request::builder().method(Method::PUT).uri("/code");
        call(self.control, request.body(code.into()).unwrap()).await
    }

    /// What it says of itself.
    pub async fn state(&self) -> Value {
        get(self.control, "/state").await.json()
    }

    /// Waits for a phase, and gives the state.
    pub async fn until(&self, phase: &str) -> Value {
        let wait = async {
            loop {
                let state = self.state().await;
                if state["phase"] == phase {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(state) => state,
            Err(late) => panic!("{late}: it never was {phase}, but {}", self.state().await),
        }
    }

    /// The port for requests, once it is open.
    pub async fn port(&mut self) -> u16 {
        let port = said(&mut self.lines, |line| line["port"].as_u64()).await;
        u16::try_from(port).unwrap()
    }

    /// Waits for the first line of which `wanted` makes something.
    pub async fn said<T>(&mut self, wanted: impl Fn(&Value) -> Option<T>) -> T {
        said(&mut self.lines, wanted).await
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Value> {
        self.lines.borrow().clone()
    }

    /// Tells it to end.
    pub fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until it has ended.
    pub async fn ended(mut self) -> ExitStatus {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap()
    }

    /// The program's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // It takes its language processes along.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn said<T>(
    lines: &mut watch::Receiver<Vec<Value>>,
    wanted: impl Fn(&Value) -> Option<T>,
) -> T {
    let found =
        timeout(PATIENCE, lines.wait_for(|lines| lines.iter().any(|l| wanted(l).is_some())));
    let found = found.await.ok().and_then(Result::ok);
    let found = found.and_then(|lines| lines.iter().find_map(&wanted));
    found.unwrap_or_else(|| panic!("it never said that: {:#?}", lines.borrow()))
}

/// Sends a request and gives the answer.
pub async fn send(port: u16, mut request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
    let path = request.uri().path_and_query().unwrap().to_string();
    *request.uri_mut() = format!("http://127.0.0.1:{port}{path}").parse().unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    timeout(PATIENCE, client.request(request)).await.unwrap().unwrap()
}

/// Sends a request and gives the whole answer.
pub async fn call(port: u16, request: Request<Full<Bytes>>) -> Answer {
    let (parts, body) = send(port, request).await.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Gets a path.
pub async fn get(port: u16, path: &str) -> Answer {
    call(port, Request::get(path).body(Full::default()).unwrap()).await
}

/// Posts a body to a path.
pub async fn post(port: u16, path: &str, body: impl Into<Bytes>) -> Answer {
    call(port, Request::post(path).body(Full::new(body.into())).unwrap()).await
}

/// Whether a process has come to a stop: a signal is obeyed by one thread after the other.
pub fn is_stopped(id: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
    let status = threads.map(|thread| std::fs::read_to_string(thread.path().join("status")));
    status.flatten().all(|status| status.contains("State:\tT"))
}

/// Whether a process is there and has not ended.
pub fn lives(id: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Waits until something holds.
pub async fn eventually(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "it never came to hold");
}
