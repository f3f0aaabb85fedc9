//! What is kept, in files: two segments for each Function, of which the older goes when the newer is
//! full, so that at least one full segment of its last lines is there.
//!
//! A segment holds pieces as `rouse-core` writes them. Nothing is kept twice: where a pod's log was last
//! is known from the pieces themselves, also by the process that comes after a crash.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rouse_core::kept::{Piece, PieceHead, read_pieces};

/// Bytes of lines at which a segment is full.
const FULL: u64 = 1 << 20;
/// Names of the segments of a Function in its folder.
const OLDER: &str = "older";
const NEWER: &str = "newer";

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("{doing} what is kept of {function}")]
pub struct StoreError {
    doing: &'static str,
    function: String,
    source: io::Error,
}

/// What is kept of all Functions.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    known: Mutex<HashMap<String, Known>>,
}

/// What is known of a Function's segments.
#[derive(Debug, Default)]
struct Known {
    /// Bytes of lines in the newer one.
    lines: u64,
    older: Places,
    newer: Places,
}

/// Where the log of each pod goes on, by its UID.
type Places = HashMap<String, Place>;

/// Where the log of a pod goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which start of the pod's shim.
    pub run: i64,
    /// Bytes that this start had said before.
    pub from: u64,
}

impl Known {
    fn place(&self, uid: &str) -> Option<Place> {
        self.newer.get(uid).or_else(|| self.older.get(uid)).copied()
    }

    fn note(&mut self, head: &PieceHead) {
        self.lines += head.bytes;
        self.newer.insert(head.uid.clone(), Place { run: head.run, from: head.end() });
    }

    /// The newer segment becomes the older one.
    fn turn(&mut self) {
        self.older = std::mem::take(&mut self.newer);
        self.lines = 0;
    }
}

impl Store {
    /// What is kept below `folder`, which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let all = |source| error("opening", "all Functions", source);
        fs::create_dir_all(folder).map_err(all)?;
        let mut known = HashMap::new();
        for entry in fs::read_dir(folder).map_err(all)? {
            let name = entry.map_err(all)?.file_name();
            let Some(name) = name.to_str().filter(|name| is_name(name)) else { continue };
            let found = scan(&folder.join(name));
            let found = found.map_err(|source| error("opening", name, source))?;
            known.insert(name.to_owned(), found);
        }
        Ok(Self { folder: folder.to_owned(), known: Mutex::new(known) })
    }

    /// Functions of which something is kept.
    pub fn functions(&self) -> Vec<String> {
        self.known().keys().cloned().collect()
    }

    /// Where the log of the pod goes on, as far as it is kept.
    pub fn place(&self, function: &str, uid: &str) -> Option<Place> {
        self.known().get(function)?.place(uid)
    }

    /// Keeps `piece` of `function`, but for what is kept already; how many bytes of lines that were.
    pub fn keep(&self, function: &str, piece: &Piece<'_>) -> Result<u64, StoreError> {
        if !is_name(function) {
            return Ok(0);
        }
        let mut all = self.known();
        let known = all.entry(function.to_owned()).or_default();
        let Some(piece) = what_is_new(piece, known.place(&piece.head.uid)) else { return Ok(0) };
        let written = put(&self.folder.join(function), known, &piece);
        written.map_err(|source| error("writing", function, source))?;
        Ok(piece.head.bytes)
    }

    /// All pieces that are kept of `function`, in the order in which they were fetched.
    pub fn read(&self, function: &str) -> Result<Vec<u8>, StoreError> {
        let all = self.known();
        if !all.contains_key(function) {
            return Ok(Vec::new());
        }
        let segment = |name| {
            let text = read(&self.folder.join(function).join(name));
            text.map_err(|source| error("reading", function, source))
        };
        let (mut text, newer) = (segment(OLDER)?, segment(NEWER)?);
        drop(all);
        text.extend(newer);
        Ok(text)
    }

    /// Forgets `function`.
    pub fn remove(&self, function: &str) -> Result<(), StoreError> {
        let mut all = self.known();
        if all.remove(function).is_none() {
            return Ok(());
        }
        match fs::remove_dir_all(self.folder.join(function)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(error("removing", function, source))
            }
            _ => Ok(()),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn error(doing: &'static str, function: &str, source: io::Error) -> StoreError {
    StoreError { doing, function: function.to_owned(), source }
}

/// Whether this is the name of a Function, and thus of a folder and nothing worse.
fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(is_part)
}

/// What of a piece is not kept yet, where the log of its pod goes on at `place`.
fn what_is_new<'a>(piece: &Piece<'a>, place: Option<Place>) -> Option<Piece<'a>> {
    let head = &piece.head;
    let from = match place {
        // An earlier start of the shim comes no more once a later one was seen.
        Some(place) if place.run > head.run => return None,
        Some(place) if place.run == head.run => place.from.max(head.from),
        _ => head.from,
    };
    let skipped = usize::try_from(from - head.from).ok()?;
    let lines = piece.lines.get(skipped..).filter(|lines| !lines.is_empty())?;
    let bytes = u64::try_from(lines.len()).ok()?;
    Some(Piece { head: PieceHead { from, bytes, ..head.clone() }, lines })
}

