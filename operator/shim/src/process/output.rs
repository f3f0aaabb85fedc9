//! What a process prints, line by line into the log, with the request that it is of. The last lines
//! are kept: they say why it did not come up.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdout};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::requests::Requests;
use crate::log::{Line, Log};

/// Longest line; what is longer goes on in the next. As JSON it stays below the 16 KiB at which
/// container runtimes cut.
const LONGEST: usize = 8 << 10;
/// What a pipe holds: so much was printed before one looks, at most.
const PIPE: usize = 64 << 10;
/// What is kept of the last lines.
const KEPT: usize = 2 << 10;
/// How long the rest of what was printed is waited for once a process is gone. Offspring that nobody
/// finds may hold the other end.
const REST: Duration = Duration::from_millis(500);

/// What a process prints.
#[derive(Debug)]
pub struct Output {
    pipes: Vec<Arc<Pipe>>,
    last: Arc<StdMutex<VecDeque<u8>>>,
    readers: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Pipe {
    name: &'static str,
    end: Receiver,
    log: Log,
    requests: Arc<Requests>,
    last: Arc<StdMutex<VecDeque<u8>>>,
    /// The line that is not at its end yet. Held while lines are written, so that they stay in order.
    begun: Mutex<Vec<u8>>,
}

/// How a pipe was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// There is nothing in it now.
    Empty,
    /// Nobody can write to it any more.
    Closed,
    /// There may be more.
    More,
}

impl Output {
    /// Reads both pipes of a process until nobody can write to them any more.
    pub fn of(
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
        log: &Log,
        requests: &Arc<Requests>,
    ) -> io::Result<Arc<Self>> {
        let last = Arc::default();
        let pipes = [("stdout", stdout.map(OwnedFd::from)), ("stderr", stderr.map(OwnedFd::from))];
        let open = |(name, fd): (_, Option<OwnedFd>)| {
            let end = Receiver::from_owned_fd(fd?);
            let (log, requests, last) = (log.clone(), Arc::clone(requests), Arc::clone(&last));
            let begun = Mutex::default();
            Some(end.map(|end| Arc::new(Pipe { name, end, log, requests, last, begun })))
        };
        let pipes = pipes.into_iter().filter_map(open).collect::<io::Result<Vec<_>>>()?;
        let read = |pipe: &Arc<Pipe>| tokio::spawn(Arc::clone(pipe).read()).abort_handle();
        let readers = pipes.iter().map(read).collect();
        Ok(Arc::new(Self { pipes, last, readers }))
    }

    /// Reads what has been printed by now, so that it is of the requests of now. So is a line that has no
    /// end: Lambda's logger for Java gives none to any.
    pub async fn settle(&self) {
        for pipe in &self.pipes {
            if pipe.drain().await != Left::More {
                pipe.end_line().await;
            }
        }
    }

    /// Reads the rest, and the last line though it has no end.
    pub async fn finish(&self) {
        for pipe in &self.pipes {
            let rest = async { while pipe.drain().await == Left::More {} };
            let _ = timeout(REST, rest).await;
            pipe.end_line().await;
        }
    }

    /// The last lines.
    pub fn last_words(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = last.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

impl Pipe {
    async fn read(self: Arc<Self>) {
        while self.end.readable().await.is_ok() {
            if self.drain().await == Left::Closed {
                return;
            }
        }
    }

    /// Reads what is there, at most about as much as a pipe holds.
    async fn drain(&self) -> Left {
        let mut begun = self.begun.lock().await;
        let mut buffer = [0; 4 << 10];
        let mut read = 0;
        while read < PIPE {
            match self.end.try_read(&mut buffer) {
                Ok(0) => return Left::Closed,
                Ok(count) => {
                    read += count;
                    self.lines(&mut begun, buffer.get(..count).unwrap_or_default()).await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Left::Empty,
                Err(_) => return Left::Closed,
            }
        }
        Left::More
    }

    /// Writes the line that is not at its end as if it were.
    async fn end_line(&self) {
        let mut begun = self.begun.lock().await;
        if !begun.is_empty() {
            self.write(&begun, false).await;
            begun.clear();
        }
    }

    async fn lines(&self, begun: &mut Vec<u8>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = LONGEST - begun.len().min(LONGEST);
            let reach = bytes.get(..room.min(bytes.len())).unwrap_or_default();
            let end = reach.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = bytes.split_at(end.unwrap_or(reach.len()));
            begun.extend_from_slice(piece);
            bytes = if end.is_some() { rest.get(1..).unwrap_or_default() } else { rest };
            if end.is_some() || begun.len() >= LONGEST {
                self.write(begun, end.is_none()).await;
                begun.clear();
            }
        }
    }

    async fn write(&self, line: &[u8], partial: bool) {
        let text = String::from_utf8_lossy(line);
        let message = text.strip_suffix('\r').unwrap_or(&text);
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.extend(message.bytes().chain([b'\n']));
            let surplus = last.len().saturating_sub(KEPT);
            last.drain(..surplus);
        }
        let request_id = self.requests.printing();
        let line = Line { stream: self.name, request_id, message, partial, fields: Value::Null };
        self.log.write(line).await;
    }
}
