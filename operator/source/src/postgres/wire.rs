//! The messages of PostgreSQL on one connection. Nothing is read ahead of a message but what one
//! look at the socket brings; a message that is larger than the bound is refused before it is read.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::failure::Failure;

/// How long an answer, and sending anything, may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What one message, such as a row, may have.
const LARGEST: usize = 64 << 20;
/// What is asked of the socket at once.
const CHUNK: usize = 64 << 10;
/// A buffer that grew beyond this for one message is given back.
const KEPT: usize = 1 << 20;
/// Announces that both sides talk from now on. The library does not know it.
const COPY_BOTH: u8 = b'W';

/// What the server sent.
pub(super) enum Heard {
    /// Both sides talk from now on.
    Both,
    /// Anything else.
    Message(Message),
}

/// Why a question has no answer.
pub(super) enum Fault {
    /// The server refused; the connection goes on.
    Refused(Refusal),
    /// The connection is of no use any more.
    Broken(Failure),
}

impl Fault {
    /// What it means where nothing more is known.
    pub fn failure(self, doing: &'static str) -> Failure {
        match self {
            Self::Refused(refusal) => refusal.failure(doing),
            Self::Broken(failure) => failure,
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure)
    }
}

/// The values of a row, as texts.
pub(super) type Row = Vec<Option<String>>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    /// What the message that began lacks.
    lacking: usize,
}

impl Wire {
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: BytesMut::new(), lacking: 0 }
    }

    /// The next message, if all of it is here.
    pub fn take(&mut self) -> Result<Option<Heard>, Failure> {
        let malformed = |error| Failure::away("reading from PostgreSQL", error);
        let header = Header::parse(&self.buffer).map_err(malformed)?;
        let Some(header) = header else {
            self.lacking = 0;
            return Ok(None);
        };
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
        if length > LARGEST {
            return Err(too_large(length));
        }
        self.lacking = length.saturating_sub(self.buffer.len());
        if self.lacking > 0 {
            return Ok(None);
        }
        let heard = if header.tag() == COPY_BOTH {
            self.buffer.advance(length);
            Some(Heard::Both)
        } else {
            Message::parse(&mut self.buffer).map_err(malformed)?.map(Heard::Message)
        };
        if self.buffer.capacity() > KEPT && self.buffer.len() <= CHUNK {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Ok(heard)
    }

    /// Reads something. Nothing is lost when it is dropped.
    pub async fn fill(&mut self) -> Result<(), Failure> {
        const DOING: &str = "reading from PostgreSQL";
        self.buffer.reserve(self.lacking.max(CHUNK));
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Failure::away(DOING, "the server closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::away(DOING, error)),
        }
    }

    /// Waits for the next message.
    pub async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            if let Some(heard) = self.take()? {
                return Ok(heard);
            }
            self.fill().await?;
        }
    }

    /// Sends what `write` puts into the buffer. When it is dropped or fails the connection is of no
    /// use any more.
    pub async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        const DOING: &str = "writing to PostgreSQL";
        let mut buffer = BytesMut::new();
        write(&mut buffer).map_err(|error| Failure::away(DOING, error))?;
        let sent = async {
            self.stream.write_all(&buffer).await?;
            self.stream.flush().await
        };
        match timeout(PATIENCE, sent).await {
            Ok(sent) => sent.map_err(|error| Failure::away(DOING, error)),
            Err(_) => Err(Failure::away(DOING, "the server takes nothing")),
        }
    }

    /// Asks the server something, and waits for its answer for so long.
    pub async fn query(&mut self, sql: &str, patience: Duration) -> Result<Vec<Row>, Fault> {
        const DOING: &str = "asking PostgreSQL";
        self.send(|buffer| frontend::query(sql, buffer)).await?;
        match timeout(patience, self.answer()).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::away(DOING, "it does not answer").into()),
        }
    }

    async fn answer(&mut self) -> Result<Vec<Row>, Fault> {
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let Heard::Message(message) = self.next().await? else { continue };
            match message {
                Message::DataRow(body) => rows.push(row(&body)?),
                Message::ErrorResponse(body) => {
                    let refusal = Refusal::of(&body);
                    if refusal.is_last() {
                        return Err(Fault::Refused(refusal));
                    }
                    refused = Some(refusal);
                }
                Message::ReadyForQuery(_) => {
                    return refused.map_or(Ok(rows), |refusal| Err(Fault::Refused(refusal)));
                }
                _ => {}
            }
        }
    }

    /// Says good-bye and waits for the server to have heard it.
    pub async fn close(mut self) {
        let closed = async {
            self.send(|buffer| {
                frontend::terminate(buffer);
                Ok(())
            })
            .await?;
            // What still comes is sent again to whoever comes next.
            loop {
                self.fill().await?;
                self.buffer.clear();
            }
        };
        let closed: Result<Result<(), Failure>, _> = timeout(Duration::from_secs(1), closed).await;
        // It ends with the connection, as it should.
        drop(closed);
    }
}

fn row(body: &DataRowBody) -> Result<Row, Failure> {
    let malformed = |error| Failure::away("reading from PostgreSQL", error);
    let values = body.ranges().map(|range| {
        let bytes = range.and_then(|range| body.buffer().get(range));
        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    });
    values.collect().map_err(malformed)
}

fn too_large(length: usize) -> Failure {
    Failure::Invalid(format!(
        "PostgreSQL sent a row of {} MiB, and Rouse takes {} at most: leave large columns out of the \
         publication, and move the slot past this row with pg_replication_slot_advance",
        length >> 20,
        LARGEST >> 20
    ))
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_message_is_taken_when_all_of_it_is_here() {
        let (ours, mut theirs) = duplex(1 << 16);
        let mut wire = Wire::new(ours);
        theirs.write_all(b"W\0\0\0\x07\0\0\0d\0\0\0\x09").await.unwrap();
        wire.fill().await.unwrap();
        assert!(matches!(wire.take().unwrap(), Some(Heard::Both)));
        assert!(wire.take().unwrap().is_none());
        theirs.write_all(b"hello").await.unwrap();
        wire.fill().await.unwrap();
        let Some(Heard::Message(Message::CopyData(body))) = wire.take().unwrap() else {
            panic!("nothing heard")
        };
        assert_eq!(body.data(), b"hello");
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_it_is_read() {
        let (ours, mut theirs) = duplex(64);
        let mut wire = Wire::new(ours);
        theirs.write_all(b"d\x7f\xff\xff\xff").await.unwrap();
        wire.fill().await.unwrap();
        assert_eq!(wire.take().map(drop).unwrap_err().reason(), "SourceInvalid");
        assert!(wire.buffer.capacity() < 1 << 20);
    }

    #[tokio::test]
    async fn a_buffer_that_grew_for_one_message_is_given_back() {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut wire = Wire::new(ours);
        let length = 8_u32 << 20;
        let sent = tokio::spawn(async move {
            let header = [&b"d"[..], &(length + 4).to_be_bytes()].concat();
            theirs.write_all(&header).await.unwrap();
            theirs.write_all(&vec![b'x'; length as usize]).await.unwrap();
            theirs
        });
        assert!(matches!(wire.next().await.unwrap(), Heard::Message(Message::CopyData(_))));
        drop(sent.await.unwrap());
        assert!(wire.buffer.capacity() <= KEPT, "{}", wire.buffer.capacity());
    }
}
