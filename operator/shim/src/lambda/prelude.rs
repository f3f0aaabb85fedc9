//! The beginning of a streamed answer: a JSON object with status and headers, eight NULs, and then
//! the body. Pure.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::answer::{Malformed, head_of};

/// The type of a stream that begins so.
pub const CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";
/// What ends it.
const END: &[u8] = &[0; 8];
/// What it may have.
const LONGEST: usize = 64 << 10;

/// Reads it, piece by piece.
#[derive(Debug, Default)]
pub struct Prelude {
    read: BytesMut,
}

/// What follows from the pieces so far.
#[derive(Debug)]
pub enum Read {
    /// It goes on.
    More(Prelude),
    /// It is read.
    Whole {
        /// The status.
        status: StatusCode,
        /// The headers.
        headers: HeaderMap,
        /// The body's beginning.
        rest: Bytes,
    },
}

impl Prelude {
    /// Takes the next piece.
    pub fn take(mut self, piece: &[u8]) -> Result<Read, Malformed> {
        // The end may lie across two pieces.
        let from = self.read.len().saturating_sub(END.len() - 1);
        self.read.extend_from_slice(piece);
        let news = self.read.get(from..).unwrap_or_default();
        let Some(at) = news.windows(END.len()).position(|window| window == END) else {
            return if self.read.len() > LONGEST {
                Err(Malformed::Body("a stream with a prelude of at most 64 KiB"))
            } else {
                Ok(Read::More(self))
            };
        };
        let prelude = self.read.split_to(from + at);
        let rest = self.read.split_off(END.len()).freeze();
        let mut object: Map<String, Value> =
            serde_json::from_slice(&prelude).map_err(|_| Malformed::Json)?;
        let (status, headers) = head_of(&mut object)?;
        Ok(Read::Whole { status, headers, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_however_it_is_cut() {
        let mut whole = br#"{"statusCode":201,"headers":{"x-a":"1"},"cookies":["c=1"]}"#.to_vec();
        whole.extend_from_slice(END);
        whole.extend_from_slice(b"body");
        for size in 1..whole.len() {
            let mut prelude = Some(Prelude::default());
            let mut after = Vec::new();
            for piece in whole.chunks(size) {
                match prelude.take() {
                    None => after.extend_from_slice(piece),
                    Some(reading) => match reading.take(piece).unwrap() {
                        Read::More(reading) => prelude = Some(reading),
                        Read::Whole { status, headers, rest } => {
                            assert_eq!(status, 201);
                            assert_eq!(headers.len(), 2);
                            after.extend_from_slice(&rest);
                        }
                    },
                }
            }
            assert_eq!(after, b"body", "pieces of {size}");
        }
    }

    #[test]
    fn one_without_end_is_refused() {
        assert!(Prelude::default().take(&vec![b' '; LONGEST + 1]).is_err());
    }
}
