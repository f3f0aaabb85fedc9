//! A connection on which a request was sent and some of its answer read, for one who knows of
//! neither: it seems to send the request, and reads the answer from its beginning.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::Stream;

/// The connection.
pub(in crate::upstream) struct Replay {
    stream: Stream,
    sending: Sending,
    /// What was read and is to be read again.
    read: Bytes,
}

/// How far the request seems to be sent.
enum Sending {
    /// Not at all: there can be no answer yet. Holds who waits for one.
    Unsent(Option<Waker>),
    /// Some of it, or all: it has no body, and ends where it is flushed.
    Begun(Option<Waker>),
    /// It was; from here on all is as it seems.
    Sent,
}

impl Replay {
    /// `read` is what came on `stream` since the request was sent.
    pub fn new(stream: Stream, read: Bytes) -> Self {
        Self { stream, sending: Sending::Unsent(None), read }
    }

    /// Whether what is written now is the request.
    fn pretends(&mut self) -> bool {
        match &mut self.sending {
            Sending::Unsent(waiting) => {
                self.sending = Sending::Begun(waiting.take());
                true
            }
            Sending::Begun(_) => true,
            Sending::Sent => false,
        }
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Sending::Unsent(waiting) | Sending::Begun(waiting) = &mut self.sending {
            *waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let again = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(again));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.pretends() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.pretends() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.sending {
            Sending::Unsent(_) => Poll::Ready(Ok(())),
            Sending::Begun(waiting) => {
                let waiting = waiting.take();
                self.sending = Sending::Sent;
                if let Some(waiting) = waiting {
                    waiting.wake();
                }
                Poll::Ready(Ok(()))
            }
            Sending::Sent => Pin::new(&mut self.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn the_first_request_only_seems_to_be_sent_and_its_answer_is_read_from_the_beginning() {
        let (near, mut far) = duplex(64);
        let mut replay = Replay::new(Box::new(near), Bytes::from_static(b"begun "));
        let mut text = [0; 6];
        assert!(replay.read(&mut text).now_or_never().is_none(), "there was no request yet");
        replay.flush().await.unwrap();
        assert!(replay.read(&mut text).now_or_never().is_none(), "there is none yet");
        replay.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        replay.write_all(b"\r\n").await.unwrap();
        assert!(replay.read(&mut text).now_or_never().is_none(), "it is not all sent");
        replay.flush().await.unwrap();
        replay.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"begun ");
        far.write_all(b"ended.").await.unwrap();
        replay.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"ended.");
        replay.write_all(b"second").await.unwrap();
        replay.flush().await.unwrap();
        far.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"second", "and nothing of the first came before it");
    }

    #[tokio::test]
    async fn who_reads_before_it_sends_is_woken() {
        let (near, _far) = duplex(64);
        let replay = Replay::new(Box::new(near), Bytes::from_static(b"answer"));
        let (mut reader, mut writer) = tokio::io::split(replay);
        let reading = tokio::spawn(async move {
            let mut text = [0; 6];
            reader.read_exact(&mut text).await.map(|_| text)
        });
        tokio::task::yield_now().await;
        writer.write_all(b"request").await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(&reading.await.unwrap().unwrap(), b"answer");
    }
}
