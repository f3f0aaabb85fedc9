//! The command line works as with a cluster, by the kubeconfig that `rouse dev` writes.

use tokio::process::Command;

use crate::rig::{Dev, Folder, function};

async fn ask(folder: &Folder, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
    command.args(arguments).env("KUBECONFIG", folder.path().join(".rouse/kubeconfig"));
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
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
    dev.interrupt().await;
}
