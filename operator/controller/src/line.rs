//! Cuts a stream of chunks into lines of bounded length.

use bytes::{Buf, Bytes, BytesMut};

/// Longest line that is taken, in bytes: a report of a Function with a thousand revisions is far
/// shorter.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// A line is longer than [`MAX_LINE`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {MAX_LINE} bytes")]
pub(crate) struct TooLong;

/// Collects chunks and gives lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: BytesMut,
    /// Bytes of `rest` that are known to hold no end of line.
    searched: usize,
}

impl Lines {
    pub fn push(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
    }

    /// The next whole line without its end; none until more chunks come.
    pub fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        let unsearched = self.rest.get(self.searched..).unwrap_or_default();
        match unsearched.iter().position(|byte| *byte == b'\n') {
            Some(found) => {
                let line = self.rest.split_to(self.searched + found).freeze();
                self.rest.advance(1);
                self.searched = 0;
                Ok(Some(line))
            }
            None if self.rest.len() > MAX_LINE => Err(TooLong),
            None => {
                self.searched = self.rest.len();
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_chunks() {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in ["a\nb", "", "c", "\n\nd\n", "rest"] {
            lines.push(chunk.as_bytes());
            while let Some(line) = lines.next().unwrap() {
                out.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        assert_eq!(out, ["a", "bc", "", "d"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(lines.next(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next(), Err(TooLong));
    }
}
