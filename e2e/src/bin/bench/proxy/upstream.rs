//! The pods of the benchmark: one small server for all, with as little work for a request as a
//! server can have, so that what is measured is what stands before it.

use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use futures::FutureExt;
use rouse_e2e::hollow::node::{Container, Workload};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Path whose answer takes its time, which is small otherwise.
pub const LATER: &str = "/later";
/// How long it takes.
pub const LATER_BY: Duration = Duration::from_millis(5);
/// Connections that may wait for a thread: as many as the kernel keeps.
const HAND_OVER: usize = 4096;
/// Bytes that are read at once: a head with the body of a POST.
const BUFFER: usize = 32 * 1024;
/// Headers that a request may have.
const HEADERS: usize = 64;
/// Body of the small answer.
const SMALL: &[u8] = b"Hello, world!";
/// Bytes of the large answer.
const LARGE: usize = 64 * 1024;

/// Threads that serve connections. They run until the process ends.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    threads: Vec<mpsc::Sender<StdStream>>,
    next: AtomicUsize,
    answered: Arc<AtomicU64>,
}

impl Upstream {
    /// Starts a thread for each core.
    pub fn start() -> anyhow::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let answered = Arc::new(AtomicU64::new(0));
        let answers = Arc::new(Answers::new());
        let threads = (0..count)
            .map(|_| start_thread(Arc::clone(&answers), Arc::clone(&answered)))
            .collect::<anyhow::Result<_>>()?;
        let shared = Shared { threads, next: AtomicUsize::new(0), answered };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Requests that were answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// What the pods of a hollow node do: be this server.
    pub fn workload(&self) -> Workload {
        let upstream = self.clone();
        Arc::new(move |container: Container| {
            let upstream = upstream.clone();
            async move { upstream.accept(container.listener).await }.boxed()
        })
    }

    /// Accepts connections and gives them to the threads in turn, so that all have as many.
    async fn accept(&self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let Ok(stream) = stream.into_std() else { continue };
            let next = self.shared.next.fetch_add(1, Ordering::Relaxed);
            let threads = &self.shared.threads;
            if let Some(thread) = threads.get(next % threads.len()) {
                // The thread runs as long as the process.
                drop(thread.send(stream).await);
            }
        }
    }
}

fn start_thread(
    answers: Arc<Answers>,
    answered: Arc<AtomicU64>,
) -> anyhow::Result<mpsc::Sender<StdStream>> {
    let (sender, mut receiver) = mpsc::channel::<StdStream>(HAND_OVER);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async move {
            while let Some(stream) = receiver.recv().await {
                let (answers, answered) = (Arc::clone(&answers), Arc::clone(&answered));
                tokio::spawn(async move { serve(stream, &answers, &answered).await });
            }
        });
    };
    let named = std::thread::Builder::new().name("upstream".to_owned());
    named.spawn(serve).context("starting a thread of the upstream")?;
    Ok(sender)
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let answer = |body: &[u8]| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n"
            );
            [head.as_bytes(), body].concat()
        };
        Self { small: answer(SMALL), large: answer(&vec![b'x'; LARGE]) }
    }
}

/// Reads an answer with the small body into `answer`; fails where it is none, or not a good one.
pub async fn read_small(
    stream: &mut (impl AsyncRead + Unpin),
    answer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    answer.clear();
    while !answer.ends_with(SMALL) {
        let read = stream.read_buf(answer).await?;
        anyhow::ensure!(read > 0, "cut off: {:?}", String::from_utf8_lossy(answer));
    }
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(answer));
    Ok(())
}

async fn serve(stream: StdStream, answers: &Answers, answered: &AtomicU64) -> io::Result<()> {
    let mut stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(BUFFER);
    loop {
        let Some(request) = read_head(&mut stream, &mut buffer).await? else { return Ok(()) };
        let mut left = request.body;
        while left > 0 {
            if buffer.is_empty() && stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            let take = left.min(buffer.len());
            buffer.advance(take);
            left -= take;
        }
        let answer = match request.wants {
            Wanted::Small => &answers.small,
            Wanted::Later => {
                sleep(LATER_BY).await;
                &answers.small
            }
            Wanted::Large => &answers.large,
        };
        // Counted first: whoever has the answer finds it counted.
        answered.fetch_add(1, Ordering::Relaxed);
        stream.write_all(answer).await?;
    }
}

struct Request {
    wants: Wanted,
    body: usize,
}

/// Which answer is asked for.
enum Wanted {
    Small,
    Later,
    Large,
}

/// Reads one head; none when the connection ends before it.
async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<Option<Request>> {
    loop {
        if !buffer.is_empty()
            && let Some((length, request)) = parse(buffer)?
        {
            buffer.advance(length);
            return Ok(Some(request));
        }
        buffer.reserve(BUFFER / 2);
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Request)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let wants = match head.path {
        Some("/large") => Wanted::Large,
        Some(LATER) => Wanted::Later,
        _ => Wanted::Small,
    };
    let mut body = 0;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("bodies have a length here"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(io::Error::other)?;
            body = text.trim().parse().map_err(io::Error::other)?;
        }
    }
    Ok(Some((length, Request { wants, body })))
}
