//! The last phase: the answer's head goes back, and what the request holds goes into its body.

use std::sync::Arc;

use http::header::{HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::Inner;
use super::exchange::Exchange;
use super::tunnel::{self, Limits};
use crate::admission::Permit;
use crate::body::{AnswerBody, Clock, Hold, ResponseBody, Source};
use crate::forward::Answer;
use crate::headers;
use crate::problem::Failure;
use crate::server_timing::{self, Moments};
use crate::upstream::{PodBody, Reply};

impl Inner {
    /// The answer of a pod.
    pub(super) fn respond(
        &self,
        reply: Reply,
        permit: Permit,
        exchange: &mut Exchange,
    ) -> Result<Response<ResponseBody>, Failure> {
        let Reply { mut response, lease, sent } = reply;
        let at = permit.granted_at();
        permit.note_first_byte(exchange.caller);
        let switched = switched_to(&response);
        headers::sanitise_response(response.headers_mut());
        exchange.note_pod(&permit.pod().name, at, response.headers_mut());
        if permit.waited_since().is_some() {
            let start = &permit.pod().start;
            let answered = Instant::now();
            let moments = Moments { arrived: exchange.arrived, granted: at, sent, answered };
            server_timing::append(response.headers_mut(), &moments, start);
            if start.listening.is_some_and(|listening| listening >= exchange.arrived) {
                exchange.series.note_activated();
            }
        }
        let deadline = sent + exchange.timeouts.request;
        let hold = Hold {
            upload: None,
            lease,
            permit: Some(permit),
            in_flight: exchange.in_flight.take(),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, switched, (hold, Some(deadline)), exchange);
        }
        let clock =
            Clock { deadline, idle: exchange.timeouts.idle, buffers_short: exchange.buffers_short };
        let response =
            response.map(|body| AnswerBody::new(Source::Pod(body), hold, Some(clock)).into());
        Ok(with_version(response))
    }

    /// The answer of the activator that owns the Function. It keeps the time and the slot.
    pub(super) fn respond_forwarded(
        &self,
        answer: Answer,
        exchange: &mut Exchange,
    ) -> Result<Response<ResponseBody>, Failure> {
        let in_flight = exchange.in_flight.take();
        match answer {
            Answer::Stream { mut response, upload } => {
                exchange.note_told_pod(response.headers());
                headers::sanitise_response(response.headers_mut());
                let hold = Hold { upload, in_flight, ..Hold::default() };
                let response =
                    response.map(|body| AnswerBody::new(Source::Peer(body), hold, None).into());
                Ok(with_version(response))
            }
            Answer::Connection(mut response) => {
                let switched = switched_to(&response);
                exchange.note_told_pod(response.headers());
                headers::sanitise_response(response.headers_mut());
                let hold = Hold { in_flight, ..Hold::default() };
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return self.switch(response, switched, (hold, None), exchange);
                }
                let response = response.map(|body| {
                    AnswerBody::new(Source::Pod(PodBody::Http(body)), hold, None).into()
                });
                Ok(with_version(response))
            }
        }
    }

    /// Lets both sides speak the protocol that they agreed on, for as long as `hold` may last.
    fn switch<B>(
        &self,
        mut response: Response<B>,
        protocol: Option<HeaderValue>,
        (hold, deadline): (Hold, Option<Instant>),
        exchange: &mut Exchange,
    ) -> Result<Response<ResponseBody>, Failure> {
        let (Some(protocol), Some(upgrade)) = (protocol, exchange.upgrade.take()) else {
            return Err(Failure::PodBroke {
                function: exchange.handle.key.clone(),
                pod: hold.permit.as_ref().map_or_else(Arc::default, |p| Arc::clone(&p.pod().name)),
                error: "it changed to another protocol without being asked".into(),
            });
        };
        let function = hyper::upgrade::on(&mut response);
        // Without a deadline it is another activator that keeps the time.
        let limits = Limits { deadline, idle: deadline.and(exchange.timeouts.idle) };
        self.tunnels.spawn(tunnel::run(upgrade.client, function, hold, limits));
        headers::restore_upgrade(response.headers_mut(), protocol);
        Ok(with_version(response.map(|_| ResponseBody::empty())))
    }
}

/// The protocol that an answer changes to.
fn switched_to<B>(response: &Response<B>) -> Option<HeaderValue> {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    switching.then(|| response.headers().get(UPGRADE).cloned()).flatten()
}

/// The version of an answer is that of the connection that it goes out on.
pub(super) fn with_version<B>(mut response: Response<B>) -> Response<B> {
    *response.version_mut() = http::Version::HTTP_11;
    response.extensions_mut().clear();
    response
}
