//! The samples of README's first command run as they stand, and it starts none that could not.

use std::path::Path;

use crate::rig::{Dev, command, processes_of, until};

#[tokio::test]
async fn the_samples_answer_in_their_languages_and_nothing_is_amiss() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let state = tempfile::tempdir().unwrap();
    let place = state.path().to_str().unwrap();
    let rouse = command(&samples, &["--port", "0", "--state", place]);
    let mut dev = Dev::start_with(rouse, state.path()).await;
    // The last of what it says by itself.
    dev.heard("Ctrl-C ends it all").await;
    for (name, text) in [
        ("hello", "Hello, world!\n"),
        ("hello-python", "Hello from Python!\n"),
        ("hello-node", "Hello from Node!\n"),
        ("hello-bash", "Hello from Bash!\n"),
        ("ticks", "The clock calls me.\n"),
        ("echo", "Open a WebSocket, and I say back what you say.\n"),
    ] {
        assert_eq!(dev.text(name).await, text);
    }
    // Beside where things are, only who wakes, who sleeps and what Functions print.
    let said = dev.said();
    let amiss = |line: &&str| {
        let usual =
            ["http://", "kubeconfig  ", "Ctrl-C", "  woke in ", "  sleeps", "ticks | tick "];
        !usual.iter().any(|words| line.contains(words))
    };
    assert_eq!(said.lines().find(amiss), None, "{said}");
    dev.interrupt().await;
    let left = || processes_of(state.path());
    until(|| left().is_empty(), || format!("{:?} are left", left())).await;
}

/// What is open to the network is the user's to decide.
#[test]
fn the_samples_listen_on_this_machine_alone() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let mut seen = 0;
    let mut folders = vec![samples];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let listening = ["ThreadingHTTPServer((", ".listen("];
            for line in text.lines().filter(|line| listening.iter().any(|it| line.contains(it))) {
                assert!(line.contains("\"127.0.0.1\""), "{}: {line}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "they listen in another way: {seen}");
}
