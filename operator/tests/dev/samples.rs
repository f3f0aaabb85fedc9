//! The samples run as they stand.

use std::path::Path;

use crate::rig::{Dev, command, processes_of, until};

#[tokio::test]
async fn the_samples_answer_in_their_languages() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let state = tempfile::tempdir().unwrap();
    let place = state.path().to_str().unwrap();
    let rouse = command(&samples, &["--port", "0", "--state", place]);
    let dev = Dev::start_with(rouse, state.path()).await;
    for (name, text) in [
        ("hello-python", "Hello from Python!\n"),
        ("hello-node", "Hello from Node!\n"),
        ("hello-bash", "Hello from Bash!\n"),
    ] {
        assert_eq!(dev.text(name).await, text);
    }
    dev.interrupt().await;
    let left = || processes_of(state.path());
    until(|| left().is_empty(), || format!("{:?} are left", left())).await;
}
