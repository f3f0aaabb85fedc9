//! HTTP/1.1 by hand on one connection, so that it is known what each request met: a connection
//! that was refused, one that broke, or an answer. It never tries again by itself.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer: a problem document.
const LONGEST: usize = 64 * 1024;

/// An answer that is there to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Whether the connection ends with it.
    pub closes: bool,
    /// What a problem tells.
    pub problem: Problem,
}

/// What a problem document tells; nothing where there is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The end of its type.
    pub kind: String,
    /// What happened, in words.
    pub detail: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// Nobody listens there.
    Refused,
    /// The connection did not come to be.
    Unconnected,
    /// The other side reset the connection.
    Reset,
    /// The other side closed the connection before a byte of the answer.
    Closed,
    /// The connection ended within the answer.
    CutOff,
    /// What came is no answer.
    Nonsense,
    /// Nothing came in time.
    Late,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Unconnected => "no connection",
            Self::Reset => "connection reset",
            Self::Closed => "connection closed before the answer",
            Self::CutOff => "cut off within the answer",
            Self::Nonsense => "an answer that is none",
            Self::Late => "no answer in time",
        })
    }
}

/// Connects to `address`.
pub async fn connect(address: SocketAddr, patience: Duration) -> Result<TcpStream, Broken> {
    match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            drop(stream.set_nodelay(true));
            Ok(stream)
        }
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Err(Broken::Refused),
        Ok(Err(_)) | Err(_) => Err(Broken::Unconnected),
    }
}

/// Sends a GET for `/` of `host` and reads the answer.
pub async fn get(stream: &mut TcpStream, host: &str, patience: Duration) -> Result<Answer, Broken> {
    get_path(stream, (host, "/"), patience).await
}

/// Sends a GET for a path of a host and reads the answer.
pub async fn get_path(
    stream: &mut TcpStream,
    (host, path): (&str, &str),
    patience: Duration,
) -> Result<Answer, Broken> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let exchange = exchange(stream, request.as_bytes());
    timeout(patience, exchange).await.unwrap_or(Err(Broken::Late))
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Answer, Broken> {
    stream.write_all(request).await.map_err(|_| Broken::Reset)?;
    let mut bytes = Vec::new();
    loop {
        let read = match stream.read_buf(&mut bytes).await {
            Ok(read) => read,
            Err(_) if bytes.is_empty() => return Err(Broken::Reset),
            Err(_) => return Err(Broken::CutOff),
        };
        if let Some(answer) = parse(&bytes)? {
            return Ok(answer);
        }
        match (read, bytes.len()) {
            (0, 0) => return Err(Broken::Closed),
            (0, _) => return Err(Broken::CutOff),
            (_, length) if length > LONGEST => return Err(Broken::Nonsense),
            _ => {}
        }
    }
}

/// The answer, once it is there to its end.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, Broken> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|_| Broken::Nonsense)?;
    let httparse::Status::Complete(start) = parsed else { return Ok(None) };
    let value = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let body = bytes.get(start..).unwrap_or_default();
    let ended = match value("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"\r\n0\r\n\r\n"),
    };
    if !ended {
        return Ok(None);
    }
    Ok(Some(Answer {
        status: head.code.unwrap_or_default(),
        closes: value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        problem: problem(body).unwrap_or_default(),
    }))
}

/// It may come in a chunk.
fn problem(body: &[u8]) -> Option<Problem> {
    let begin = body.iter().position(|byte| *byte == b'{')?;
    let end = body.iter().rposition(|byte| *byte == b'}')?;
    let document: Value = serde_json::from_slice(body.get(begin..=end)?).ok()?;
    let kind = document["type"].as_str()?.rsplit('/').next()?.to_owned();
    Some(Problem { kind, detail: document["detail"].as_str().unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not_there_yet() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        let answer = parse(text).unwrap().unwrap();
        assert_eq!((answer.status, answer.closes), (200, true));
        assert_eq!(answer.problem, Problem::default());
        assert!(parse(&text[..text.len() - 1]).unwrap().is_none());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn a_problem_is_told_by_its_type_and_detail() {
        let body = br#"{"type":"https://rouse.dev/problems/peer-broke","detail":"it broke"}"#;
        let told = Problem { kind: "peer-broke".into(), detail: "it broke".into() };
        assert_eq!(problem(body), Some(told));
        let chunk = [b"47\r\n", &body[..], b"\r\n0\r\n\r\n"].concat();
        assert_eq!(problem(&chunk), problem(body));
        assert_eq!(problem(b"Hello"), None);
    }
}
