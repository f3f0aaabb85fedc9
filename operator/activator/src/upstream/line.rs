//! A connection to a pod with a hard limit, and the slot of the request on it. A pod goes on with a
//! request whose answer nobody wants any more until it notices: the slot stays taken until the pod
//! has closed its end too. It is told by the end of what it reads.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Stream;

/// How long a pod may go on with a request that was given up. One that takes longer is replaced,
/// and has its grace for it.
const LINGER: Duration = Duration::from_secs(30);

/// Bytes of an answer that nobody wants that are taken at a time.
const CHUNK: usize = 16 * 1024;

/// Frees a slot; told whether the pod is known to be done.
pub(crate) type Release = Box<dyn FnOnce(bool) + Send>;

/// A connection that one request after the other is on.
#[derive(Default)]
pub(crate) struct Line(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Requests that have gone out on it.
    turns: u64,
    state: State,
}

/// One request's use of a [`Line`]. Its slot may be freed after the next request has gone out, which
/// another thread may be quick to send.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<Line>,
    number: u64,
}

#[derive(Default)]
enum State {
    /// No request is on it.
    #[default]
    Free,
    /// One is.
    Busy,
    /// One was given up: its slot is freed when the pod is done.
    Owed(Release),
    /// It is closed at both ends.
    Over,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl Line {
    /// A request is about to go out on it.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        let mut inner = self.lock();
        inner.turns += 1;
        if matches!(inner.state, State::Free) {
            inner.state = State::Busy;
        }
        Turn { line: Arc::clone(self), number: inner.turns }
    }

    /// The answer to the request was read to its end, or the request did not go out.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Busy) {
            inner.state = State::Free;
        }
    }

    fn over(&self, done: bool) {
        let before = std::mem::replace(&mut self.lock().state, State::Over);
        if let State::Owed(release) = before {
            release(done);
        }
    }

    fn is_free(&self) -> bool {
        matches!(self.lock().state, State::Free)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Frees the slot of the request as soon as the pod is done with it: now, where it is.
    pub(crate) fn free(self, release: Release) {
        {
            let mut inner = self.line.lock();
            if inner.turns == self.number && matches!(inner.state, State::Busy) {
                inner.state = State::Owed(release);
                return;
            }
        }
        release(true);
    }
}

/// The bytes of a [`Line`]: dropped in the middle of a request they linger.
pub(super) struct Ending {
    stream: Option<Stream>,
    line: Arc<Line>,
}

impl Ending {
    pub fn new(stream: Stream, line: &Arc<Line>) -> Self {
        Self { stream: Some(stream), line: Arc::clone(line) }
    }

    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.stream {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let line = Arc::clone(&self.line);
        match Handle::try_current() {
            Ok(runtime) if !line.is_free() => {
                // Over within `LINGER`; the slot that it frees is what others wait for.
                runtime.spawn(async move {
                    let done = timeout(LINGER, read_to_end(stream)).await.is_ok();
                    line.over(done);
                });
            }
            _ => line.over(true),
        }
    }
}

/// Says that nothing more comes, and reads until the other side says so too.
async fn read_to_end(mut stream: Stream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut unwanted = vec![0; CHUNK];
    while let Ok(1..) = stream.read(&mut unwanted).await {}
}

impl AsyncRead for Ending {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Ending {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::io::duplex;
    use tokio::time::sleep;

    use super::*;

    /// Counts releases of pods that are done, and of pods that are not.
    #[derive(Clone, Default)]
    struct Releases(Arc<(AtomicU32, AtomicU32)>);

    impl Releases {
        fn one(&self) -> Release {
            let counts = self.clone();
            Box::new(move |done| {
                let count = if done { &counts.0.0 } else { &counts.0.1 };
                count.fetch_add(1, Ordering::SeqCst);
            })
        }

        fn counts(&self) -> (u32, u32) {
            (self.0.0.load(Ordering::SeqCst), self.0.1.load(Ordering::SeqCst))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_whose_answer_was_read_is_free_at_once() {
        let (line, releases) = (Arc::<Line>::default(), Releases::default());
        let turn = line.begin();
        line.end();
        turn.free(releases.one());
        assert_eq!(releases.counts(), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_whose_connection_has_gone_to_another_request_is_free_at_once() {
        let (line, releases) = (Arc::<Line>::default(), Releases::default());
        let first = line.begin();
        line.end();
        // Another thread has taken the connection before the first has freed its slot.
        let second = line.begin();
        first.free(releases.one());
        assert_eq!(releases.counts(), (1, 0));
        second.free(releases.one());
        assert_eq!(releases.counts(), (1, 0), "the second is still on it");
        line.over(true);
        assert_eq!(releases.counts(), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_was_given_up_is_free_when_the_pod_closes() {
        for slot_first in [true, false] {
            let (line, releases) = (Arc::<Line>::default(), Releases::default());
            let (near, mut far) = duplex(64);
            let io = Ending::new(Box::new(near), &line);
            let mut turn = Some(line.begin());
            let mut free = || turn.take().map(|turn| turn.free(releases.one()));
            if slot_first {
                free();
            }
            drop(io);
            free();
            assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0, "the pod hears of it");
            far.write_all(&[7; 200]).await.unwrap();
            sleep(Duration::from_secs(5)).await;
            assert_eq!(releases.counts(), (0, 0));
            drop(far);
            sleep(Duration::from_millis(1)).await;
            assert_eq!(releases.counts(), (1, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_goes_on_for_too_long_is_told_of() {
        let (line, releases) = (Arc::<Line>::default(), Releases::default());
        let (near, _far) = duplex(64);
        let io = Ending::new(Box::new(near), &line);
        line.begin().free(releases.one());
        drop(io);
        sleep(LINGER + Duration::from_secs(1)).await;
        assert_eq!(releases.counts(), (0, 1));
    }
}
