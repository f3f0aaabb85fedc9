//! The last lines that were said, in bounded memory, for who fetches them before the pod is gone. A line
//! is known by where it stands: after so many bytes since the start.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Bytes of the last lines that are there for certain: what is kept of a Function.
const LEAST: usize = 1 << 20;
/// Bytes of one piece, the most that is fetched at once. A line of 8 KiB may take 48 as JSON.
const PIECE: usize = 64 << 10;
/// How long who fetches may wait for something.
const WAIT: Duration = Duration::from_secs(20);
/// How long the end waits for who fetches, where there is somebody.
const LINGER: Duration = Duration::from_secs(1);

/// The last lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recent(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells this start of the shim from others in the same pod.
    run: i64,
    kept: Mutex<Kept>,
    /// Where the next line will stand, and whether there will be any.
    said: watch::Sender<(u64, bool)>,
    fetched: watch::Sender<Fetched>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Whole lines in each.
    pieces: VecDeque<Vec<u8>>,
    /// Where the first piece stands.
    start: u64,
}

/// What is known of who fetches.
#[derive(Clone, Copy, Debug, Default)]
struct Fetched {
    last: Option<Instant>,
    to_the_end: bool,
}

/// What is there from a place on, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The place: later than the one that was asked for where lines between are gone.
    pub from: u64,
    /// The lines.
    pub lines: Bytes,
    /// Whether nothing will come after them.
    pub is_last: bool,
}

impl Default for Recent {
    fn default() -> Self {
        Self(Arc::new(Shared {
            run: Timestamp::now().as_millisecond(),
            kept: Mutex::default(),
            said: watch::Sender::new((0, false)),
            fetched: watch::Sender::default(),
        }))
    }
}

impl Recent {
    /// What tells this start of the shim from others in the same pod.
    pub fn run(&self) -> i64 {
        self.0.run
    }

    /// Keeps a line, which has its end.
    pub fn push(&self, line: &[u8]) {
        let mut kept = self.kept();
        match kept.pieces.back_mut().filter(|piece| piece.len() + line.len() <= PIECE) {
            Some(piece) => piece.extend_from_slice(line),
            None => kept.pieces.push_back(line.to_vec()),
        }
        let mut bytes: usize = kept.pieces.iter().map(Vec::len).sum();
        while let Some(first) = kept.pieces.front().map(Vec::len).filter(|it| bytes - it >= LEAST) {
            kept.pieces.pop_front();
            kept.start += length(first);
            bytes -= first;
        }
        let end = kept.start + length(bytes);
        drop(kept);
        self.0.said.send_modify(|said| said.0 = end);
    }

    /// Nothing is said any more.
    pub fn close(&self) {
        self.0.said.send_modify(|said| said.1 = true);
    }

    /// What is there from `from` on. Waits a while for something.
    pub async fn fetch(&self, from: u64) -> Piece {
        self.0.fetched.send_modify(|fetched| fetched.last = Some(Instant::now()));
        let mut said = self.0.said.subscribe();
        // The sender is here; when it takes too long there is nothing, which is an answer too.
        let _ = timeout(WAIT, said.wait_for(|(end, closed)| *end > from || *closed)).await;
        let piece = self.piece(from);
        if piece.is_last {
            self.0.fetched.send_modify(|fetched| fetched.to_the_end = true);
        }
        piece
    }

    /// Waits until whoever fetches has all, a moment at most, and not at all where nobody does.
    pub async fn until_fetched(&self) {
        let mut fetched = self.0.fetched.subscribe();
        let last = fetched.borrow().last;
        if last.is_some_and(|last| last.elapsed() < 2 * WAIT) {
            let _ = timeout(LINGER, fetched.wait_for(|fetched| fetched.to_the_end)).await;
        }
    }

    fn piece(&self, from: u64) -> Piece {
        let kept = self.kept();
        let closed = self.0.said.borrow().1;
        let end = kept.start + length(kept.pieces.iter().map(Vec::len).sum());
        let from = from.clamp(kept.start, end);
        let mut stands = kept.start;
        let mut lines = Bytes::new();
        for piece in &kept.pieces {
            let next = stands + length(piece.len());
            if from < next {
                let skipped = usize::try_from(from - stands).unwrap_or(usize::MAX);
                lines = Bytes::copy_from_slice(piece.get(skipped..).unwrap_or_default());
                break;
            }
            stands = next;
        }
        let is_last = closed && from + length(lines.len()) == end;
        Piece { from, lines, is_last }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: usize = 1000;

    fn line(number: usize) -> Vec<u8> {
        format!("{number:0width$}\n", width = LINE - 1).into_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_is_fetched_once_and_in_order_by_who_goes_on_where_he_was() {
        let recent = Recent::default();
        for number in 0..200 {
            recent.push(&line(number));
        }
        recent.close();
        let (mut from, mut all) = (0, Vec::new());
        loop {
            let piece = recent.fetch(from).await;
            assert_eq!(piece.from, from);
            assert!(piece.lines.len() <= PIECE);
            from += length(piece.lines.len());
            all.extend_from_slice(&piece.lines);
            if piece.is_last {
                break;
            }
        }
        assert_eq!(all, (0..200).flat_map(line).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_mebibyte_is_there_and_not_much_more() {
        let recent = Recent::default();
        for number in 0..10_000 {
            recent.push(&line(number));
        }
        let first = recent.fetch(0).await;
        let kept = 10_000 * LINE - usize::try_from(first.from).unwrap();
        assert!((LEAST..LEAST + 2 * PIECE).contains(&kept), "{kept}");
        assert_eq!(first.from % length(LINE), 0, "it begins with a whole line");
        let ahead = recent.fetch(length(9_999 * LINE)).await;
        assert_eq!(ahead.lines, line(9_999));
    }

    #[tokio::test(start_paused = true)]
    async fn who_fetches_waits_for_a_line_and_not_for_ever() {
        let recent = Recent::default();
        let waiting = tokio::spawn({
            let recent = recent.clone();
            async move { recent.fetch(0).await }
        });
        tokio::task::yield_now().await;
        recent.push(b"hello\n");
        assert_eq!(waiting.await.unwrap().lines, "hello\n");
        let nothing = recent.fetch(6).await;
        assert_eq!((nothing.from, nothing.lines.len(), nothing.is_last), (6, 0, false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_who_fetches_and_for_nobody_else() {
        let recent = Recent::default();
        recent.push(b"one\n");
        let begun = Instant::now();
        recent.close();
        recent.until_fetched().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "there is nobody");

        let recent = Recent::default();
        recent.push(b"one\n");
        recent.fetch(0).await;
        recent.push(b"two\n");
        recent.close();
        let rest = tokio::spawn({
            let recent = recent.clone();
            async move { recent.fetch(4).await }
        });
        recent.until_fetched().await;
        assert!(begun.elapsed() < LINGER);
        assert!(rest.await.unwrap().is_last);

        let recent = Recent::default();
        recent.fetch(0).await;
        recent.close();
        let begun = Instant::now();
        recent.until_fetched().await;
        assert_eq!(begun.elapsed(), LINGER, "it went away");
    }
}
