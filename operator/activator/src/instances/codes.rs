//! The code that was pushed to pods lately, in bounded memory: a Function that wakes several pods, or
//! often, costs one read. Who asks for the same code at the same time shares the read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::RecordRef;

/// Bytes of code that are kept: twenty times the most that one may have.
const MOST_BYTES: usize = 16 << 20;
/// Codes that are kept, and those that are being read: small ones must not make a search slow.
const MOST: usize = 1024;

type Cell = Arc<OnceCell<Bytes>>;

/// The code that is kept. What was asked for last comes last.
#[derive(Debug, Default)]
pub(super) struct Codes {
    kept: Mutex<VecDeque<(RecordRef, Cell)>>,
}

impl Codes {
    /// The code of `record`, by `fetch` where it is not kept.
    pub async fn get<E, F>(
        &self,
        record: &RecordRef,
        fetch: impl FnOnce() -> F + Send,
    ) -> Result<Bytes, E>
    where
        F: Future<Output = Result<Bytes, E>> + Send,
    {
        let cell = self.cell(record);
        let code = cell.get_or_try_init(fetch).await.cloned();
        self.shrink();
        code
    }

    fn cell(&self, record: &RecordRef) -> Cell {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(known, _)| known == record);
        let entry = known.and_then(|at| kept.remove(at));
        let entry = entry.unwrap_or_else(|| (record.clone(), Cell::default()));
        let cell = Arc::clone(&entry.1);
        kept.push_back(entry);
        cell
    }

    /// Forgets what was asked for longest ago. Who reads it still has it.
    fn shrink(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let size = |(_, cell): &(RecordRef, Cell)| cell.get().map_or(0, Bytes::len);
        let mut bytes: usize = kept.iter().map(size).sum();
        while bytes > MOST_BYTES || kept.len() > MOST {
            let Some(gone) = kept.pop_front() else { return };
            bytes -= size(&gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    fn record(name: usize) -> RecordRef {
        let text = |text: &str| Arc::<str>::from(text);
        RecordRef { namespace: text("shop"), name: name.to_string().into(), function: text("f") }
    }

    #[derive(Default)]
    struct Store(Codes, AtomicUsize);

    impl Store {
        async fn get(&self, name: usize, length: usize) -> usize {
            let fetch = || async {
                self.1.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(5)).await;
                Ok::<_, Infallible>(Bytes::from(vec![0; length]))
            };
            self.0.get(&record(name), fetch).await.unwrap().len()
        }

        fn reads(&self) -> usize {
            self.1.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_read_is_for_all_who_ask() {
        let store = Store::default();
        let all = futures::future::join_all((0..10).map(|_| store.get(0, 7))).await;
        assert_eq!((all, store.reads()), (vec![7; 10], 1));
        store.get(0, 7).await;
        assert_eq!(store.reads(), 1);
        store.get(1, 7).await;
        assert_eq!(store.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_longest_ago_goes() {
        let store = Store::default();
        let length = MOST_BYTES / 4;
        for name in 0..4 {
            store.get(name, length).await;
        }
        store.get(0, length).await;
        assert_eq!(store.reads(), 4);
        store.get(4, length).await;
        store.get(0, length).await;
        assert_eq!(store.reads(), 5, "it was asked for lately");
        store.get(1, length).await;
        assert_eq!(store.reads(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn small_ones_are_bounded_in_number_and_failures_are_not_kept() {
        let store = Store::default();
        for name in 0..=MOST {
            store.get(name, 1).await;
        }
        assert_eq!(store.0.kept.lock().unwrap().len(), MOST);
        let failed = store.0.get(&record(MOST + 1), || async { Err::<Bytes, _>("no") }).await;
        assert_eq!(failed, Err("no"));
        assert_eq!(store.get(MOST + 1, 3).await, 3);
    }
}
