//! An API server in memory: as much of one as the controller can tell from a real one. It keeps
//! every write that reached it, refuses what it is told to, and can die after the n-th write.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// How long slow requests take.
const SLOW: Duration = Duration::from_millis(500);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
type Hook = Box<dyn Fn(&Call) -> Option<Value> + Send>;
type Mutator = Box<dyn Fn(&str, &mut Value) + Send>;

/// A write that reached the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: Method,
    pub target: Target,
    pub query: BTreeMap<String, String>,
    pub body: Value,
}

impl Call {
    /// For example `POST deployments/hello-0123456789 by rouse-activator`.
    pub fn line(&self) -> String {
        let Target { plural, name, subresource, .. } = &self.target;
        let named = if name.is_empty() {
            self.body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
        } else {
            name
        };
        let subresource =
            if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
        let by = self.query.get("fieldManager").map(|by| format!(" by {by}")).unwrap_or_default();
        format!("{} {plural}/{named}{subresource}{by}", self.method)
    }
}

/// What a path names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    pub namespace: String,
    pub plural: String,
    pub name: String,
    pub subresource: String,
}

#[derive(Clone, Default)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String, String), Value>,
    version: u64,
    history: Vec<Change>,
    watchers: Vec<Watcher>,
    calls: Vec<Call>,
    requests: usize,
    hook: Option<Hook>,
    mutator: Option<Mutator>,
    /// Writes until the API server stops answering the present client.
    writes_left: Option<usize>,
    client: u64,
    /// The kind whose requests take a while.
    slow: Option<String>,
    /// How long watches take to tell.
    lag: Duration,
}

#[derive(Clone)]
struct Change {
    version: u64,
    plural: String,
    kind: &'static str,
    object: Value,
}

struct Watcher {
    plural: String,
    query: BTreeMap<String, String>,
    sender: mpsc::UnboundedSender<Bytes>,
}

