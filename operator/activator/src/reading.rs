//! Reading by a buffer that all connections of a thread share, so that one that waits has none, and
//! none is made for what comes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

/// Most bytes that are read at once.
pub(crate) const MOST: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; MOST].into());
}

/// Reads what has come, at most so many bytes; nothing at the end.
pub(crate) fn poll_some<I>(io: &mut I, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>
where
    I: AsyncRead + Unpin + ?Sized,
{
    BUFFER.with_borrow_mut(|buffer| {
        let most = most.min(buffer.len());
        let mut buffer = ReadBuf::new(buffer.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    })
}
