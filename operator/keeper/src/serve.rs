//! What a keeper answers: people, what it has of a Function; the next keeper, all that it has.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use rouse_core::kept::{KEPT_PATH, POD_HEADER};
use rouse_listen::{Reply, say};
use tokio::sync::watch;

use crate::store::Store;

/// Where the next keeper says that it has all.
pub(crate) const TAKEN: &str = "/v1/taken";

/// Answers with what is kept. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    pub store: Arc<Store>,
    /// UID of the own pod.
    pub uid: Arc<str>,
    /// Turns true when another keeper has all.
    pub taken: watch::Sender<bool>,
}

impl Desk {
    /// Answers people. They were let in by the API server.
    pub async fn answer<B>(self, request: Request<B>) -> Reply {
        let (head, _) = request.into_parts();
        match (&head.method, function(head.uri.path())) {
            (&Method::GET, Some(name)) => self.read(name.to_owned()).await,
            _ => say(StatusCode::NOT_FOUND, "there is GET /v1/functions/NAME here"),
        }
    }

    /// Answers the next keeper, which knows the pod's UID: who else comes is of another namespace.
    pub async fn hand_over<B>(self, request: Request<B>) -> Reply {
        let (head, _) = request.into_parts();
        let named = head.headers.get(POD_HEADER).and_then(|uid| uid.to_str().ok());
        if named != Some(&*self.uid) {
            return say(
                StatusCode::FORBIDDEN,
                "what is kept is given to who names this pod by its UID",
            );
        }
        match (&head.method, head.uri.path()) {
            (&Method::GET, KEPT_PATH) => {
                let list = serde_json::to_vec(&self.store.functions()).unwrap_or_default();
                Response::new(Full::new(list.into()))
            }
            (&Method::POST, TAKEN) => {
                self.taken.send_replace(true);
                say(StatusCode::OK, "done")
            }
            (&Method::GET, path) => match function(path) {
                Some(name) => self.read(name.to_owned()).await,
                None => say(StatusCode::NOT_FOUND, "there is nothing here"),
            },
            _ => say(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }

    async fn read(self, function: String) -> Reply {
        let read = tokio::task::spawn_blocking(move || self.store.read(&function)).await;
        match read {
            Ok(Ok(text)) => Response::new(Full::new(Bytes::from(text))),
            Ok(Err(error)) => say(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            Err(_) => say(StatusCode::INTERNAL_SERVER_ERROR, "the keeper ends"),
        }
    }
}

fn function(path: &str) -> Option<&str> {
    let name = path.strip_prefix(KEPT_PATH)?.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}
