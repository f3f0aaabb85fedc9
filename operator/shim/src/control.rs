//! The port for Rouse itself: takes the code, says what the pod has come to, and gives the last lines
//! of its log.
//!
//! Whoever reaches it may bring the code, and nobody any other than that of the digest. Lines are given
//! to who knows the pod's UID: other tenants reach the port, too.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::Notify;

use crate::code::{Refused, Store};
use crate::problem::{Body, Problem, full, json_response};
use crate::recent::Piece;
use crate::state::Phase;
use crate::supervisor::World;

/// How long code that is pushed may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Header in which who asks for lines names the pod, by its UID.
const POD: &str = "rouse-pod";
/// Headers of lines: which start of the shim said them, after how many bytes they stand, and whether
/// there will be no more.
const LOG_RUN: &str = "rouse-log-run";
const LOG_FROM: &str = "rouse-log-from";
const LOG_END: &str = "rouse-log-end";

/// What answers at the port.
#[derive(Debug)]
pub struct Control {
    world: Arc<World>,
    /// Where the code goes that is pushed; none where it is fetched.
    store: Option<Store>,
    arrived: Notify,
}

impl Control {
    /// One that takes code into `store`, if it is to be pushed.
    pub fn new(world: Arc<World>, store: Option<Store>) -> Self {
        Self { world, store, arrived: Notify::new() }
    }

    /// Waits until the code was brought.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/state") => {
                let state = serde_json::to_value(self.world.board.now()).unwrap_or_default();
                json_response(StatusCode::OK, &state)
            }
            (&Method::PUT, "/code") => match self.take(request).await {
                Ok(()) => json_response(StatusCode::OK, &json!({"taken": true})),
                Err(problem) => problem.response(),
            },
            (&Method::GET, "/logs") => match self.knows(request.headers()) {
                Ok(()) => {
                    let query = request.uri().query().unwrap_or_default().to_owned();
                    self.lines(&query).await
                }
                Err(problem) => problem.response(),
            },
            _ => {
                let known = "there are GET /state, GET /logs and PUT /code here";
                Problem::Nothing(StatusCode::NOT_FOUND, known.into()).response()
            }
        }
    }

    /// Whether who asks knows which pod this is.
    fn knows(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let pod = self.world.settings.names.pod.as_deref();
        let named = headers.get(POD).and_then(|uid| uid.to_str().ok());
        if pod.is_some_and(|pod| named == Some(pod)) {
            return Ok(());
        }
        let why = format!("lines are given to who names this pod by its UID, in the header {POD}");
        Err(Problem::Nothing(StatusCode::FORBIDDEN, why))
    }

    /// The lines from where `query` says, once there are any.
    async fn lines(&self, query: &str) -> Response<Body> {
        let recent = self.world.log.recent();
        let value = |name| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let run = recent.run().to_string();
        // Of an earlier start there is nothing left, and this one is told from its beginning.
        let from = value("from").filter(|_| value("run") == Some(&run));
        let piece = recent.fetch(from.and_then(|from| from.parse().ok()).unwrap_or_default()).await;
        let Piece { from, lines, is_last } = piece;
        let mut response = Response::new(full(lines));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        headers.insert(LOG_RUN, HeaderValue::from(recent.run()));
        headers.insert(LOG_FROM, HeaderValue::from(from));
        if is_last {
            headers.insert(LOG_END, HeaderValue::from_static("true"));
        }
        response
    }

    async fn take(&self, request: Request<Incoming>) -> Result<(), Problem> {
        let Some(store) = &self.store else {
            let fetched = "the code of this pod is fetched, not pushed".to_owned();
            return Err(Problem::Code(StatusCode::CONFLICT, fetched));
        };
        let most = self.world.settings.code.pushed;
        match store.take(request.into_body(), most, PATIENCE).await {
            Ok(is_new) => {
                if is_new {
                    self.arrived.notify_one();
                }
                Ok(())
            }
            Err(refused) => {
                // Code of another digest says nothing of the one that is waited for.
                if matches!(refused, Refused::Bad(_)) {
                    self.world.board.set(Phase::CodeRefused, refused.to_string());
                }
                Err(Problem::Code(status(&refused), refused.to_string()))
            }
        }
    }
}

fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Digest { .. } | Refused::Bad(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Large(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Slow(_) => StatusCode::REQUEST_TIMEOUT,
        Refused::Broken(_) => StatusCode::BAD_REQUEST,
        Refused::Io(_) => StatusCode::INSUFFICIENT_STORAGE,
    }
}
