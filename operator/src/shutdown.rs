//! When the process shall stop: on SIGTERM, as the kubelet sends it, or Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A flag that turns true once, when the process shall stop. Every task may follow it.
pub type Shutdown = watch::Receiver<bool>;

/// Starts listening for the signals.
pub fn listen() -> anyhow::Result<Shutdown> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
            _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
        }
        sender.send_replace(true);
        // Whoever follows the flag must not take the end of this task for a stop.
        sender.closed().await;
    });
    Ok(receiver)
}

/// Waits for another signal after the one by which the process shall stop.
#[cfg(feature = "dev")]
pub async fn again(mut shutdown: Shutdown) -> anyhow::Result<()> {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        return std::future::pending().await;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
