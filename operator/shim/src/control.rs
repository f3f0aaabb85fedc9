//! The port for Rouse itself: takes the code, and says what the pod has come to.
//!
//! Whoever reaches it may bring the code, and nobody any other than that of the digest.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::Notify;

use crate::code::{Refused, Store};
use crate::problem::{Body, Problem, json_response};
use crate::state::Phase;
use crate::supervisor::World;

/// How long code that is pushed may take.
const PATIENCE: Duration = Duration::from_secs(20);

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
            _ => {
                let known = "there are GET /state and PUT /code here";
                Problem::Nothing(StatusCode::NOT_FOUND, known.into()).response()
            }
        }
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
