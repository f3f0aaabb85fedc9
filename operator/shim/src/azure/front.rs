//! Finds the function that a request or an event is for, calls the handler, and answers.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use rouse_azure::{Function, Kind};
use serde_json::{Map, Value, json};

use super::app::Ready;
use super::call::{answer_of, call_of, logs_of, message_of, messages_of, request_of, tick_of};
use super::event::Event;
use crate::events::collect;
use crate::lambda::new_id;
use crate::problem::{Body, Problem, full, json_response};
use crate::proxy::{Proxy, id_of};
use crate::supervisor::World;

/// The path, as with Azure, by which a function that no request calls is called.
const ADMIN: &str = "/admin/functions/";
/// The version of the host as which handlers see this.
const HOST_VERSION: HeaderValue = HeaderValue::from_static("4.0");
const HOST_AGENT: HeaderValue = HeaderValue::from_static("Azure-Functions-Host/4.0");

/// Answers requests by the functions of an app.
pub struct Front {
    world: Arc<World>,
    ready: Arc<Ready>,
    proxy: Proxy,
}

impl Front {
    /// One that calls the handler by `proxy`.
    pub const fn new(world: Arc<World>, ready: Arc<Ready>, proxy: Proxy) -> Self {
        Self { world, ready, proxy }
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let answered = match self.find(&request) {
            Ok((name, function, parameters)) => {
                if self.ready.app.forwards && function.is_plain() {
                    self.forward(request).await
                } else {
                    self.call(name, function, parameters, request).await
                }
            }
            Err(problem) => Err(problem),
        };
        answered.unwrap_or_else(|problem| problem.response())
    }

    /// The function that a request is for, with its parameters.
    fn find(
        &self,
        request: &Request<Incoming>,
    ) -> Result<(&str, &Function, Map<String, Value>), Problem> {
        let path = request.uri().path();
        let functions = || self.ready.app.functions.iter();
        if let Some(name) = path.strip_prefix(ADMIN) {
            let found = functions().find(|(known, function)| {
                known.as_str() == name && !matches!(function.kind, Kind::Http { .. })
            });
            let missing = format!("there is no function {name:?} that events call");
            return found
                .map(|(name, function)| (name.as_str(), function, Map::new()))
                .ok_or(Problem::Nothing(StatusCode::NOT_FOUND, missing));
        }
        let mut is_method = false;
        let mut found: Vec<_> = functions()
            .filter_map(|(name, function)| {
                let Kind::Http { route, methods, .. } = &function.kind else { return None };
                let parameters = route.parameters(path)?;
                let fits = methods.is_empty() || methods.contains(request.method());
                is_method |= !fits;
                fits.then_some((route.rank(), name.as_str(), function, parameters))
            })
            .collect();
        found.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let first = found.into_iter().next();
        if let Some((_, name, function, parameters)) = first {
            return Ok((name, function, parameters));
        }
        let event = Event::of(request.headers());
        let receiver =
            event.receiver(&self.world.settings.names.function, &self.ready.app.functions);
        match receiver {
            Some((name, function)) if path == "/" && request.method() == Method::POST => {
                Ok((name.as_str(), function, Map::new()))
            }
            _ if is_method => {
                let method = format!("no function takes {} at {path}", request.method());
                Err(Problem::Nothing(StatusCode::METHOD_NOT_ALLOWED, method))
            }
            _ => {
                let none = format!("no function has a route for {path}");
                Err(Problem::Nothing(StatusCode::NOT_FOUND, none))
            }
        }
    }

    /// Passes a request on as it is.
    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        mark(request.headers_mut(), &new_id());
        self.proxy.exchange(request).await
    }

    /// Tells the handler of a call, and makes an answer of what it gives.
    async fn call(
        &self,
        name: &str,
        function: &Function,
        parameters: Map<String, Value>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Problem> {
        let (parts, body) = request.into_parts();
        let body = collect(body).await?;
        let (now, id) = (Timestamp::now(), new_id());
        let event = Event::of(&parts.headers);
        let mut known = Map::new();
        let data = match &function.kind {
            Kind::Http { .. } => request_of(&parts, &body, &parameters),
            Kind::Timer(_) => tick_of(event.due(), now),
            Kind::Queue(_) => {
                let message = message_of(&body);
                known = event.metadata(&message);
                message
            }
        };
        let call = call_of((name, &function.trigger), &data, known, (now, &id));
        let response = self.proxy.exchange(told(name, &parts, &call, &id)?).await?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Problem::Gone(error.to_string()))?.to_bytes();
        if !status.is_success() {
            // Outputs count only where the handler says that it did well.
            return Err(Problem::Answer(format!("the handler answered with {status}")));
        }
        let result: Map<String, Value> = if body.is_empty() {
            Map::new()
        } else {
            let odd = |_| Problem::Answer("it is not the JSON object that a handler gives".into());
            serde_json::from_slice(&body).map_err(odd)?
        };
        for line in logs_of(&result) {
            let request = Some(id_of(&parts.headers)).filter(|id| **id != *"-");
            let fields = json!({"function": name, "invocation": id});
            self.world.log.note_of(request, &line, fields);
        }
        self.publish(function, &result, &event).await?;
        match &function.output {
            Some(output) => {
                let answer = answer_of(result, output);
                let answer = answer.map_err(|error| Problem::Answer(error.to_string()))?;
                Ok(answer.into_response().map(full))
            }
            None => Ok(json_response(StatusCode::OK, &json!({}))),
        }
    }

    /// Sends what a handler gave for queues. Where that fails so does the call, as with Azure.
    async fn publish(
        &self,
        function: &Function,
        result: &Map<String, Value>,
        event: &Event,
    ) -> Result<(), Problem> {
        // Requests have ids that their callers choose, so only events are known by theirs.
        let is_event = !matches!(function.kind, Kind::Http { .. });
        let origin = event.origin().filter(|_| is_event);
        for (connection, messages) in messages_of(result, &function.queues, origin.as_deref()) {
            // Servers were found when the app was read.
            let Some(server) = self.ready.servers.get(&connection) else { continue };
            let queues: Vec<&str> = messages.iter().map(|message| &*message.subject).collect();
            let failed = |error| {
                Problem::Answer(format!("sending to the queue {}: {error}", queues.join(", ")))
            };
            server.publish(&messages).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The request by which a handler is told.
fn told(name: &str, parts: &Parts, call: &Value, id: &str) -> Result<Request<Body>, Problem> {
    let mut request = Request::new(full(call.to_string()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path_of(name)?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    for kept in ["x-request-id", "traceparent", "host"] {
        if let Some(value) = parts.headers.get(kept) {
            headers.insert(kept, value.clone());
        }
    }
    mark(headers, id);
    Ok(request)
}

fn mark(headers: &mut HeaderMap, id: &str) {
    headers.insert(USER_AGENT, HOST_AGENT);
    headers.insert("x-azure-functions-hostversion", HOST_VERSION);
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-azure-functions-invocationid", id);
    }
}

fn path_of(name: &str) -> Result<http::Uri, Problem> {
    let uri = format!("/{name}").parse();
    uri.map_err(|_| Problem::Unfit(format!("the function {name:?} has a name that is no path")))
}
