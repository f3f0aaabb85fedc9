//! Language processes that listen on a port of their own: finds one for each start, knows when it is
//! open, and holds the connections to it.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::Uri;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::problem::Problem;
use crate::process::Requests;
use crate::supervisor::{Handle, Tongue, World};
use crate::unsent::Lent;

/// The first and the longest pause between two looks at whether a port is open.
pub const FIRST_LOOK: Duration = Duration::from_millis(1);
pub const LONGEST_LOOK: Duration = Duration::from_millis(20);
/// What has begun to open is looked at so often in the time that it has taken so far: whoever waits
/// waits for a sixtieth of that more at most.
const LOOKS: u32 = 64;
/// How long a process that broke off an answer may take to be seen gone.
const SEEN_GONE: Duration = Duration::from_millis(200);
/// A connection that rests this long is closed, before most servers close it.
const REST: Duration = Duration::from_secs(4);

/// What is asked of a process that may hang, and how long it may take to say anything.
const QUESTION: &[u8] = b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const QUESTION_PATIENCE: Duration = Duration::from_secs(2);

/// When such a process takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// When it accepts a connection.
    WhenItListens,
    /// When it has answered something, whatever it is.
    WhenItAnswers,
}

/// The variables that a process needs, by its port.
pub type Variables = Box<dyn Fn(u16) -> Vec<(String, String)> + Send + Sync>;

/// A language process with a port of its own.
pub struct PortTongue {
    opens: Opens,
    variables: Variables,
    /// The port of all of them; none for any that is free.
    fixed: Option<u16>,
    port: AtomicU16,
    requests: Arc<Requests>,
    /// The process that takes requests, or why there is none.
    target: watch::Sender<Result<Arc<Target>, String>>,
}

/// A process that takes requests.
#[derive(Debug)]
pub struct Target {
    /// Its port.
    pub port: u16,
    /// Has it replaced.
    pub handle: Handle,
    /// Connections to it.
    pub client: Client<HttpConnector, Lent>,
}

impl Target {
    /// Whether it answers a question that every server of HTTP answers, and that changes nothing.
    pub async fn answers(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            stream.write_all(QUESTION).await?;
            stream.read(&mut [0; 1]).await
        };
        matches!(timeout(QUESTION_PATIENCE, ask).await, Ok(Ok(1)))
    }
}

impl PortTongue {
    /// One whose processes get `variables`, and listen at the port `fixed` if there is one.
    pub fn new(opens: Opens, variables: Variables, fixed: Option<u16>) -> Self {
        let target = watch::Sender::new(Err(String::new()));
        let (port, requests) = (AtomicU16::new(0), Arc::default());
        Self { opens, variables, fixed, port, requests, target }
    }

    /// The process that takes requests, as soon as there is one.
    pub async fn target(&self, world: &World, deadline: Instant) -> Result<Arc<Target>, Problem> {
        let mut targets = self.target.subscribe();
        let late = Problem::Late(world.settings.times.request.as_millis());
        let up = async {
            let up = targets.wait_for(Result::is_ok).await;
            up.ok().and_then(|target| target.as_ref().ok().cloned()).ok_or(Problem::Ending)
        };
        tokio::select! {
            biased;
            up = timeout_at(deadline, up) => up.map_err(|_| late)?,
            message = world.board.until_failed() => Err(Problem::Init(message)),
        }
    }

    /// Why `target` broke off an answer: it is gone, or `otherwise`.
    pub async fn why_gone(&self, target: &Target, otherwise: String) -> String {
        let mut targets = self.target.subscribe();
        let other = |now: &Result<Arc<Target>, String>| {
            now.as_ref().map_or(true, |now| !std::ptr::eq(now.as_ref(), target))
        };
        let gone = timeout_at(Instant::now() + SEEN_GONE, targets.wait_for(other)).await;
        let cause = gone.ok().and_then(Result::ok).and_then(|now| now.as_ref().err().cloned());
        cause.unwrap_or(otherwise)
    }
}

impl Tongue for PortTongue {
    async fn prepare(&self) -> io::Result<Vec<(String, String)>> {
        // Nobody else opens ports here between this and the process, or there is one for it alone.
        let port = match self.fixed {
            Some(port) => port,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port(),
        };
        self.port.store(port, Ordering::Relaxed);
        Ok((self.variables)(port))
    }

    async fn ready(&self) -> Result<(), String> {
        let port = self.port.load(Ordering::Relaxed);
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            sleep((begun.elapsed() / LOOKS).clamp(FIRST_LOOK, LONGEST_LOOK)).await;
        }
        if self.opens == Opens::WhenItAnswers {
            let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
            while client.get(root(port)).await.is_err() {
                sleep(LONGEST_LOOK).await;
            }
        }
        Ok(())
    }

    fn begin(&self, handle: Handle) {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(REST)
            .build({
                let mut connector = HttpConnector::new();
                connector.set_nodelay(true);
                connector
            });
        let port = self.port.load(Ordering::Relaxed);
        let target = Target { port, handle, client };
        drop(self.target.send_replace(Ok(Arc::new(target))));
    }

    fn ends(&self, cause: &str) {
        self.gone(cause);
    }

    fn gone(&self, cause: &str) {
        drop(self.target.send_replace(Err(cause.to_owned())));
    }

    fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }
}

fn root(port: u16) -> Uri {
    let authority = http::uri::Authority::try_from(format!("127.0.0.1:{port}"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = authority.ok();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}
