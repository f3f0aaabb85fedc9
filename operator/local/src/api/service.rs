//! Answers requests: finds out what is asked for, has it done under the lock, and shows the outcome.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT, WARNING};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Refusal, success};
use super::form::Form;
use super::route::{self, Query, Route, Target};
use super::select::Selector;
use super::store::{Object, Store};
use super::verbs::{self, Answer, Call, DeleteOptions, Outcome, PatchKind};
use super::watch::Watch;
use super::{LogQuery, Shared, State, control, discovery, meta};

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers a request.
pub(super) fn answer(shared: &Arc<Shared>, parts: &Parts, body: &Bytes) -> Response<Body> {
    let route = check_type(parts, body);
    let route = route.and_then(|()| route::parse(&shared.kinds, parts.uri.path()));
    let answered = route.and_then(|route| respond(shared, (parts, body), route));
    answered.unwrap_or_else(|refusal| refuse(&refusal))
}

/// Refuses what is no JSON. Most of `kubectl` speaks that; some of its words that make objects don't.
fn check_type(parts: &Parts, body: &Bytes) -> Result<(), Refusal> {
    if body.is_empty() || header(parts, CONTENT_TYPE) != "application/vnd.kubernetes.protobuf" {
        return Ok(());
    }
    let message = "this API reads JSON alone, and no protobuf: write the object into a file, as `-o \
                   yaml --dry-run=client` shows it, and use `kubectl apply -f`";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message))
}

/// Says no.
pub(super) fn refuse(refusal: &Refusal) -> Response<Body> {
    json_answer(refusal.code, refusal.status().to_string().into())
}

fn json_answer(code: StatusCode, text: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(text).boxed_unsync());
    *response.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn ok(value: &Value) -> Response<Body> {
    json_answer(StatusCode::OK, value.to_string().into())
}

fn respond(
    shared: &Arc<Shared>,
    (parts, body): (&Parts, &Bytes),
    route: Route,
) -> Result<Response<Body>, Refusal> {
    let kinds = &shared.kinds;
    Ok(match route {
        Route::CoreVersions => ok(&discovery::core_versions()),
        Route::Groups => ok(&discovery::all_groups(kinds)),
        Route::Group(name) => ok(&discovery::one_group(kinds, &name)?),
        Route::Kinds(group, version) => ok(&discovery::resources(kinds, &group, &version)?),
        Route::Version => ok(&discovery::version()),
        Route::Descriptions => ok(&discovery::descriptions(kinds)),
        Route::Description(group, version) => ok(&discovery::description(kinds, &group, &version)),
        Route::Health => json_answer(StatusCode::OK, Bytes::from_static(b"ok")),
        Route::TokenReview => {
            let state = shared.lock();
            let review = state.tokens.review(&state.store, read(body)?, Timestamp::now());
            json_answer(StatusCode::CREATED, review.to_string().into())
        }
        Route::AccessReview => {
            // Whoever gets here may do everything.
            let mut review = read(body)?;
            meta::set(&mut review, &["status"], json!({"allowed": true}));
            json_answer(StatusCode::CREATED, review.to_string().into())
        }
        Route::Objects(target) => {
            let query = Query::of(&parts.uri);
            let agent = header(parts, USER_AGENT).split('/').next().unwrap_or_default();
            let now = Timestamp::now();
            let call = Call { kinds, target: &target, query: &query, agent, now };
            return about_objects(shared, (parts, body), &call);
        }
    })
}

fn header(parts: &Parts, name: http::HeaderName) -> &str {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn read(body: &Bytes) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))
}

