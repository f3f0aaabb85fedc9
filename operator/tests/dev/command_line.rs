//! The command line works as with a cluster, by the kubeconfig that `rouse dev` writes.

use std::path::Path;

use tokio::process::Command;

use crate::rig::{Dev, Folder, function};

/// What a command says on standard output and standard error, and its exit code.
async fn said(folder: &Folder, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
    command.args(arguments).env("KUBECONFIG", folder.path().join(".rouse/kubeconfig"));
    let output = command.output().await.unwrap();
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

fn change(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text.replace("Hello from Python", "Good morning")).unwrap();
}
