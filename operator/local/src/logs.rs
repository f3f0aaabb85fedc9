//! What the containers of this machine printed lately, in bounded memory: who runs them writes it,
//! who is asked for logs reads it. A line is what a container runtime would have kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use crate::api::{LogQuery, PodLogs};

/// Bytes of lines that are kept of a container.
const MOST_BYTES: usize = 256 << 10;
/// Lines that wait for whoever shows them as they come; who is slower misses some.
const WAITING: usize = 1024;

/// The logs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pods: Mutex<HashMap<Key, Kept>>,
    said: broadcast::Sender<Said>,
}

/// Namespace and name of a pod.
type Key = (Arc<str>, Arc<str>);

/// A line, for whoever shows them as they come.
#[derive(Clone, Debug)]
pub struct Said {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// The Function that it is of; empty where it is of none.
    pub function: Arc<str>,
    /// The line.
    pub text: Arc<str>,
}

/// What is kept of a pod.
#[derive(Debug)]
struct Kept {
    function: Arc<str>,
    /// How many containers there were.
    begun: u64,
    /// Of the container that runs or has run last.
    now: Ring,
    /// Of the one before.
    before: Ring,
    /// Moves with each line, with each start and with the end.
    moves: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
}

/// A line.
#[derive(Clone, Debug)]
struct Line {
    /// Grows by one with each line of the pod.
    number: u64,
    at: Timestamp,
    text: Arc<str>,
}

impl Default for Logs {
    fn default() -> Self {
        let said = broadcast::Sender::new(WAITING);
        Self(Arc::new(Shared { pods: Mutex::default(), said }))
    }
}

impl Logs {
    /// What is printed from now on, by all.
    pub fn subscribe(&self) -> broadcast::Receiver<Said> {
        self.0.said.subscribe()
    }

    /// A container of a pod begins; gives where its lines go.
    pub(crate) fn begin(&self, namespace: &str, pod: &str, function: &str) -> Writer {
        let key = (Arc::from(namespace), Arc::from(pod));
        let mut pods = self.pods();
        let kept = pods.entry(Key::clone(&key)).or_insert_with(|| Kept {
            function: function.into(),
            begun: 0,
            now: Ring::default(),
            before: Ring::default(),
            moves: watch::Sender::new(0),
        });
        kept.begun += 1;
        kept.before = std::mem::take(&mut kept.now);
        kept.moves.send_modify(|moves| *moves += 1);
        drop(pods);
        Writer { logs: self.clone(), key }
    }

    /// A pod is gone, and with it what it printed.
    pub(crate) fn forget(&self, namespace: &str, pod: &str) {
        self.pods().remove(&(Arc::from(namespace), Arc::from(pod)));
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the lines of one container go.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    logs: Logs,
    key: Key,
}

impl Writer {
    /// Keeps a line.
    pub fn write(&self, text: &str) {
        let text: Arc<str> = text.into();
        let mut pods = self.logs.pods();
        let Some(kept) = pods.get_mut(&self.key) else { return };
        let number = *kept.moves.borrow() + 1;
        kept.now.push(Line { number, at: Timestamp::now(), text: Arc::clone(&text) });
        kept.moves.send_replace(number);
        let function = Arc::clone(&kept.function);
        drop(pods);
        let (namespace, pod) = Key::clone(&self.key);
        // Nobody may be looking.
        let _ = self.logs.0.said.send(Said { namespace, pod, function, text });
    }

    /// The last lines, of so many bytes at most.
    pub fn last(&self, most: usize) -> Vec<Arc<str>> {
        let pods = self.logs.pods();
        let mut room = most;
        let mut last: Vec<Arc<str>> = Vec::new();
        for line in pods.get(&self.key).iter().flat_map(|kept| kept.now.lines.iter().rev()) {
            let Some(rest) = room.checked_sub(line.text.len()) else { break };
            room = rest;
            last.push(Arc::clone(&line.text));
        }
        last.reverse();
        last
    }
}

impl Ring {
    fn push(&mut self, line: Line) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.bytes > MOST_BYTES
            && let Some(gone) = self.lines.pop_front()
        {
            self.bytes -= gone.text.len();
        }
    }
}