impl FakeApi {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A client; the API server never again answers those that were made before.
    pub fn client(&self) -> Client {
        let number = {
            let mut state = self.lock();
            state.client += 1;
            state.watchers.clear();
            state.client
        };
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let plural = parse_path(parts.uri.path()).plural;
                let slow = api.lock().slow.as_ref() == Some(&plural);
                if slow {
                    tokio::time::sleep(SLOW).await;
                }
                match api.serve(number, &parts.method, &parts.uri, &body) {
                    Some(answer) => Ok::<_, tower::BoxError>(answer),
                    None => std::future::pending().await,
                }
            }
        });
        Client::new(service, "default")
    }

    /// Lets the API server stop answering after `count` more writes; the last is carried out.
    pub fn die_after(&self, count: usize) {
        self.lock().writes_left = Some(count);
    }

    pub fn is_dead(&self) -> bool {
        self.lock().writes_left == Some(0)
    }

    /// Lets all requests for a kind take a while.
    pub fn slow(&self, plural: &str) {
        self.lock().slow = Some(plural.to_owned());
    }

    /// Lets watches tell of changes only after `lag`.
    pub fn lag(&self, lag: Duration) {
        self.lock().lag = lag;
    }

    pub fn revive(&self) {
        self.lock().writes_left = None;
    }

    /// Answers writes with the status that `hook` returns, where it returns one.
    pub fn refuse(&self, hook: impl Fn(&Call) -> Option<Value> + Send + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    pub fn refuse_nothing(&self) {
        self.lock().hook = None;
    }

    /// Changes what is written on its way, as admission webhooks do.
    pub fn mutate(&self, mutator: impl Fn(&str, &mut Value) + Send + 'static) {
        self.lock().mutator = Some(Box::new(mutator));
    }

    /// The writes since the last time, without events.
    pub fn take_calls(&self) -> Vec<Call> {
        self.take(|call| call.target.plural != "events")
    }

    fn take(&self, which: impl Fn(&Call) -> bool) -> Vec<Call> {
        let mut state = self.lock();
        let (taken, left) = std::mem::take(&mut state.calls).into_iter().partition(which);
        state.calls = left;
        taken
    }

    pub fn lines(&self) -> Vec<String> {
        self.take_calls().iter().map(Call::line).collect()
    }

    /// The reasons of the events since the last time.
    pub fn take_events(&self) -> Vec<String> {
        let events = self.take(|call| call.target.plural == "events");
        events.iter().map(|call| call.body["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// Requests of any kind so far.
    pub fn requests(&self) -> usize {
        self.lock().requests
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&key(plural, namespace, name)).cloned()
    }

    /// Names of all objects of a kind.
    pub fn names(&self, plural: &str) -> Vec<String> {
        let state = self.lock();
        state.objects.keys().filter(|(p, ..)| p == plural).map(|(.., name)| name.clone()).collect()
    }

    /// All objects without what differs between two runs of the same story.
    pub fn essence(&self) -> BTreeMap<String, Value> {
        let state = self.lock();
        let mut essence = BTreeMap::new();
        for ((plural, namespace, name), object) in &state.objects {
            if plural == "events" {
                continue;
            }
            let mut object = object.clone();
            let metadata = object["metadata"].as_object_mut().unwrap();
            for field in ["resourceVersion", "generation", "creationTimestamp", "uid"] {
                metadata.remove(field);
            }
            if let Some(conditions) = object.pointer_mut("/status/conditions") {
                for condition in conditions.as_array_mut().unwrap() {
                    condition["lastTransitionTime"] = Value::Null;
                }
            }
            essence.insert(format!("{plural} {namespace}/{name}"), object);
        }
        essence
    }

    /// Makes an object as somebody else would, without any watch telling of it.
    pub fn make_unseen(&self, plural: &str, object: Value) {
        let watchers = std::mem::take(&mut self.lock().watchers);
        self.make(plural, object);
        let mut state = self.lock();
        state.history.pop();
        state.watchers = watchers;
    }

    /// Makes an object as somebody else would; its UID is `uid-` and its name if it has none.
    pub fn make(&self, plural: &str, mut object: Value) {
        let mut state = self.lock();
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}", metadata["name"].as_str().unwrap()));
        }
        let target = Target {
            namespace: metadata["namespace"].as_str().unwrap().to_owned(),
            plural: plural.to_owned(),
            name: metadata["name"].as_str().unwrap().to_owned(),
            subresource: String::new(),
        };
        state.put(&target, object, "ADDED");
    }

    /// Changes an object as somebody else would.
    pub fn change(&self, plural: &str, namespace: &str, name: &str, change: impl Fn(&mut Value)) {
        let mut state = self.lock();
        let mut object = state.objects[&key(plural, namespace, name)].clone();
        change(&mut object);
        let target = target(plural, namespace, name);
        state.put(&target, object, "MODIFIED");
    }

    /// Removes an object, and all that it owns, as the garbage collector does.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.lock();
        let Some(gone) = state.delete(&target(plural, namespace, name)) else { return };
        let uid = gone["metadata"]["uid"].clone();
        let owned: Vec<_> = state
            .objects
            .iter()
            .filter(|(_, object)| {
                let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                owners.into_iter().flatten().any(|owner| owner["uid"] == uid)
            })
            .map(|((plural, namespace, name), _)| target(plural, namespace, name))
            .collect();
        for child in owned {
            state.delete(&child);
        }
    }

    fn serve(&self, client: u64, method: &Method, uri: &http::Uri, body: &[u8]) -> Option<Answer> {
        let mut state = self.lock();
        if client != state.client || state.writes_left == Some(0) {
            return None;
        }
        state.requests += 1;
        let target = parse_path(uri.path());
        let query = parse_query(uri.query().unwrap_or_default());
        if method == Method::GET {
            return Some(state.read(&target, &query));
        }
        let body = serde_json::from_slice(body).unwrap_or_default();
        let call = Call { method: method.clone(), target, query, body };
        state.calls.push(call.clone());
        let refused = state.hook.as_ref().and_then(|hook| hook(&call));
        let answer = match refused {
            Some(status) => answer(status["code"].as_u64().unwrap(), &status),
            None => state.write(call),
        };
        if let Some(left) = &mut state.writes_left {
            *left -= 1;
            if *left == 0 {
                return None;
            }
        }
        Some(answer)
    }
}

