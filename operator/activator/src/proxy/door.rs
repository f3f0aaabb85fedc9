//! Events that senders bring: passed on to the pod that runs the sources of their namespace. Nothing
//! is woken and nothing waits; a sender that hears 503 sends again.

use std::time::Duration;

use http::Response;
use http::uri::{Scheme, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use rouse_core::routing::Door;
use tokio::time::timeout;

use super::receive::Received;
use super::respond::with_version;
use crate::body::{AnswerBody, Hold, RequestBody, ResponseBody, Source};
use crate::headers;
use crate::problem::Failure;
use crate::upstream::PodBody;

/// How long connecting to the pod may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the body of an event may stand still.
const PAUSE: Duration = Duration::from_mins(1);
/// How long the pod may take to begin its answer: a little longer than a sender may wait there.
const ANSWER: Duration = Duration::from_secs(330);

/// Passes events on.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    client: Client<HttpConnector, RequestBody>,
}

impl Doors {
    /// No connection is made yet.
    pub fn new() -> Self {
        Self { client: rouse_peer::plain_client(CONNECT) }
    }

    /// The answer of the pod behind `door`.
    pub async fn pass(
        &self,
        door: Door,
        received: Received,
    ) -> Result<Response<ResponseBody>, Failure> {
        let away = |error: &str| Failure::SourceAway { error: error.to_owned() };
        let pod = door.pod.ok_or_else(|| away("no such pod runs"))?;
        let mut request = *received.request;
        // The pod bounds the body by itself.
        let _ = request.body_mut().watch(None, Some(PAUSE));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(pod.to_string());
        let uri = uri.path_and_query(headers::path_and_query(request.uri())).build();
        *request.uri_mut() = uri.map_err(|error| away(&error.to_string()))?;
        let answer = timeout(ANSWER, self.client.request(request)).await;
        let answer = answer.map_err(|_elapsed| away("it did not answer in time"))?;
        let mut answer = answer.map_err(|error| away(&rouse_peer::chain(&error)))?;
        headers::sanitise_response(answer.headers_mut());
        let body = |body| {
            let pod = Source::Pod(PodBody::Http(body));
            AnswerBody::new(pod, Hold::default(), None).into()
        };
        Ok(with_version(answer.map(body)))
    }
}
