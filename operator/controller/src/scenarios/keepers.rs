//! Stories of what keeps the lines of Functions with source.

use super::*;

pub(super) const KEEPER: &str = "rouse-keeper";

fn code() -> Value {
    json!({"image": null, "source": {"runtime": "shell", "files": {"app.sh": "echo"}}})
}

fn of_keeper(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| line.contains(KEEPER)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_keeper_comes_with_the_first_function_that_has_source_and_goes_with_the_last() {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({}));
    assert_eq!(of_keeper(rig.settled_lines().await), [""; 0], "an image gives no lines");
    rig.change_function(&code());
    assert_eq!(
        of_keeper(rig.settled_lines().await),
        [
            "POST serviceaccounts/rouse-keeper by rouse-controller",
            "POST rolebindings/rouse-keeper by rouse-controller",
            "POST deployments/rouse-keeper by rouse-controller",
        ]
    );
    rig.restart().await;
    assert_eq!(of_keeper(rig.settled_lines().await), [""; 0], "a restart at rest");
    rig.change_function(&json!({}));
    assert_eq!(of_keeper(rig.settled_lines().await).len(), 3);
    for plural in ["deployments", "rolebindings", "serviceaccounts"] {
        assert!(!rig.api.names(plural).contains(&KEEPER.to_owned()), "{plural}");
    }
}
