//! Whether the other side of a connection between activators is there: a process that is frozen, or
//! cut off, keeps its connections.

use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

/// How often the other side is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(3);

/// Ends when the other side does not answer a ping in time.
pub(crate) async fn silent(pings: Option<PingPong>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(PING_INTERVAL).await;
        match timeout(PING_INTERVAL, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