impl PodLogs for Logs {
    fn read(
        &self,
        namespace: &str,
        pod: &str,
        query: LogQuery,
    ) -> Option<BoxStream<'static, Bytes>> {
        let key = (Arc::from(namespace), Arc::from(pod));
        let pods = self.pods();
        let kept = pods.get(&key)?;
        let ring = if query.previous { &kept.before } else { &kept.now };
        let oldest = query.since.and_then(|since| Timestamp::now().checked_sub(since).ok());
        let wanted = |line: &&Line| oldest.is_none_or(|oldest| line.at >= oldest);
        let mut lines: Vec<&Line> = ring.lines.iter().filter(wanted).collect();
        let tail = query.tail_lines.and_then(|tail| usize::try_from(tail).ok());
        let surplus = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        lines.drain(..surplus);
        let mut text = render(lines, query.timestamps);
        if let Some(most) = query.limit_bytes.and_then(|most| usize::try_from(most).ok()) {
            text.truncate(most);
        }
        let first = stream::once(std::future::ready(Bytes::from(text)));
        if !query.follow || query.previous {
            return Some(first.boxed());
        }
        let moves = kept.moves.subscribe();
        let seen = *moves.borrow();
        let (logs, begun, stamped) = (self.clone(), kept.begun, query.timestamps);
        let follower = Follower { logs, key, begun, moves, seen, stamped };
        Some(first.chain(stream::unfold(follower, Follower::next)).boxed())
    }
}

/// Reads on where a reader is, to the end of the container.
struct Follower {
    logs: Logs,
    key: Key,
    begun: u64,
    moves: watch::Receiver<u64>,
    seen: u64,
    stamped: bool,
}

impl Follower {
    /// What came since; none once the container is gone.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            let seen = self.seen;
            {
                let pods = self.logs.pods();
                let kept = pods.get(&self.key)?;
                let ring = if kept.begun == self.begun { &kept.now } else { &kept.before };
                let lines = ring.lines.iter().filter(|line| line.number > seen);
                let text = render(lines, self.stamped);
                self.seen = *kept.moves.borrow();
                let over = kept.begun != self.begun;
                drop(pods);
                match (text.is_empty(), over) {
                    (false, _) => return Some((text.into(), self)),
                    (true, true) => return None,
                    (true, false) => {}
                }
            }
            // The sender goes with the pod.
            let seen = self.seen;
            self.moves.wait_for(|moves| *moves > seen).await.ok()?;
        }
    }
}

fn render<'a>(lines: impl IntoIterator<Item = &'a Line>, stamped: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        if stamped {
            text.extend_from_slice(line.at.to_string().as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(line.text.as_bytes());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(logs: &Logs, query: LogQuery) -> String {
        let read = logs.read("shop", "p", query).unwrap();
        let pieces: Vec<Bytes> = read.collect().await;
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[tokio::test]
    async fn lines_are_kept_for_the_container_that_runs_and_the_one_before() {
        let logs = Logs::default();
        assert!(logs.read("shop", "p", LogQuery::default()).is_none());
        logs.begin("shop", "p", "f").write("old");
        let writer = logs.begin("shop", "p", "f");
        writer.write("one");
        writer.write("two");
        assert_eq!(all(&logs, LogQuery::default()).await, "one\ntwo\n");
        let previous = LogQuery { previous: true, ..LogQuery::default() };
        assert_eq!(all(&logs, previous).await, "old\n");
        let tail = LogQuery { tail_lines: Some(1), timestamps: true, ..LogQuery::default() };
        let stamped = all(&logs, tail).await;
        let (time, text) = stamped.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok() && text == "two\n", "{stamped}");
        assert_eq!(writer.last(5).len(), 1);
    }

    #[tokio::test]
    async fn who_follows_hears_what_comes_until_the_container_is_gone() {
        let logs = Logs::default();
        let writer = logs.begin("shop", "p", "f");
        writer.write("one");
        let mut said = logs.subscribe();
        let follow = LogQuery { follow: true, ..LogQuery::default() };
        let mut read = logs.read("shop", "p", follow).unwrap();
        assert_eq!(read.next().await.unwrap(), "one\n");
        writer.write("two");
        logs.begin("shop", "p", "f").write("three");
        assert_eq!(read.next().await.unwrap(), "two\n");
        assert_eq!(read.next().await, None, "the next container is read by itself");
        let follow = LogQuery { follow: true, ..LogQuery::default() };
        let mut read = logs.read("shop", "p", follow).unwrap();
        assert_eq!(read.next().await.unwrap(), "three\n");
        logs.forget("shop", "p");
        assert_eq!(read.next().await, None);
        assert_eq!(&*said.recv().await.unwrap().text, "two");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let logs = Logs::default();
        let writer = logs.begin("shop", "p", "f");
        for _ in 0..2 * MOST_BYTES / 1024 {
            writer.write(&"x".repeat(1024));
        }
        let pods = logs.pods();
        assert!(pods.values().all(|kept| kept.now.bytes <= MOST_BYTES));
    }
}
