//! The last lines that were said, in bounded memory, for who fetches them before the pod is gone. A line
//! is known by where it stands: after so many bytes since the start.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Bytes of the last lines that are there for certain: what is kept of a Function.
const LEAST: usize = 1 << 20;
/// Bytes of lines that are packed together. The pod's memory is for somebody's code.
const BLOCK: usize = 16 << 10;
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
    /// Before the lines of `open`.
    blocks: VecDeque<Block>,
    /// The last lines, not packed yet.
    open: Vec<u8>,
    /// Where the first line stands.
    start: u64,
    /// Bytes of all lines.
    bytes: usize,
}

/// Whole lines, packed unless that makes them no smaller.
#[derive(Debug)]
struct Block {
    length: usize,
    bytes: Box<[u8]>,
}

impl Block {
    fn of(lines: &[u8]) -> Self {
        let packed = lz4_flex::block::compress(lines);
        let bytes = if packed.len() < lines.len() { packed } else { lines.to_vec() };
        Self { length: lines.len(), bytes: bytes.into() }
    }

    fn lines(&self) -> Cow<'_, [u8]> {
        if self.bytes.len() == self.length {
            return Cow::Borrowed(&self.bytes);
        }
        // What was packed here can be unpacked.
        lz4_flex::block::decompress(&self.bytes, self.length).unwrap_or_default().into()
    }
}

impl Kept {
    /// Where the next line will stand.
    fn end(&self) -> u64 {
        self.start + length(self.bytes)
    }

    fn push(&mut self, line: &[u8]) {
        if self.open.len() + line.len() > BLOCK && !self.open.is_empty() {
            self.blocks.push_back(Block::of(&self.open));
            self.open.clear();
            // The longest line need not have its room for ever.
            self.open.shrink_to(BLOCK);
        }
        self.open.extend_from_slice(line);
        self.bytes += line.len();
        let first = |blocks: &VecDeque<Block>| blocks.front().map(|first| first.length);
        while let Some(first) = first(&self.blocks).filter(|it| self.bytes - it >= LEAST) {
            self.blocks.pop_front();
            self.start += length(first);
            self.bytes -= first;
        }
    }

    /// As many lines from a place on as are fetched at once.
    fn lines(&self, from: u64) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut stands = self.start;
        let lengths = self.blocks.iter().map(|block| (block.length, Some(block)));
        for (bytes, block) in lengths.chain([(self.open.len(), None)]) {
            let next = stands + length(bytes);
            if from < next {
                if !lines.is_empty() && lines.len() + bytes > PIECE {
                    break;
                }
                let part = block.map_or(Cow::Borrowed(&*self.open), Block::lines);
                let skipped = usize::try_from(from.saturating_sub(stands)).unwrap_or(usize::MAX);
                lines.extend_from_slice(part.get(skipped..).unwrap_or_default());
            }
            stands = next;
        }
        lines
    }
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
        kept.push(line);
        let end = kept.end();
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
        let end = kept.end();
        let from = from.clamp(kept.start, end);
        let lines = Bytes::from(kept.lines(from));
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
    async fn every_place_is_found_in_whatever_is_packed() {
        let recent = Recent::default();
        let (mut all, mut places) = (Vec::new(), Vec::new());
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            // Of letters, of noise, and longer than what is packed together.
            let longest = dice.choice([100, 2_000, 50_000]).unwrap();
            let letters = dice.u8(1..=255);
            let text = std::iter::repeat_with(|| b'a' + dice.u8(0..letters) % 26);
            let text: Vec<u8> = text.take(longest).chain([b'\n']).collect();
            places.push(all.len());
            all.extend_from_slice(&text);
            recent.push(&text);
        }
        let first = usize::try_from(recent.fetch(0).await.from).unwrap();
        assert!(all.len() - first >= LEAST);
        for place in places.into_iter().filter(|place| *place >= first) {
            let piece = recent.fetch(length(place)).await;
            assert_eq!(piece.from, length(place));
            let end = place + piece.lines.len();
            assert!(piece.lines.ends_with(b"\n") && piece.lines == all[place..end]);
        }
    }

    #[test]
    fn lines_take_less_than_they_say_and_noise_no_more() {
        let mut dice = fastrand::Rng::with_seed(7);
        let mut orders = Kept::default();
        let mut noise = Kept::default();
        for number in 0..20_000 {
            let (order, customer) = (dice.u64(..), dice.u32(..));
            let said = format!(
                r#"{{"time":"2026-11-30T03:20:00.{number:09}Z","stream":"stdout","message":"order {order:x} of {customer} is paid"}}"#
            );
            orders.push(said.as_bytes());
            noise.push(&std::iter::repeat_with(|| dice.u8(..)).take(200).collect::<Vec<_>>());
        }
        let held = |kept: &Kept| {
            kept.open.capacity() + kept.blocks.iter().map(|block| block.bytes.len()).sum::<usize>()
        };
        assert!(orders.bytes >= LEAST && noise.bytes >= LEAST);
        assert!(held(&orders) < LEAST / 2, "{}", held(&orders));
        assert!(held(&noise) < LEAST + 2 * BLOCK, "{}", held(&noise));
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
