//! Processes know no secrets, hold no more than they may, and leave nothing behind.

use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{Dev, Folder, PATIENCE, SERVER, command, function, processes_of, until};

/// One with a child that has left its group, and that does not end when it is asked.
fn with_offspring() -> String {
    let more = [
        "import signal, subprocess",
        "subprocess.Popen(['setsid', 'sleep', '1000'])",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "class",
    ];
    let more = more.map(|line| format!("        {line}")).join("\n");
    function("hello", "'hi'", "").replacen("        class", &more, 1)
}

#[tokio::test]
async fn nothing_is_left_when_it_is_killed() {
    let folder = Folder::of(&[("hello.yaml", &with_offspring())]);
    let dev = Dev::start(&folder).await;
    dev.text("hello").await;
    // Who keeps it, the program itself, and its child.
    dev.until_processes(|all| all.len() >= 3).await;
    dev.kill().await;
    let left = || processes_of(folder.path());
    until(|| left().is_empty(), || format!("{:?} are left", left())).await;
}

#[tokio::test]
async fn nothing_is_left_when_it_ends_or_when_who_keeps_it_is_killed() {
    let folder = Folder::of(&[("hello.yaml", &with_offspring())]);
    let dev = Dev::start(&folder).await;
    dev.text("hello").await;
    dev.until_processes(|all| all.len() >= 3).await;
    let before = dev.processes();
    let parent = dev.id().to_string();
    let keeper =
        before.iter().find(|id| parent_of(**id).as_deref() == Some(parent.as_str())).unwrap();
    kill_process(Pid::from_raw(*keeper).unwrap(), Signal::KILL).unwrap();
    dev.until_processes(|now| !now.iter().any(|id| before.contains(id))).await;
    assert_eq!(dev.text("hello").await, "hi", "it is started again");
    dev.interrupt().await;
    let left = || processes_of(folder.path());
    until(|| left().is_empty(), || format!("{:?} are left", left())).await;
}

/// Stands in for podman: notes what it is told, and runs a program as it is.
const PODMAN: &str = r#"#!/bin/sh
cd FOLDER
if [ "$1" = rm ]; then
  echo "$@" > removed
  exit
fi
echo "$@" > arguments
while [ "$1" != --env-file ]; do shift; done
cp "$2" told
PORT=$(sed -n 's/^PORT=//p' "$2") exec python3 server.py
"#;

#[tokio::test]
async fn a_container_gets_its_secrets_by_a_file_and_goes_with_who_is_killed() {
    let image = "apiVersion: rouse.dev/v1alpha1\nkind: Function\nmetadata: {name: image}\nspec:\n  image: x\n  \
                 env: [{name: PASSWORD, value: secret}, {name: PATH, value: /none}]\n";
    let asked =
        "signal.signal(signal.SIGTERM, lambda *_: (open('asked', 'w'), os._exit(0)))\nclass";
    let server = SERVER.replace("TEXT", "'hi'").replacen("class", asked, 1);
    let server = server.replacen("import os", "import os, signal", 1);
    let folder = Folder::of(&[("image.yaml", image), ("server.py", &server)]);
    let place = folder.path().to_str().unwrap();
    folder.write("bin/podman", &PODMAN.replace("FOLDER", place));
    let podman = folder.path().join("bin/podman");
    std::fs::set_permissions(&podman, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut rouse = command(folder.path(), &["--port", "0"]);
    rouse.env("PATH", format!("{place}/bin:/usr/local/bin:/usr/bin:/bin"));
    let dev = Dev::start_with(rouse, folder.path()).await;
    assert_eq!(dev.text("image").await, "hi");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let arguments = read("arguments");
    assert!(!arguments.contains("secret"), "{arguments}");
    assert!(arguments.contains("--memory 1073741824"), "{arguments}");
    let told = read("told");
    assert!(told.contains("PASSWORD=secret\n") && told.contains("PATH=/none\n"), "{told}");
    dev.kill().await;
    until(|| read("removed").contains("rm --force rouse-dev-"), || "it is not removed".into())
        .await;
    assert!(folder.path().join("asked").exists(), "it was not asked to end");
    until(|| processes_of(folder.path()).is_empty(), || "processes stay".into()).await;
}

fn parent_of(id: i32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some(line.trim().to_owned())
}

#[tokio::test]
async fn secrets_of_the_environment_stay_out_and_bounds_hold() {
    let more = "  resources: {limits: {memory: 100Mi}}\n";
    let told = "str([os.environ.get('PASSWORD'), os.environ.get('HOME') is not None, \
                __import__('resource').getrlimit(7)])";
    let large = function("large", "str(len(b'x' * int(asked['bytes'][0])))", more);
    let folder = Folder::of(&[("told.yaml", &function("told", told, "")), ("large.yaml", &large)]);
    let mut rouse = command(folder.path(), &["--port", "0"]);
    rouse.env("PASSWORD", "secret").env("HOME", "/");
    let mut dev = Dev::start_with(rouse, folder.path()).await;
    assert_eq!(dev.text("told").await, "[None, True, (8192, 8192)]");
    let (status, _) = dev.get("large", "/?bytes=1000").await;
    assert_eq!(status, 200);
    let slow = large_and_slow();
    folder.write("large.yaml", &slow);
    dev.heard("Function default/large has changed").await;
    // Until the change takes force it is the former that fails.
    let ended = async {
        while !dev.said().contains("OOMKilled") {
            let (status, body) = dev.get("large", "/").await;
            assert!(status >= 500, "{status} {body}");
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it holds more than it may");
    dev.interrupt().await;
}

/// One that takes more memory than it may, and holds it for a while.
fn large_and_slow() -> String {
    let more = "  resources: {limits: {memory: 100Mi}}\n";
    function("large", "(lambda b: (time.sleep(20), 'no')[1])(b'x' * 200000000)", more)
}