fn about_objects(
    shared: &Arc<Shared>,
    (parts, body): (&Parts, &Bytes),
    call: &Call<'_>,
) -> Result<Response<Body>, Refusal> {
    let target = call.target;
    let form = Form::of(header(parts, ACCEPT), &target.kind);
    if parts.method == Method::GET {
        if target.subresource == "log" && target.kind.is("", "Pod") {
            return logs(shared, call);
        }
        if target.name.is_empty() || call.query.is_set("watch") {
            return list_or_watch(shared, form, call);
        }
    }
    let mut state = shared.lock();
    let outcome = act(&mut state, (parts, body), call);
    control::settle(&mut state.store, &shared.kinds, call.now);
    drop(state);
    let outcome = outcome?;
    let text = match &outcome.object {
        Answer::Kept(object) => form.show(object, call.now),
        Answer::Other(value) if meta::text(value, "/kind") == target.kind.name => {
            form.show_value(&target.kind, value, call.now).to_string().into()
        }
        // A status or a scale.
        Answer::Other(value) => value.to_string().into(),
    };
    let mut response = json_answer(outcome.code, text);
    for warning in &outcome.warnings {
        let told = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{told}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    Ok(response)
}

fn act(
    state: &mut State,
    (parts, body): (&Parts, &Bytes),
    call: &Call<'_>,
) -> Result<Outcome, Refusal> {
    let store = &mut state.store;
    let kind = &call.target.kind;
    let has_name = !call.target.name.is_empty();
    let patch_kind = || PatchKind::parse(header(parts, CONTENT_TYPE));
    match (parts.method.as_str(), call.target.subresource.as_str()) {
        ("GET", "") => verbs::get(store, call),
        ("POST", "") if !has_name => verbs::create(store, call, read(body)?),
        ("DELETE", "") if !has_name => delete_all(store, call, body),
        _ if !has_name => Err(Refusal::not_allowed()),
        ("PUT", "") => verbs::replace(store, call, read(body)?),
        ("PATCH", "") => verbs::patch(store, call, (patch_kind()?, body)),
        ("DELETE", "") => verbs::delete(store, call, &DeleteOptions::read(call, body)?),
        ("GET", "status") if kind.has_status => verbs::get(store, call),
        ("PUT", "status") if kind.has_status => verbs::replace(store, call, read(body)?),
        ("PATCH", "status") if kind.has_status => verbs::patch(store, call, (patch_kind()?, body)),
        ("GET", "scale") if kind.has_scale => verbs::read_scale(store, call),
        ("PUT", "scale") if kind.has_scale => verbs::replace_scale(store, call, &read(body)?),
        ("PATCH", "scale") if kind.has_scale => {
            verbs::patch_scale(store, call, (patch_kind()?, body))
        }
        ("POST", "binding") if kind.is("", "Pod") => verbs::bind(store, call, &read(body)?),
        ("POST", "eviction") if kind.is("", "Pod") => {
            verbs::delete(store, call, &DeleteOptions::default())
        }
        ("POST", "token") if kind.is("", "ServiceAccount") => {
            let account = verbs::get(store, call)?;
            let given = state.tokens.give(store, account.object.value(), read(body)?, call.now)?;
            Ok(Outcome { code: StatusCode::CREATED, ..Outcome::other(given) })
        }
        (_, "" | "status" | "scale" | "binding" | "eviction" | "token") => {
            Err(Refusal::not_allowed())
        }
        _ => Err(Refusal::no_such_path()),
    }
}

fn selector(call: &Call<'_>) -> Result<Selector, Refusal> {
    let fields = call.query.get("fieldSelector");
    // A watch of one object by its path.
    let fields = match call.target.name.as_str() {
        "" => fields.to_owned(),
        name => format!("metadata.name={name},{fields}"),
    };
    let namespace = call.target.namespace.as_deref();
    Selector::parse(namespace, call.query.get("labelSelector"), &fields)
}

fn delete_all(store: &mut Store, call: &Call<'_>, body: &Bytes) -> Result<Outcome, Refusal> {
    let selector = selector(call)?;
    let options = DeleteOptions::read(call, body)?;
    let all: Vec<_> = store
        .list(call.target.kind.id, None)
        .filter(|object| selector.selects(&object.value))
        .map(|object| object.place())
        .collect();
    for place in all {
        verbs::delete_at(store, &place, &options, call.now)?;
    }
    Ok(Outcome::other(success()))
}

fn list_or_watch(
    shared: &Arc<Shared>,
    form: Form,
    call: &Call<'_>,
) -> Result<Response<Body>, Refusal> {
    let selector = selector(call)?;
    if call.query.is_set("watch") {
        let watch = Watch::start(shared, &call.target.kind, (selector, form), call.query)?;
        let frames = watch.lines().map(|line| Ok(Frame::data(line)));
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        return Ok(response);
    }
    let state = shared.lock();
    let page = page(&state.store, call, &selector)?;
    drop(state);
    let text = form.show_list(&call.target.kind, &page.objects, &page.metadata, call.now);
    Ok(json_answer(StatusCode::OK, text))
}

/// A part of a list.
struct Page {
    objects: Vec<Arc<Object>>,
    metadata: Value,
}

/// The part of a list that a request asks for. All parts of it have the version of the first, so that
/// who watches from there hears of all that changed in between.
fn page(store: &Store, call: &Call<'_>, selector: &Selector) -> Result<Page, Refusal> {
    let target: &Target = call.target;
    let (version, after) = match call.query.get("continue") {
        "" => (store.version(), None),
        token => {
            let mut parts = token.splitn(3, '/');
            let mut part = || parts.next().unwrap_or_default().to_owned();
            let version = part().parse().map_err(|_| Refusal::bad("continue is not ours"))?;
            let after = (part(), part());
            if store.changes_since(target.kind.id, version).is_none() {
                return Err(Refusal::expired());
            }
            (version, Some(after))
        }
    };
    let limit = call.query.number("limit").filter(|limit| *limit > 0);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut all =
        store.list(target.kind.id, after.as_ref()).filter(|object| selector.selects(&object.value));
    let objects: Vec<Arc<Object>> = all.by_ref().take(limit).cloned().collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let (Some(last), Some(_)) = (objects.last(), all.next()) {
        let place = last.place();
        let token = format!("{version}/{}/{}", place.namespace, place.name);
        meta::set(&mut metadata, &["continue"], token);
    }
    drop(all);
    Ok(Page { objects, metadata })
}

fn logs(shared: &Arc<Shared>, call: &Call<'_>) -> Result<Response<Body>, Refusal> {
    let target = call.target;
    let namespace = target.namespace.as_deref().unwrap_or_default();
    verbs::get(&shared.lock().store, call)?;
    let query = LogQuery::of(call.query);
    let told = shared.logs.get().and_then(|logs| logs.read(namespace, &target.name, query));
    let Some(told) = told else {
        let message =
            format!("pod {:?} has no log yet: its container is waiting to start", target.name);
        return Err(Refusal::bad(message));
    };
    let frames = told.map(|piece| Ok(Frame::data(piece)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