/// What a folder of segments has. What a crash left half written is cut off.
fn scan(folder: &Path) -> io::Result<Known> {
    let mut known = Known::default();
    for name in [OLDER, NEWER] {
        known.turn();
        let text = read(&folder.join(name))?;
        let (pieces, whole) = read_pieces(&text);
        for piece in &pieces {
            known.note(&piece.head);
        }
        if whole < text.len() {
            let file = File::options().write(true).open(folder.join(name))?;
            file.set_len(u64::try_from(whole).unwrap_or_default())?;
        }
    }
    Ok(known)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Puts a piece into the newer segment of a folder.
fn put(folder: &Path, known: &mut Known, piece: &Piece<'_>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if known.lines >= FULL {
        fs::rename(folder.join(NEWER), folder.join(OLDER))?;
        known.turn();
    }
    let mut text = Vec::new();
    piece.write(&mut text);
    append(&folder.join(NEWER), &text)?;
    known.note(&piece.head);
    Ok(())
}

/// Adds `text` to a file, all of it or nothing.
fn append(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let before = file.metadata()?.len();
    file.write_all(text).inspect_err(|_| {
        // The disk is full, most likely. Half a piece would hide all that come after it.
        let _ = file.set_len(before);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece<'a>(uid: &str, run: i64, from: u64, lines: &'a str) -> Piece<'a> {
        let bytes = u64::try_from(lines.len()).unwrap();
        let head = PieceHead { pod: format!("pod-{uid}"), uid: uid.into(), run, from, bytes };
        Piece { head, lines: lines.as_bytes() }
    }

    fn lines(store: &Store, function: &str) -> String {
        let kept = store.read(function).unwrap();
        let (pieces, whole) = read_pieces(&kept);
        assert_eq!(whole, kept.len());
        pieces.iter().map(|piece| std::str::from_utf8(piece.lines).unwrap()).collect()
    }

    #[test]
    fn nothing_is_kept_twice_whoever_brings_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.keep("hello", &piece("a", 1, 0, "one\ntwo\n")).unwrap(), 8);
        assert_eq!(store.keep("hello", &piece("a", 1, 0, "one\ntwo\n")).unwrap(), 0);
        assert_eq!(store.keep("hello", &piece("a", 1, 4, "two\nthree\n")).unwrap(), 6);
        assert_eq!(store.keep("hello", &piece("b", 1, 0, "other\n")).unwrap(), 6);
        // The container of the first pod was started again.
        assert_eq!(store.keep("hello", &piece("a", 2, 0, "again\n")).unwrap(), 6);
        assert_eq!(store.keep("hello", &piece("a", 1, 14, "late\n")).unwrap(), 0);
        assert_eq!(lines(&store, "hello"), "one\ntwo\nthree\nother\nagain\n");
        assert_eq!(store.place("hello", "a"), Some(Place { run: 2, from: 6 }));

        let next = Store::open(folder.path()).unwrap();
        assert_eq!(next.place("hello", "b"), Some(Place { run: 1, from: 6 }));
        assert_eq!(next.keep("hello", &piece("b", 1, 0, "other\n")).unwrap(), 0);
        assert_eq!(lines(&next, "hello"), lines(&store, "hello"));
    }

    #[test]
    fn the_last_mebibyte_of_each_function_is_there_and_at_most_two() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.keep("other", &piece("o", 1, 0, "other\n")).unwrap();
        let mut from = 0;
        for number in 0..5_000 {
            let line = format!("{number:0999}\n");
            from += store.keep("hello", &piece("a", 1, from, &line)).unwrap();
            if number % 500 == 499 {
                let kept = lines(&store, "hello");
                let most = usize::try_from(FULL).unwrap();
                let least = most.min((number + 1) * 1000);
                assert!((least..=2 * most + 1000).contains(&kept.len()), "{}", kept.len());
                assert!(kept.ends_with(&line));
            }
        }
        assert_eq!(lines(&store, "other"), "other\n");
        let next = Store::open(folder.path()).unwrap();
        assert_eq!(next.place("hello", "a"), Some(Place { run: 1, from }));
        assert_eq!(lines(&next, "hello"), lines(&store, "hello"));
    }

    #[test]
    fn what_a_crash_left_half_written_hides_nothing_that_comes_after() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.keep("hello", &piece("a", 1, 0, "one\n")).unwrap();
        store.keep("hello", &piece("a", 1, 4, "two\n")).unwrap();
        let newer = folder.path().join("hello").join(NEWER);
        let text = fs::read(&newer).unwrap();
        fs::write(&newer, &text[..text.len() - 2]).unwrap();
        let next = Store::open(folder.path()).unwrap();
        assert_eq!(next.keep("hello", &piece("a", 1, 4, "two\n")).unwrap(), 4);
        assert_eq!(lines(&next, "hello"), "one\ntwo\n");
    }

    #[test]
    fn a_function_that_is_gone_is_forgotten_and_names_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.keep("hello", &piece("a", 1, 0, "one\n")).unwrap();
        store.remove("hello").unwrap();
        store.remove("hello").unwrap();
        assert_eq!((store.functions(), lines(&store, "hello")), (vec![], String::new()));
        for name in ["..", "", "a/b", "../hello", "A"] {
            assert_eq!(store.keep(name, &piece("a", 1, 0, "one\n")).unwrap(), 0, "{name}");
        }
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
