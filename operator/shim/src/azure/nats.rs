//! Publishes messages to streams of NATS, and waits until these have stored them: what bindings that send
//! to queues become. Of the protocol there is what publishing takes, and no more; a client of NATS would
//! be larger than all the rest of this program.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::code::fetch::secured;
use crate::lambda::new_id;
use crate::percent::decoded;

/// How long messages may take to be stored.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest line that a server says: its description of itself.
const LONGEST: u64 = 64 << 10;
/// What a server answers with at most.
const ANSWER: usize = 64 << 10;

/// A server, and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    secured: bool,
    login: Option<(String, Option<String>)>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is published under.
    pub subject: String,
    /// By which a stream knows that it has it already.
    pub id: Option<String>,
    /// What it says.
    pub body: Vec<u8>,
}

/// Why messages were not stored, or nobody knows whether they were.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// It took too long.
    #[error("the server {0} did not store it within 10 s")]
    Late(String),
    /// The connection failed.
    #[error("the connection to the server {0}: {1}")]
    Broken(String, std::io::Error),
    /// The server says no.
    #[error("the server says: {0}")]
    Refused(String),
    /// No stream takes it.
    #[error("no stream has the subject {0:?}: make one, such as `nats stream add --subjects {0}`")]
    Nowhere(String),
    /// It is too large.
    #[error("it has {0} bytes, and the server takes {1}")]
    Large(usize, u64),
}

impl std::fmt::Debug for Server {
    /// Without what lets one in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Server {
    /// Reads `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]`, or the same with `tls`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let odd = "its value is no URL nats://HOST:PORT";
        let (secured, rest) = match text.trim().split_once("://") {
            Some(("nats", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            _ => return Err("its value begins neither with nats:// nor with tls://"),
        };
        let (login, place) = match rest.trim_end_matches('/').rsplit_once('@') {
            Some((login, place)) => {
                let (user, password) =
                    login.split_once(':').map_or((login, None), |(user, it)| (user, Some(it)));
                (Some((decoded(user), password.map(decoded))), place)
            }
            None => (None, rest.trim_end_matches('/')),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| odd)?),
            _ => (place, 4222),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '?', ' ']) {
            return Err(odd);
        }
        Ok(Self { host: host.to_owned(), port, secured, login })
    }

    /// Publishes `messages`, and waits until each is stored.
    pub async fn publish(&self, messages: &[Message]) -> Result<(), Unsent> {
        let late = |_| Unsent::Late(self.host.clone());
        timeout(PATIENCE, self.exchange(messages)).await.map_err(late)?
    }

    async fn exchange(&self, messages: &[Message]) -> Result<(), Unsent> {
        let broken = |error| Unsent::Broken(self.host.clone(), error);
        let (mut connection, most) = self.open().await?;
        let inbox = format!("_INBOX.{}", new_id());
        let mut said = format!("CONNECT {}\r\nSUB {inbox}.* 1\r\n", self.greeting()).into_bytes();
        for (number, message) in messages.iter().enumerate() {
            if u64::try_from(message.body.len()).unwrap_or(u64::MAX) > most {
                return Err(Unsent::Large(message.body.len(), most));
            }
            message.write(&mut said, &format!("{inbox}.{number}"));
        }
        connection.get_mut().write_all(&said).await.map_err(broken)?;
        connection.get_mut().flush().await.map_err(broken)?;
        let mut stored = vec![false; messages.len()];
        while stored.contains(&false) {
            let Some((number, answer)) = next_answer(&mut connection).await.map_err(broken)? else {
                continue;
            };
            let message = number.and_then(|number| messages.get(number));
            match answer {
                Answer::Error(text) => return Err(Unsent::Refused(text)),
                Answer::Nobody => {
                    let subject = message.map(|message| message.subject.clone());
                    return Err(Unsent::Nowhere(subject.unwrap_or_default()));
                }
                Answer::Stored => {
                    if let Some(number) = number
                        && let Some(stored) = stored.get_mut(number)
                    {
                        *stored = true;
                    }
                }
            }
        }
        Ok(())
    }

    /// A connection, and the bytes that a message may have.
    async fn open(&self) -> Result<(BufReader<Box<dyn Stream>>, u64), Unsent> {
        let broken = |error| Unsent::Broken(self.host.clone(), error);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(broken)?;
        let _ = stream.set_nodelay(true);
        let mut plain = BufReader::new(stream);
        let info = line(&mut plain).await.map_err(broken)?;
        let info = info.strip_prefix("INFO ").unwrap_or_default();
        let info: Value = serde_json::from_str(info).unwrap_or_default();
        let most = info["max_payload"].as_u64().unwrap_or(1 << 20);
        let stream: Box<dyn Stream> = if self.secured || info["tls_required"] == true {
            let secured = secured(plain.into_inner(), &self.host).await;
            Box::new(secured.map_err(|error| broken(std::io::Error::other(error)))?)
        } else {
            Box::new(plain.into_inner())
        };
        Ok((BufReader::new(stream), most))
    }

    fn greeting(&self) -> Value {
        let mut greeting = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
            "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "name": "rouse-shim",
            "protocol": 1, "tls_required": self.secured,
        });
        match &self.login {
            Some((user, Some(password))) => {
                greeting["user"] = user.as_str().into();
                greeting["pass"] = password.as_str().into();
            }
            Some((token, None)) => greeting["auth_token"] = token.as_str().into(),
            None => {}
        }
        greeting
    }
}

