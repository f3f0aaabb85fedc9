//! Connections that left HTTP, such as `WebSocket`: bytes are passed both ways until one side ends
//! both or the time is over. The slot is held for as long.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::{Instant, sleep_until};

use crate::body::Hold;

/// Passes bytes between `client` and `function`.
pub(super) async fn run(
    client: OnUpgrade,
    function: OnUpgrade,
    hold: Hold,
    deadline: Option<Instant>,
) {
    let pass = async {
        let (client, function) = tokio::try_join!(client, function)?;
        let (mut client, mut function) = (TokioIo::new(client), TokioIo::new(function));
        // Either side may break off at any time; there is nobody to tell.
        drop(copy_bidirectional(&mut client, &mut function).await);
        Ok::<(), hyper::Error>(())
    };
    tokio::select! {
        passed = pass => {
            if let Err(error) = passed {
                tracing::debug!(%error, "changing to another protocol");
            }
        }
        () = until(deadline) => {}
    }
    drop(hold);
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
