//! Which protocol a client speaks: HTTP/2 begins with words that are no request of HTTP/1.1
//! (RFC 9113, 3.4). Reads no more than these have, and keeps what it has read.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct FirstWords {
    heard: [u8; PREFACE.len()],
    count: usize,
}

impl FirstWords {
    /// Listens until it is clear what is spoken. None where the client leaves before. Dropped it has
    /// lost nothing of what it heard.
    pub async fn hear(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Spoken>> {
        loop {
            let (heard, free) = self.heard.split_at_mut(self.count);
            if !PREFACE.starts_with(heard) {
                return Ok(Some(Spoken::Http1));
            }
            if free.is_empty() {
                return Ok(Some(Spoken::Http2));
            }
            match io.read(free).await? {
                0 => return Ok(None),
                count => self.count += count,
            }
        }
    }

    /// All that was heard.
    pub fn take(self) -> Bytes {
        Bytes::copy_from_slice(self.heard.get(..self.count).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// What is heard when `said` comes in pieces of `piece` bytes, and the client then leaves.
    async fn heard(said: &[u8], piece: usize) -> (Option<Spoken>, Bytes) {
        let (mut near, mut far) = duplex(64);
        let mut words = FirstWords::default();
        for piece in said.chunks(piece) {
            near.write_all(piece).await.unwrap();
            if let Some(spoken) = words.hear(&mut far).now_or_never() {
                return (spoken.unwrap(), words.take());
            }
        }
        drop(near);
        (words.hear(&mut far).await.unwrap(), words.take())
    }

    #[tokio::test]
    async fn either_protocol_is_known_by_its_first_words_however_they_come() {
        for piece in [1, 5, 64] {
            let (spoken, kept) = heard(PREFACE, piece).await;
            assert_eq!((spoken, &*kept), (Some(Spoken::Http2), &PREFACE[..]));
            for said in ["GET / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "POST /", "\r\nGET /"] {
                let (spoken, kept) = heard(said.as_bytes(), piece).await;
                assert_eq!(spoken, Some(Spoken::Http1), "{said}");
                assert!(said.as_bytes().starts_with(&kept) && !kept.is_empty());
            }
            assert_eq!(heard(b"PRI", piece).await.0, None, "it leaves");
        }
    }
}
