//! A Function sleeps until it is called, and sleeps again; what can't work is said.

use crate::rig::{Dev, Folder, SLEEPY, command, function, get, until};

#[tokio::test]
async fn a_function_wakes_answers_and_sleeps_again() {
    let folder = Folder::of(&[("hello.yaml", &function("hello", "'hi'", SLEEPY))]);
    let mut dev = Dev::start(&folder).await;
    assert!(dev.processes().is_empty(), "it sleeps");
    assert_eq!(dev.text("hello").await, "hi");
    assert!(!dev.processes().is_empty());
    dev.heard("hello  woke in").await;
    dev.heard("hello | asked for /").await;
    dev.heard("hello  sleeps").await;
    dev.until_processes(<[i32]>::is_empty).await;
    assert_eq!(dev.text("hello").await, "hi", "it wakes again");
    let (status, body) = get(dev.port, "nobody.default.localhost", "/").await;
    assert_eq!(status, 404, "{body}");
    dev.interrupt().await;
}

#[tokio::test]
async fn a_burst_is_carried_by_more_processes() {
    let more = "  concurrency: {limit: 2}\n  scaling: {max: 4}\n";
    let folder = Folder::of(&[("hello.yaml", &function("hello", "str(os.getpid())", more))]);
    let dev = Dev::start(&folder).await;
    let calls = (0..16).map(|_| dev.get("hello", "/?ms=200"));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let mut served: Vec<&String> = answers.iter().map(|(_, body)| body).collect();
    served.sort();
    served.dedup();
    assert!(served.len() > 1, "{served:?}");
    dev.interrupt().await;
}

#[tokio::test]
async fn what_can_not_be_started_is_said_with_what_to_do() {
    let image = "apiVersion: rouse.dev/v1alpha1\nkind: Function\nmetadata: {name: image}\nspec: {image: x}\n";
    let broken = function("broken", "no_such_name", "").replace("import os", "import nothing");
    let folder = Folder::of(&[("image.yaml", image), ("broken.yaml", &broken)]);
    let mut path = command(folder.path(), &["--port", "0"]);
    // Neither Python nor containers.
    path.env("PATH", folder.path());
    let dev = Dev::start_with(path, folder.path()).await;
    let (status, body) = dev.get("image", "/").await;
    assert!(status == 503 && body.contains("rouse.dev/dev-command"), "{status} {body}");
    let (status, body) = dev.get("broken", "/").await;
    assert!(status == 503 && body.contains("apt install python3"), "{status} {body}");
    dev.interrupt().await;
    let mut dev = Dev::start(&folder).await;
    let (status, body) = dev.get("broken", "/").await;
    assert!(status == 503 && body.contains("No module named 'nothing'"), "{status} {body}");
    dev.heard("No module named 'nothing'").await;
    dev.interrupt().await;
}

#[tokio::test]
async fn an_image_is_run_by_its_annotation_in_its_folder() {
    let image = "apiVersion: rouse.dev/v1alpha1\nkind: Function\nmetadata:\n  name: image\n  annotations:\n    \
                 rouse.dev/dev-command: python3 server.py\nspec:\n  image: x\n  env: [{name: WORD, value: \"at $(PORT)\"}]\n";
    let server = crate::rig::SERVER.replace("TEXT", "os.environ['WORD']");
    let folder = Folder::of(&[("sub/image.yaml", image), ("sub/server.py", &server)]);
    let dev = Dev::start(&folder).await;
    let text = dev.text("image").await;
    assert!(text.starts_with("at 2"), "{text}");
    dev.interrupt().await;
    until(|| crate::rig::processes_of(folder.path()).is_empty(), || "processes stay".into()).await;
}