impl State {
    fn read(&mut self, target: &Target, query: &BTreeMap<String, String>) -> Answer {
        if !target.name.is_empty() {
            return match self.objects.get(&target_key(target)) {
                Some(object) => answer(200, object),
                None => failure(404, "NotFound", "not found"),
            };
        }
        if query.get("watch").is_some_and(|watch| watch == "true") {
            return self.watch(target, query);
        }
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((plural, ..), object)| *plural == target.plural && selects(query, object))
            .map(|(_, object)| object)
            .collect();
        let list = json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": self.version.to_string()},
            "items": items,
        });
        answer(200, &list)
    }

    fn watch(&mut self, target: &Target, query: &BTreeMap<String, String>) -> Answer {
        let (sender, receiver) = mpsc::unbounded();
        let from: u64 = query["resourceVersion"].parse().unwrap();
        for change in self.history.iter().filter(|change| change.version > from) {
            if change.plural == target.plural && selects(query, &change.object) {
                sender.unbounded_send(event(change)).unwrap();
            }
        }
        let plural = target.plural.clone();
        self.watchers.push(Watcher { plural, query: query.clone(), sender });
        let frames = receiver.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn write(&mut self, call: Call) -> Answer {
        match call.method.as_str() {
            "POST" => self.create(call),
            "PATCH" => self.patch(call),
            "DELETE" => self.remove_if(&call),
            other => panic!("the controller has no use for {other}"),
        }
    }

    fn create(&mut self, call: Call) -> Answer {
        let Call { mut target, mut body, .. } = call;
        target.name = body["metadata"]["name"].as_str().unwrap().to_owned();
        if self.objects.contains_key(&target_key(&target)) {
            return failure(409, "AlreadyExists", "already exists");
        }
        body["metadata"]["namespace"] = json!(target.namespace);
        body["metadata"]["uid"] = json!(format!("uid-{}-{}", target.plural, self.version));
        if target.plural == "deployments" {
            body["status"] = json!({"observedGeneration": 1_000_000});
        }
        let object = self.put(&target, body, "ADDED");
        answer(201, &object)
    }

    fn patch(&mut self, call: Call) -> Answer {
        let Call { target, body, query, .. } = call;
        let manager = query.get("fieldManager").map_or("", String::as_str);
        let Some(before) = self.objects.get(&target_key(&target)).cloned() else {
            return failure(404, "NotFound", "not found");
        };
        for field in ["uid", "resourceVersion"] {
            let wanted = &body["metadata"][field];
            if !wanted.is_null() && *wanted != before["metadata"][field] {
                return failure(409, "Conflict", &format!("another {field}"));
            }
        }
        let mut after = before.clone();
        if target.subresource == "status" {
            // Each of the managers of a status keeps to its own fields.
            let schedule = "schedule";
            if manager == "rouse-schedule" {
                after["status"][schedule] = body["status"][schedule].clone();
            } else {
                after["status"] = body["status"].clone();
                for others in [schedule, "source"] {
                    if let Some(progress) = before["status"].get(others) {
                        after["status"][others] = progress.clone();
                    }
                }
            }
        } else {
            merge(&mut after, &body);
        }
        let object = self.put(&target, after, "MODIFIED");
        answer(200, &object)
    }

    fn remove_if(&mut self, call: &Call) -> Answer {
        let Some(there) = self.objects.get(&target_key(&call.target)) else {
            return failure(404, "NotFound", "not found");
        };
        for field in ["uid", "resourceVersion"] {
            if call.body["preconditions"][field] != there["metadata"][field] {
                return failure(409, "Conflict", &format!("another {field}"));
            }
        }
        self.delete(&call.target);
        answer(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    /// Keeps an object and tells the watchers, unless nothing changed.
    fn put(&mut self, target: &Target, mut object: Value, kind: &'static str) -> Value {
        if let Some(mutator) = &self.mutator {
            mutator(&target.plural, &mut object);
        }
        let before = self.objects.get(&target_key(target));
        if before == Some(&object) {
            return object;
        }
        let generation = match before {
            None => 1,
            Some(before) => {
                let changed = before["spec"] != object["spec"];
                before["metadata"]["generation"].as_u64().unwrap() + u64::from(changed)
            }
        };
        self.version += 1;
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(target_key(target), object.clone());
        self.tell(target, kind, object.clone());
        object
    }

    fn delete(&mut self, target: &Target) -> Option<Value> {
        let mut gone = self.objects.remove(&target_key(target))?;
        self.version += 1;
        gone["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell(target, "DELETED", gone.clone());
        Some(gone)
    }

    fn tell(&mut self, target: &Target, kind: &'static str, object: Value) {
        let change = Change { version: self.version, plural: target.plural.clone(), kind, object };
        for watcher in &self.watchers {
            if watcher.plural == change.plural && selects(&watcher.query, &change.object) {
                let (sender, event, lag) = (watcher.sender.clone(), event(&change), self.lag);
                if lag.is_zero() {
                    let _ = sender.unbounded_send(event);
                } else {
                    tokio::spawn(async move {
                        tokio::time::sleep(lag).await;
                        let _ = sender.unbounded_send(event);
                    });
                }
            }
        }
        self.history.push(change);
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Label selectors of the forms `key`, `key=value` and, as the last, `key in (a,b)`, and the field
/// selector for a name.
fn selects(query: &BTreeMap<String, String>, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let selector = query.get("labelSelector").map(String::as_str).unwrap_or_default();
    let (selector, listed) = match selector.rsplit_once(" in (") {
        Some((terms, values)) => {
            let (terms, key) = terms.rsplit_once(',').unwrap_or(("", terms));
            (terms, Some((key, values.trim_end_matches(')'))))
        }
        None => (selector, None),
    };
    let by_list =
        listed.is_none_or(|(key, values)| values.split(',').any(|it| labels[key] == json!(it)));
    let by_labels = selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        match term.split_once('=') {
            Some((key, value)) => labels[key] == json!(value),
            None => !labels[term].is_null(),
        }
    });
    let by_name = query.get("fieldSelector").is_none_or(|selector| {
        selector.strip_prefix("metadata.name=") == object["metadata"]["name"].as_str()
    });
    by_labels && by_list && by_name
}

fn event(change: &Change) -> Bytes {
    let mut line = json!({"type": change.kind, "object": change.object}).to_string();
    line.push('\n');
    line.into()
}

fn key(plural: &str, namespace: &str, name: &str) -> (String, String, String) {
    (plural.to_owned(), namespace.to_owned(), name.to_owned())
}

fn target(plural: &str, namespace: &str, name: &str) -> Target {
    Target {
        namespace: namespace.to_owned(),
        plural: plural.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    }
}

fn target_key(target: &Target) -> (String, String, String) {
    key(&target.plural, &target.namespace, &target.name)
}

/// `/api/v1/...` or `/apis/GROUP/VERSION/...`, then `[namespaces/NS/]PLURAL[/NAME[/SUBRESOURCE]]`.
fn parse_path(path: &str) -> Target {
    let mut parts = path.trim_matches('/').split('/');
    let skipped = if parts.next() == Some("api") { 1 } else { 2 };
    let mut parts = parts.skip(skipped).peekable();
    let mut target = Target::default();
    if parts.peek() == Some(&"namespaces") {
        parts.next();
        target.namespace = parts.next().unwrap().to_owned();
    }
    let mut next = || parts.next().unwrap_or_default().to_owned();
    (target.plural, target.name, target.subresource) = (next(), next(), next());
    target
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut out = String::new();
    let text = text.replace('+', " ");
    let mut rest = text.as_str();
    while let Some((head, tail)) = rest.split_once('%') {
        out.push_str(head);
        let code = u8::from_str_radix(&tail[..2], 16).unwrap();
        out.push(char::from(code));
        rest = &tail[2..];
    }
    out.push_str(rest);
    out
}

fn answer(code: u64, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = u16::try_from(code).unwrap().try_into().unwrap();
    response
}

/// The status by which the API server says no.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

fn failure(code: u16, reason: &str, message: &str) -> Answer {
    answer(code.into(), &status(code, reason, message))
}
