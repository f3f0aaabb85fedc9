//! A connection to a server that lets in whoever comes, by the library that the source uses.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Announces that both sides talk from now on. The library does not know it.
const COPY_BOTH: u8 = b'W';
/// What is asked of the socket at once.
const CHUNK: usize = 64 << 10;

/// The connection.
pub struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    /// Connects and logs in; with `replication` it can be told of changes.
    pub async fn open(address: SocketAddr, replication: bool) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, buffer: BytesMut::new() };
        let mut parameters = vec![("user", "postgres"), ("database", "postgres")];
        if replication {
            parameters.push(("replication", "database"));
        }
        wire.send(|buffer| frontend::startup_message(parameters, buffer)).await?;
        wire.answer().await?;
        Ok(wire)
    }

    /// Sends what `write` puts into the buffer.
    pub async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut buffer = BytesMut::new();
        write(&mut buffer)?;
        Ok(self.stream.write_all(&buffer).await?)
    }

    /// Runs `sql`, and gives the first value of the first row, where there is one.
    pub async fn run(&mut self, sql: &str) -> anyhow::Result<Option<String>> {
        self.send(|buffer| frontend::query(sql, buffer)).await?;
        self.answer().await.with_context(|| sql.chars().take(80).collect::<String>())
    }

    /// The next message; none where it is said that both sides talk from now on. Nothing is lost
    /// when it is dropped.
    pub async fn next(&mut self) -> anyhow::Result<Option<Message>> {
        loop {
            let header = Header::parse(&self.buffer)?;
            if let Some(header) = header.filter(|header| header.tag() == COPY_BOTH) {
                let length = usize::try_from(header.len())? + 1;
                if self.buffer.len() >= length {
                    self.buffer.advance(length);
                    return Ok(None);
                }
            } else if let Some(message) = Message::parse(&mut self.buffer)? {
                return Ok(Some(message));
            }
            self.buffer.reserve(CHUNK);
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server is gone");
        }
    }

    async fn answer(&mut self) -> anyhow::Result<Option<String>> {
        let mut value = None;
        loop {
            match self.next().await? {
                Some(Message::DataRow(row)) if value.is_none() => {
                    let first = row.ranges().next()?.flatten();
                    let bytes = first.and_then(|range| row.buffer().get(range));
                    value = bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                }
                Some(Message::ErrorResponse(body)) => {
                    let parts = body
                        .fields()
                        .map(|field| Ok(String::from_utf8_lossy(field.value_bytes()).into_owned()));
                    bail!("the server says: {}", parts.collect::<Vec<_>>()?.join(", "));
                }
                Some(Message::ReadyForQuery(_)) => return Ok(value),
                _ => {}
            }
        }
    }
}
