//! Closing a connection without losing what was said last. Who closes while the other side still
//! writes makes its next write fail, and what that side has not read yet is lost with it: the answers
//! to requests among it. So the stream comes back when the connection is done with it, and is read
//! until the other side has closed too.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// How long the other side may take to close.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that nobody wants that are taken at a time.
const CHUNK: usize = 4 * 1024;

/// A stream that comes back when this is dropped.
#[derive(Debug)]
pub(super) struct Lent<I> {
    /// There until it is dropped.
    io: Option<I>,
    back: Back<I>,
}

/// Where the stream comes back to.
#[derive(Debug)]
pub(super) struct Back<I>(Arc<Mutex<Option<I>>>);

impl<I> Lent<I> {
    pub fn new(io: I) -> (Self, Back<I>) {
        let slot = Arc::new(Mutex::new(None));
        (Self { io: Some(io), back: Back(Arc::clone(&slot)) }, Back(slot))
    }

    fn poll<T>(&mut self, poll: impl FnOnce(&mut I) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.io.as_mut().map_or_else(|| Poll::Ready(Err(io::ErrorKind::NotConnected.into())), poll)
    }
}

impl<I> Back<I> {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Back<I> {
    /// Says that nothing more comes, and takes what the other side still says, if the stream has
    /// come back.
    pub async fn linger(self) {
        let Some(mut io) = self.slot().take() else { return };
        let closing = async {
            io.shutdown().await?;
            let mut unwanted = [0; CHUNK];
            while io.read(&mut unwanted).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        // Where it is late, or gone already, nothing more can be done for it.
        drop(timeout(LINGER, Box::pin(closing)).await);
    }
}

impl<I> Drop for Lent<I> {
    fn drop(&mut self) {
        *self.back.slot() = self.io.take();
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Lent<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|io| Pin::new(io).poll_read(cx, buffer))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Lent<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|io| Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|io| Pin::new(io).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|io| Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|io| Pin::new(io).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_the_other_side_still_says_is_taken_until_it_closes_too() {
        let (near, mut far) = duplex(64);
        let (mut io, back) = Lent::new(near);
        io.write_all(b"the answer").await.unwrap();
        drop(io);
        let lingering = tokio::spawn(back.linger());
        far.write_all(&[7; 200]).await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"the answer");
        far.write_all(&[7; 200]).await.unwrap();
        assert!(!lingering.is_finished());
        drop(far);
        lingering.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_for_long_and_what_has_not_come_back_not_at_all() {
        let (near, _far) = duplex(64);
        let begun = Instant::now();
        let (io, back) = Lent::new(near);
        drop(io);
        back.linger().await;
        assert_eq!(begun.elapsed(), LINGER);
        let (near, _far) = duplex(64);
        let (_kept, back) = Lent::new(near);
        back.linger().await;
        assert_eq!(begun.elapsed(), LINGER);
    }
}
