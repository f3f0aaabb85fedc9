//! What is said, as lines of JSON on standard output: by the shim itself, and by the language
//! process. The last ones are kept for who fetches them (`recent`). A thread of its own writes them, so
//! that a slow reader holds up who prints and nobody else.

use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::recent::Recent;

/// Lines that may wait to be written, if they are short.
const WAITING: usize = 64;
/// Bytes of all lines that wait: as much as a pipe holds. One that is longer waits alone.
const ROOM: u32 = 64 << 10;

/// Where lines go.
#[derive(Clone, Debug)]
pub struct Log {
    lines: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    recent: Recent,
}

/// A line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line<'a> {
    /// Who says it: `shim`, `stdout`, `stderr`.
    pub stream: &'static str,
    /// Of which request, where that is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
    /// What.
    pub message: &'a str,
    /// Whether the line goes on in the next one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// What belongs to it.
    #[serde(flatten, skip_serializing_if = "Value::is_null")]
    pub fields: Value,
}

#[derive(Serialize)]
struct Stamped<'a> {
    time: Timestamp,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

impl Log {
    /// Starts the thread. It ends when the last log is dropped and all is written.
    pub fn start() -> std::io::Result<(Self, JoinHandle<()>)> {
        let (lines, mut receiver) = mpsc::channel::<(Vec<u8>, OwnedSemaphorePermit)>(WAITING);
        let write = move || {
            let mut output = std::io::stdout().lock();
            while let Some((line, _place)) = receiver.blocking_recv() {
                // Nobody is left to tell that standard output is gone.
                let _ = output.write_all(&line).and_then(|()| output.flush());
            }
        };
        let thread = std::thread::Builder::new().name("log".into()).stack_size(64 << 10);
        let room = Arc::new(Semaphore::new(ROOM as usize));
        Ok((Self { lines, room, recent: Recent::default() }, thread.spawn(write)?))
    }

    /// Waits for its place and writes a line.
    pub async fn write(&self, line: Line<'_>) {
        let line = encode(&line);
        self.recent.push(&line);
        // Nobody closes the room, and the thread ends after all senders have.
        if let Ok(place) = Arc::clone(&self.room).acquire_many_owned(room_of(&line)).await {
            let _ = self.lines.send((line, place)).await;
        }
    }

    /// A line of the shim's own. On standard output it is dropped rather than waited for: nothing hangs on it.
    pub fn note(&self, message: &str, fields: Value) {
        self.note_of(None, message, fields);
    }

    /// The same, of a request.
    pub fn note_of(&self, request_id: Option<Arc<str>>, message: &str, fields: Value) {
        let line = Line { stream: "shim", request_id, message, partial: false, fields };
        let line = encode(&line);
        self.recent.push(&line);
        if let Ok(place) = Arc::clone(&self.room).try_acquire_many_owned(room_of(&line)) {
            let _ = self.lines.try_send((line, place));
        }
    }

    /// The last lines.
    pub const fn recent(&self) -> &Recent {
        &self.recent
    }
}

fn room_of(line: &[u8]) -> u32 {
    u32::try_from(line.len()).unwrap_or(ROOM).min(ROOM)
}

fn encode(line: &Line<'_>) -> Vec<u8> {
    let stamped = Stamped { time: Timestamp::now(), line };
    let mut bytes = serde_json::to_vec(&stamped).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_of_what_and_what() {
        let line = Line {
            stream: "stderr",
            request_id: Some("r1".into()),
            message: "a \"quote\"",
            partial: true,
            fields: Value::Null,
        };
        let read: Value = serde_json::from_slice(&encode(&line)).unwrap();
        assert_eq!(read["stream"], "stderr");
        assert_eq!(read["requestId"], "r1");
        assert_eq!(read["message"], "a \"quote\"");
        assert_eq!(read["partial"], true);
        assert!(read["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }
}
