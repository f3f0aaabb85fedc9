//! Connections that left HTTP, such as `WebSocket`: bytes are passed both ways until one side ends
//! both, the time is over, or neither has said anything for too long. The slot is held for as long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep, sleep_until};

use crate::body::Hold;

/// How often in the time for which a tunnel may stand still it is asked whether it does.
const LOOKS: u32 = 4;

/// How long a tunnel may last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// When it must have ended.
    pub deadline: Option<Instant>,
    /// How long both sides may say nothing.
    pub idle: Option<Duration>,
}

/// Passes bytes between `client` and `function`.
pub(super) async fn run(client: OnUpgrade, function: OnUpgrade, hold: Hold, limits: Limits) {
    let moved = Arc::<AtomicBool>::default();
    let noted = |io: Upgraded| Noted { io: TokioIo::new(io), moved: Arc::clone(&moved) };
    let pass = async {
        let (client, function) = tokio::try_join!(client, function)?;
        // Either side may break off at any time; there is nobody to tell.
        drop(copy_bidirectional(&mut noted(client), &mut noted(function)).await);
        Ok::<(), hyper::Error>(())
    };
    tokio::select! {
        passed = pass => {
            if let Err(error) = passed {
                tracing::debug!(%error, "changing to another protocol");
            }
        }
        () = until(limits.deadline) => {}
        () = until_still(limits.idle, &moved) => {}
    }
    drop(hold);
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn until_still(idle: Option<Duration>, moved: &AtomicBool) {
    let Some(idle) = idle else { return std::future::pending().await };
    let mut still = 0;
    while still < LOOKS {
        sleep(idle / LOOKS).await;
        still = if moved.swap(false, Ordering::Relaxed) { 0 } else { still + 1 };
    }
}

/// One side of a tunnel, which notes that it said something.
struct Noted {
    io: TokioIo<Upgraded>,
    moved: Arc<AtomicBool>,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.moved.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
