//! HTTP/2 as bytes: frames that no library would send, and what comes back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The code with which a connection is closed whose client overdoes it.
pub const ENHANCE_YOUR_CALM: u32 = 11;
pub const CANCEL: [u8; 4] = [0, 0, 0, 8];

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field, without a place in any table.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.extend(length(text.len()));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// An integer with a prefix of seven bits.
fn length(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// The fields that every request has.
pub fn head(method: &str, host: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A request without a body.
pub fn get(stream: u32, host: &str, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", host, path))
}

/// A frame that came back.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection whose client says what it will.
pub struct Client {
    pub io: TcpStream,
}

impl Client {
    /// Connects and opens the connection as it should be.
    pub async fn open(port: SocketAddr) -> Self {
        let mut io = TcpStream::connect(port).await.unwrap();
        io.set_nodelay(true).unwrap();
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { io }
    }

    /// Sends; the port may have closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).await.is_ok()
    }

    /// The next frame; none once the port has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = async {
            self.io.read_exact(&mut head).await.ok()?;
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            self.io.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame { kind: head[3], stream, payload })
        };
        timeout(PATIENCE, read).await.expect("the port says nothing")
    }

    /// Reads until the frame of that kind on that stream; none if the port closes before.
    pub async fn until(&mut self, kind: u8, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind && frame.stream == stream {
                return Some(frame);
            }
        }
    }

    /// The code with which the port ends the connection; none if it just closes.
    pub async fn ended(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if let (GOAWAY, Some(bytes)) = (frame.kind, frame.payload.get(4..8)) {
                code = Some(u32::from_be_bytes(bytes.try_into().unwrap()));
            }
        }
        code
    }

    /// What becomes of the stream: the first byte of its answer's head, or none where it is reset
    /// or the connection ends.
    pub async fn answered(&mut self, stream: u32) -> Option<u8> {
        while let Some(frame) = self.next().await {
            match frame.kind {
                HEADERS if frame.stream == stream => return frame.payload.first().copied(),
                RST_STREAM if frame.stream == stream => return None,
                GOAWAY if frame.payload.get(4..8) != Some(&[0; 4]) => return None,
                _ => {}
            }
        }
        None
    }
}

/// `:status: 200` and `:status: 400` as they stand in the static table.
pub const STATUS_200: u8 = 0x88;
pub const STATUS_400: u8 = 0x8c;

/// All that a client sends who asks for much and reads nothing.
pub fn greedy(host: &str) -> Vec<u8> {
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]),
        get(1, host, "/large"),
    ]
    .concat()
}
