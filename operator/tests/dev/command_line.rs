//! The command line works as with a cluster, by the kubeconfig that `rouse dev` writes.

use std::path::Path;
use std::process::Stdio;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rouse_crds::v1alpha1::Function;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::rig::{Dev, Folder, PATIENCE, function};

/// A command that asks `rouse dev` over that folder.
fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
    command.args(arguments).env("KUBECONFIG", folder.path().join(".rouse/kubeconfig"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a command says on standard output and standard error, and its exit code.
async fn said(folder: &Folder, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = command(folder, arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

async fn ask(folder: &Folder, arguments: &[&str]) -> String {
    let (out, err, code) = said(folder, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

#[tokio::test]
async fn questions_are_answered() {
    let folder = Folder::of(&[("hello.yaml", &function("hello", "'hi'", ""))]);
    let mut dev = Dev::start(&folder).await;
    dev.text("hello").await;
    dev.heard("hello  woke in").await;
    let cold = ask(&folder, &["cold", "hello"]).await;
    assert!(cold.contains("LISTEN") && cold.contains("MEDIAN"), "{cold}");
    let why = ask(&folder, &["why", "hello"]).await;
    assert!(why.contains("0 -> 1"), "{why}");
    dev.heard("hello | asked for /").await;
    let logs = ask(&folder, &["logs", "hello"]).await;
    assert!(logs.contains("asked for /"), "{logs}");
    assert_eq!(ask(&folder, &["list", "-o", "name"]).await, "function.rouse.dev/hello\n");
    let list = ask(&folder, &["list", "-A", "-o", "wide"]).await;
    assert!(list.contains("python3.11") && list.contains("default"), "{list}");
    let status = ask(&folder, &["status", "hello"]).await;
    for part in ["Function hello in namespace default", "serves", "Running"] {
        assert!(status.contains(part), "{part:?} is not in {status}");
    }
    let (_, hint, code) = said(&folder, &["status", "helo"]).await;
    assert!(code == Some(3) && hint.contains("did you mean hello?"), "{hint}");
    dev.interrupt().await;
}

#[tokio::test]
async fn a_function_is_begun_deployed_called_and_taken_back() {
    let folder = Folder::of(&[("hello.yaml", &function("hello", "'hi'", ""))]);
    let dev = Dev::start(&folder).await;
    let other = tempfile::tempdir().unwrap();
    let code = other.path().join("price");
    let place = code.to_str().unwrap();
    ask(&folder, &["init", place, "--language", "python"]).await;
    let deployed = ask(&folder, &["deploy", place]).await;
    assert!(deployed.contains("price is ready at http://price.default"), "{deployed}");
    let (out, err, _) = said(&folder, &["invoke", "price"]).await;
    assert_eq!(out, "Hello from Python\n", "{err}");
    assert!(err.contains("price sleeps") && err.contains("program listens"), "{err}");
    assert_eq!(ask(&folder, &["invoke", "price", "--data", "a b"]).await, "a b");
    change(&code.join("server.py"));
    ask(&folder, &["deploy", place]).await;
    assert_eq!(ask(&folder, &["invoke", "price"]).await, "Good morning\n");
    let back = ask(&folder, &["rollback", "price"]).await;
    assert!(back.contains("price serves revision"), "{back}");
    assert_eq!(ask(&folder, &["invoke", "price"]).await, "Hello from Python\n");
    dev.interrupt().await;
}

#[tokio::test]
async fn what_a_rollback_brought_back_goes_with_the_next_deployment() {
    let folder = Folder::of(&[("hello.yaml", &function("hello", "'hi'", ""))]);
    let dev = Dev::start(&folder).await;
    let other = tempfile::tempdir().unwrap();
    let code = other.path().join("price");
    let place = code.to_str().unwrap();
    ask(&folder, &["init", place, "--language", "python"]).await;
    std::fs::write(code.join("b.py"), "").unwrap();
    ask(&folder, &["deploy", place]).await;
    // A file that came back goes again.
    std::fs::remove_file(code.join("b.py")).unwrap();
    ask(&folder, &["deploy", place]).await;
    let before = source(&folder).await;
    ask(&folder, &["rollback", "price"]).await;
    assert!(source(&folder).await["files"]["b.py"].is_string());
    ask(&folder, &["deploy", place]).await;
    assert_eq!(source(&folder).await, before);
    // So does an archive, beside which there can be no files.
    std::fs::write(code.join("picture"), [0xff; 64]).unwrap();
    ask(&folder, &["deploy", place]).await;
    std::fs::remove_file(code.join("picture")).unwrap();
    change(&code.join("server.py"));
    ask(&folder, &["deploy", place]).await;
    ask(&folder, &["rollback", "price"]).await;
    assert!(source(&folder).await["archive"].is_object());
    ask(&folder, &["deploy", place]).await;
    assert!(source(&folder).await["archive"].is_null());
    assert_eq!(ask(&folder, &["invoke", "price"]).await, "Good morning\n");
    dev.interrupt().await;
}

/// The source of the Function that was deployed.
async fn source(folder: &Folder) -> serde_json::Value {
    drop(rustls::crypto::ring::default_provider().install_default());
    let kubeconfig = Kubeconfig::read_from(folder.path().join(".rouse/kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.unwrap()).unwrap();
    let function = Api::<Function>::default_namespaced(client).get("price").await.unwrap();
    serde_json::to_value(function.spec.source).unwrap()
}

#[tokio::test]
async fn lines_come_as_they_are_printed_until_nobody_reads() {
    let folder = Folder::of(&[("hello.yaml", &function("hello", "'hi'", ""))]);
    let dev = Dev::start(&folder).await;
    let mut following = command(&folder, &["logs", "hello", "-f"]).spawn().unwrap();
    let mut told = BufReader::new(following.stderr.take().unwrap()).lines();
    let asleep = timeout(PATIENCE, told.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(asleep, "hello sleeps: its lines come when it is called");
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    for path in ["/one", "/two"] {
        dev.get("hello", path).await;
        let asked = format!("asked for {path}");
        // What runs it says something too.
        while !timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .ends_with(&asked)
        {}
    }
    drop(lines);
    dev.text("hello").await;
    let ended = timeout(PATIENCE, following.wait()).await.expect("it reads on").unwrap();
    assert!(ended.success(), "{ended}");
    dev.interrupt().await;
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_none_for_this_machine() {
    let folder = Folder::of(&[("hello.yaml", &function("hello", "'hi'", ""))]);
    let dev = Dev::start(&folder).await;
    let mut list = command(&folder, &["list", "-o", "name", "-n", ""]);
    let output = list.env("HTTPS_PROXY", "http://127.0.0.1:1").output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "function.rouse.dev/hello\n");
    dev.interrupt().await;
}

fn change(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text.replace("Hello from Python", "Good morning")).unwrap();
}
