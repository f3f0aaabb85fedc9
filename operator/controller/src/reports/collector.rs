//! Connects to every member's peer port and reads its stream of reports. It only reads; a stream
//! that breaks is opened again after a while.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rouse_core::membership::{Member, Membership};
use rouse_core::report::{REPORTS_PATH, ReportLine};
use rouse_peer::{ConnectError, Protocol};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backoff::delay;
use crate::context::Shared;
use crate::error::{Class, chain};
use crate::line::{Lines, TooLong};

/// How long the head of the answer may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an activator is asked whether it answers at all, and how long it may take.
const ASKS: u32 = 2;
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stream may be silent: three of the activators' heartbeats.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a member that has left is listened to: it finishes what it serves, and counts that.
const LAST_WORDS: Duration = Duration::from_mins(15);
/// Most failures that lengthen the wait, which is then about eight seconds: a member that is there
/// again is heard soon.
const MAX_FAILURES: u32 = 5;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("reading the peer token")]
    Token(#[source] io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer in time")]
    Silent,
    #[error("building the request")]
    Request(#[from] http::Error),
    #[error("talking to the activator")]
    Http(#[from] hyper::Error),
    #[error("the activator answered {0}")]
    Refused(StatusCode),
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("a line that is no report")]
    Line(#[from] serde_json::Error),
    #[error("the activator ended the stream")]
    Ended,
}

/// Follows all members. Never ends.
pub(crate) async fn run(context: Shared, mut membership: watch::Receiver<Membership>) {
    let mut streams = JoinSet::new();
    let mut by_member: BTreeMap<Member, watch::Sender<bool>> = BTreeMap::new();
    let mut number = 0;
    loop {
        let members = membership.borrow_and_update().members.clone();
        by_member.retain(|member, left| {
            let stays = members.contains(member);
            if !stays {
                left.send_replace(true);
            }
            stays
        });
        for member in members {
            by_member.entry(member).or_insert_with_key(|member| {
                number += 1;
                let (left, leaves) = watch::channel(false);
                streams.spawn(follow(context.clone(), member.clone(), number, leaves));
                left
            });
        }
        for (namespace, name) in context.reports.spoken_for() {
            context.requests.send(&namespace, &name).await;
        }
        while streams.try_join_next().is_some() {}
        if membership.changed().await.is_err() {
            return;
        }
    }
}

/// Marks a member's reports as no longer live, whichever way its stream ends.
struct Following<'a> {
    context: &'a Shared,
    member: &'a Member,
    stream: u64,
}

impl<'a> Following<'a> {
    fn start(context: &'a Shared, member: &'a Member, stream: u64) -> Self {
        context.metrics.report_stream(1);
        Self { context, member, stream }
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.context.metrics.report_stream(-1);
        self.context.reports.end_stream(&self.member.uid, self.stream);
    }
}

/// Follows one member, stream after stream. `first` numbers its streams; members that come later
/// have greater numbers. From a member that has left nothing is taken but what it goes on to count, and
/// that only as long as its stream lasts.
async fn follow(context: Shared, member: Member, first: u64, mut leaves: watch::Receiver<bool>) {
    let mut failures = 0;
    for attempt in 0.. {
        let stream = (first << 32) + attempt;
        let opened = tokio::select! {
            opened = open(&context, &member) => opened,
            () = left(&mut leaves) => return,
        };
        let error = match opened {
            Err(error) => error,
            Ok(body) => {
                failures = 0;
                let _following = Following::start(&context, &member, stream);
                tracing::info!(member = member.name, peer = member.peer, "reports");
                read(&context, &member, stream, (body, &mut leaves)).await
            }
        };
        failures = (failures + 1).min(MAX_FAILURES);
        let wait = delay(Class::Transient, failures, &member.uid);
        tracing::info!(member = member.name, error = chain(&error), "no reports");
        tokio::select! {
            () = sleep(wait) => {}
            () = left(&mut leaves) => return,
        }
    }
}

/// Whether an activator answers at its peer port, asked a few times. None where that can't be told.
pub(crate) async fn answers(context: &Shared, member: &Member) -> Option<bool> {
    use ConnectError::{Dial, Http, Late, NoToken, Tls};
    for _ in 0..ASKS {
        match timeout(ASK_TIMEOUT, open(context, member)).await {
            Ok(Ok(_) | Err(StreamError::Refused(_) | StreamError::Connect(NoToken(_)))) => {
                return Some(true);
            }
            Ok(Err(
                StreamError::Connect(Dial(_) | Tls(_) | Late | Http(_)) | StreamError::Http(_),
            ))
            | Err(_) => {}
            Ok(Err(_)) => return None,
        }
    }
    Some(false)
}

/// Opens a stream. The token is read anew each time: it is replaced before it expires.
async fn open(context: &Shared, member: &Member) -> Result<Incoming, StreamError> {
    let token_file = &context.config.peer_token_file;
    let token = tokio::fs::read_to_string(token_file).await.map_err(StreamError::Token)?;
    let stream = context.connector.connect(member, Protocol::Http1, dial).await?;
    let ask = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the body that is read below, or with the sender.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = chain(&error), "connection to an activator");
            }
        });
        let request = Request::get(REPORTS_PATH)
            .header(HOST, &member.peer)
            .header(AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(StreamError::Refused(status)),
        }
    };
    timeout(HEAD_TIMEOUT, ask).await.map_err(|_| StreamError::Silent)?
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits until the member has left.
async fn left(leaves: &mut watch::Receiver<bool>) {
    // Without a sender nobody follows any more.
    drop(leaves.wait_for(|left| *left).await);
}

/// Reads reports until the stream ends; why it did.
async fn read(
    context: &Shared,
    member: &Member,
    stream: u64,
    (mut body, leaves): (Incoming, &mut watch::Receiver<bool>),
) -> StreamError {
    let mut lines = Lines::default();
    let mut last_words_by = None;
    loop {
        let gone = last_words_by.is_some();
        let silence = Instant::now() + SILENCE;
        let silence = last_words_by.map_or(silence, |by: Instant| by.min(silence));
        let frame = tokio::select! {
            frame = timeout_at(silence, body.frame()) => frame,
            () = left(leaves), if !gone => {
                context.reports.end_stream(&member.uid, stream);
                last_words_by = Some(Instant::now() + LAST_WORDS);
                continue;
            }
        };
        let frame = match frame {
            Err(_) => return StreamError::Silent,
            Ok(None) => return StreamError::Ended,
            Ok(Some(Err(error))) => return error.into(),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(chunk) = frame.data_ref() {
            lines.push(chunk);
        }
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => return error.into(),
            };
            match serde_json::from_slice(&line) {
                Ok(line) if gone => take_usage(context, line).await,
                Ok(line) => take(context, member, stream, line).await,
                Err(error) => return error.into(),
            }
        }
    }
}

async fn take_usage(context: &Shared, line: ReportLine) {
    for (namespace, name) in context.reports.accept_usage(line) {
        context.requests.send(&namespace, &name).await;
    }
}

async fn take(context: &Shared, member: &Member, stream: u64, line: ReportLine) {
    context.metrics.report_line(match line {
        ReportLine::Function(_) => "function",
        ReportLine::Released { .. } => "released",
        ReportLine::Synced => "synced",
        ReportLine::Routed(_) => "routed",
        ReportLine::Heartbeat => "heartbeat",
        ReportLine::Usage(_) => "usage",
        ReportLine::Process(_) => "process",
        ReportLine::Farewell(_) => "farewell",
    });
    for (namespace, name) in context.reports.accept(&member.uid, stream, line) {
        context.requests.send(&namespace, &name).await;
    }
}
