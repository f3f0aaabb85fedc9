//! Whether a client is still there. The server below learns of a client that leaves when it reads,
//! and it does not read while a body waits unread: then the socket itself is watched. A client that
//! leaves more behind than the socket takes can't be told from a slow one; its request breaks off
//! when its body is read.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::tick::{TICK, Tick};

// A client that leaves is to be gone from the queue within 100 ms.
const _: () = assert!(TICK.as_millis() * 2 <= 100);

/// A connection of a client that others may watch. The lock is held for one system call at a time
/// and never waited for but by a client's watcher, which takes it once.
#[derive(Debug)]
pub(super) struct Watched(Arc<Mutex<TcpStream>>);

/// Tells when the client of one connection leaves.
#[derive(Clone, Debug)]
pub(super) struct Presence(Option<Arc<Mutex<TcpStream>>>);

impl Watched {
    pub fn new(stream: TcpStream) -> (Self, Presence) {
        let stream = Arc::new(Mutex::new(stream));
        (Self(Arc::clone(&stream)), Presence(Some(stream)))
    }
}

impl Presence {
    /// Of a connection that can't be watched, as those in memory.
    #[cfg(test)]
    pub const fn unknown() -> Self {
        Self(None)
    }

    /// Ends when the client has closed its side. Never for one that can't be watched.
    /// Most requests are done before anything is watched.
    pub async fn lost(&self, tick: &Tick) {
        if let Some(stream) = &self.0 {
            tick.passed().await;
            if let Err(error) = closed(stream).await {
                tracing::debug!(%error, "watching a client");
                std::future::pending::<()>().await;
            }
        } else {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits on a registration of its own, whose readiness can be taken back without reading.
async fn closed(stream: &Mutex<TcpStream>) -> io::Result<()> {
    let own = lock(stream).as_fd().try_clone_to_owned()?;
    let own = TcpStream::from_std(own.into())?;
    while !own.ready(Interest::READABLE).await?.is_read_closed() {
        // There is something to read, which others do: wait for the next that happens.
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(own.try_io(Interest::READABLE, nothing));
    }
    Ok(())
}

fn lock(stream: &Mutex<TcpStream>) -> MutexGuard<'_, TcpStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures::FutureExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn only_the_end_is_a_sign_of_leaving() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let served = Mutex::new(served);
        let mut leaving = pin!(closed(&served));
        for _ in 0..3 {
            client.write_all(b"more").await.unwrap();
            poll_fn(|cx| lock(&served).poll_read_ready(cx)).await.unwrap();
            for _ in 0..20 {
                assert!(leaving.as_mut().now_or_never().is_none());
                yield_now().await;
            }
        }
        drop(client);
        leaving.await.unwrap();
    }
}