impl Message {
    fn write(&self, said: &mut Vec<u8>, reply: &str) {
        let Self { subject, id, body } = self;
        let mut head = String::new();
        // Writing to a string can't fail.
        let _ = match id {
            Some(id) => {
                // An id may be anything; a header may not.
                let id = URL_SAFE_NO_PAD.encode(id);
                let headers = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
                let (of, all) = (headers.len(), headers.len() + body.len());
                write!(head, "HPUB {subject} {reply} {of} {all}\r\n{headers}")
            }
            None => write!(head, "PUB {subject} {reply} {}\r\n", body.len()),
        };
        said.extend_from_slice(head.as_bytes());
        said.extend_from_slice(body);
        said.extend_from_slice(b"\r\n");
    }
}

/// What carries bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A stream has the message.
    Stored,
    /// Nobody listens there.
    Nobody,
    /// Something is wrong.
    Error(String),
}

/// The next thing that a server says, and of which message it is; none where it is of none.
async fn next_answer(
    connection: &mut BufReader<Box<dyn Stream>>,
) -> std::io::Result<Option<(Option<usize>, Answer)>> {
    let said = line(connection).await?;
    let words: Vec<&str> = said.split(' ').collect();
    match words.as_slice() {
        ["PING", ..] => {
            connection.get_mut().write_all(b"PONG\r\n").await?;
            connection.get_mut().flush().await?;
            Ok(None)
        }
        ["-ERR", ..] => {
            let text = said.trim_start_matches("-ERR").trim().trim_matches('\'').to_owned();
            Ok(Some((None, Answer::Error(text))))
        }
        [kind @ ("MSG" | "HMSG"), subject, .., size] => {
            let odd = || std::io::Error::other("it says something that is not its protocol");
            let size: usize = size.parse().map_err(|_| odd())?;
            if size > ANSWER {
                return Err(odd());
            }
            let mut body = vec![0; size + 2];
            connection.read_exact(&mut body).await?;
            let number = subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let body = body.get(..size).unwrap_or_default();
            let is_nobody = *kind == "HMSG" && body.starts_with(b"NATS/1.0 503");
            Ok(Some((number, if is_nobody { Answer::Nobody } else { acknowledgement(body) })))
        }
        _ => Ok(None),
    }
}

/// What a stream says of a message.
fn acknowledgement(body: &[u8]) -> Answer {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    if said["stream"].is_string() && said.get("error").is_none() {
        return Answer::Stored;
    }
    let why = said["error"]["description"].as_str().unwrap_or("this is no stream that answers");
    Answer::Error(why.to_owned())
}

/// A line without its end.
async fn line<R: AsyncRead + Unpin>(connection: &mut BufReader<R>) -> std::io::Result<String> {
    let mut text = String::new();
    let read = connection.take(LONGEST).read_line(&mut text).await?;
    if read == 0 || !text.ends_with('\n') {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_with_what_lets_one_in_and_never_shown_with_it() {
        let server = Server::parse("nats://shop:p%40ss@nats.shop.svc:4223").unwrap();
        assert_eq!((&*server.host, server.port, server.secured), ("nats.shop.svc", 4223, false));
        assert_eq!(server.login, Some(("shop".into(), Some("p@ss".into()))));
        assert_eq!(format!("{server:?}"), "nats.shop.svc:4223");
        let server = Server::parse("tls://secret@[::1]/").unwrap();
        assert_eq!((&*server.host, server.port, server.secured), ("::1", 4222, true));
        assert_eq!(server.greeting()["auth_token"], "secret");
        for odd in
            ["DefaultEndpointsProtocol=https;AccountName=x", "nats://", "nats://a:x", "http://a"]
        {
            assert!(Server::parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_message_is_framed_whatever_its_id_and_body_are() {
        let mut said = Vec::new();
        let message = Message { subject: "a".into(), id: None, body: b"1\r\n2".to_vec() };
        message.write(&mut said, "r.0");
        assert_eq!(said, b"PUB a r.0 4\r\n1\r\n2\r\n");
        said.clear();
        Message { id: Some("x\r\ny".into()), ..message }.write(&mut said, "r.0");
        let text = String::from_utf8(said).unwrap();
        assert_eq!(text.matches("\r\n").count(), 6, "{text}");
        assert!(text.starts_with("HPUB a r.0 "), "{text}");
    }

    #[test]
    fn a_stream_says_whether_it_has_a_message() {
        assert_eq!(acknowledgement(br#"{"stream":"S","seq":7}"#), Answer::Stored);
        let full = br#"{"error":{"code":503,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#;
        assert_eq!(acknowledgement(full), Answer::Error("maximum messages exceeded".into()));
        assert!(matches!(acknowledgement(b"hello"), Answer::Error(_)));
    }
}
