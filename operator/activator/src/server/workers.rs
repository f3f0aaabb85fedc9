//! The threads that carry requests. Each has a runtime of its own, and a connection stays with the
//! thread that it was given to, so that what its requests need is shared with no other thread.
//! Which thread gets a connection is decided here; what is done with it is not known here.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::upstream::Shard;

/// Connections that a thread may be behind with and still be given more. One that is behind by more
/// is busy with something that lasts; the others take its share.
const MOST_BEHIND: usize = 32;

/// Tasks that a busy thread runs before it looks again what has come on its connections, so that it
/// asks the system less often: 2 % less processor time for a small request than with the runtime's
/// own 61.
const TASKS_BETWEEN_LOOKS: u32 = 255;

/// The threads.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

/// One thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub runtime: Handle,
    pub shard: Shard,
    load: Arc<Load>,
    /// The thread ends when this is dropped; none for a runtime that is not ours.
    _end: Option<oneshot::Sender<()>>,
}

/// Connections of one thread.
#[derive(Debug, Default)]
struct Load {
    /// Given to it and not ended.
    given: AtomicUsize,
    /// Given to it, and not begun yet.
    ahead: AtomicUsize,
}

impl Workers {
    /// Starts `count` threads. They end when this is dropped, whatever they are doing.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let start = |index| Worker::start(Shard { index, of: count });
        (0..count.get()).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// The runtime that this is called in, and no thread of its own.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn here() -> Self {
        let shard = Shard::ONLY;
        Self(vec![Worker { runtime: Handle::current(), shard, load: Arc::default(), _end: None }])
    }

    /// The threads, each on its own.
    pub(super) fn into_each(self) -> impl Iterator<Item = Worker> {
        self.0.into_iter()
    }
}

impl Worker {
    fn start(shard: Shard) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .event_interval(TASKS_BETWEEN_LOOKS)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name(format!("requests-{}", shard.index))
            .spawn(move || work(&runtime, ended))?;
        Ok(Self { runtime: handle, shard, load: Arc::default(), _end: Some(end) })
    }

    /// What this thread has to do, to be compared with others: the least gets the next connection.
    pub fn burden(&self) -> impl Ord + use<> {
        let Load { given, ahead } = &*self.load;
        (ahead.load(Ordering::Relaxed) > MOST_BEHIND, given.load(Ordering::Relaxed))
    }

    /// Counts a connection that is given to this thread.
    pub fn begin(&self) -> Begun {
        self.load.given.fetch_add(1, Ordering::Relaxed);
        self.load.ahead.fetch_add(1, Ordering::Relaxed);
        Begun { load: Arc::clone(&self.load), taken: false }
    }
}

fn work(runtime: &Runtime, ended: oneshot::Receiver<()>) {
    // An error means that the sender is gone, which is what is waited for.
    drop(runtime.block_on(ended));
}

/// A connection among those of its thread, for as long as it lives.
#[derive(Debug)]
pub(super) struct Begun {
    load: Arc<Load>,
    taken: bool,
}

impl Begun {
    /// Says that the thread has begun with it.
    pub fn take(&mut self) {
        if !std::mem::replace(&mut self.taken, true) {
            self.load.ahead.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.take();
        self.load.given.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Worker {
        Worker { runtime: Handle::current(), shard: Shard::ONLY, load: Arc::default(), _end: None }
    }

    #[tokio::test]
    async fn the_thread_with_the_fewest_connections_has_the_least_burden() {
        let (one, other) = (worker(), worker());
        let mut first = one.begin();
        assert!(one.burden() > other.burden());
        first.take();
        assert!(one.burden() > other.burden());
        let _second = other.begin();
        assert!(one.burden() == other.burden());
        drop(first);
        assert!(one.burden() < other.burden());
    }

    #[tokio::test]
    async fn a_thread_that_is_behind_gets_no_more() {
        let (stuck, busy) = (worker(), worker());
        let all: Vec<_> = (0..1000).map(|_| taken(busy.begin())).collect();
        let mut ahead: Vec<_> = (0..MOST_BEHIND).map(|_| stuck.begin()).collect();
        assert!(stuck.burden() < busy.burden());
        ahead.push(stuck.begin());
        assert!(stuck.burden() > busy.burden());
        drop(ahead.pop().map(taken));
        assert!(stuck.burden() < busy.burden());
        assert_eq!(all.len(), 1000);
    }

    fn taken(mut begun: Begun) -> Begun {
        begun.take();
        begun
    }

    #[tokio::test]
    async fn a_thread_ends_with_its_worker_and_what_it_does_with_it() {
        let workers = Workers::start(NonZeroUsize::new(2).unwrap()).unwrap();
        let worker = workers.into_each().last().unwrap();
        assert_eq!((worker.shard.index, worker.shard.of.get()), (1, 2));
        let (held, released) = oneshot::channel::<()>();
        let running = worker.runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(worker);
        assert!(released.await.is_err());
        assert!(running.await.unwrap_err().is_cancelled());
    }
}
