//! What a handler is told of a call where requests are not passed on as they are, and the answer
//! that its outputs become. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use rouse_azure::Output;
use serde_json::{Map, Value, json};

use super::nats::Message;
use crate::lambda::{Answer, Malformed, answer};

/// How late a tick must be to be told that it is.
const PAST_DUE: SignedDuration = SignedDuration::from_mins(1);

/// A request as the handler is told of it.
pub fn request_of(parts: &Parts, body: &[u8], parameters: &Map<String, Value>) -> Value {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str()).or_default().push(value);
    }
    let mut request = json!({
        "Url": format!("http://{host}{}", parts.uri),
        "Method": parts.method.as_str(),
        "Query": crate::lambda::parameters(parts.uri.query().unwrap_or_default()),
        "Headers": headers,
        "Params": parameters,
        "Identities": [],
    });
    if !body.is_empty() {
        let bytes = is_bytes(&parts.headers);
        request["Body"] = match std::str::from_utf8(body) {
            Ok(text) if !bytes => text.into(),
            _ => STANDARD.encode(body).into(),
        };
    }
    request
}

/// A message as the handler is told of it: a text, written as JSON once more.
pub fn message_of(body: &[u8]) -> Value {
    let text = std::str::from_utf8(body).map_or_else(|_| STANDARD.encode(body), ToOwned::to_owned);
    Value::String(Value::String(text).to_string())
}

/// The tick of a timer that was `due` when it is `now`.
pub fn tick_of(due: Option<Timestamp>, now: Timestamp) -> Value {
    let due = due.unwrap_or(now);
    let late = now.duration_since(due);
    json!({
        "Schedule": {"AdjustForDST": true},
        "ScheduleStatus": {"Last": due, "LastUpdated": due, "Next": due},
        "IsPastDue": late >= PAST_DUE,
    })
}

/// The whole of what the handler of `function` is sent, with what is `known` beside the data.
pub fn call_of(
    (function, trigger): (&str, &str),
    data: &Value,
    mut known: Map<String, Value>,
    (now, id): (Timestamp, &str),
) -> Value {
    let sys = json!({"MethodName": function, "UtcNow": now, "RandGuid": id});
    known.insert("sys".to_owned(), sys);
    json!({"Data": {trigger: data}, "Metadata": known})
}

/// The messages that a handler's outputs are for the bindings `outputs`, by the settings that say where
/// they go. An array is several messages. They are known by `origin`, so that a stream takes those of one
/// event once, however often it is delivered.
pub fn messages_of(
    result: &Map<String, Value>,
    outputs: &[Output],
    origin: Option<&str>,
) -> BTreeMap<String, Vec<Message>> {
    let named = |name: &str, other: &str| result.get(name).or_else(|| result.get(other));
    let given = named("Outputs", "outputs");
    let mut messages: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    for Output { binding, queue, connection } in outputs {
        let value = match binding.as_str() {
            "$return" => named("ReturnValue", "returnValue"),
            name => given.and_then(|given| given.get(name)),
        };
        let values = match value {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let of = messages.entry(connection.clone()).or_default();
        of.extend(values.iter().enumerate().map(|(number, value)| Message {
            subject: queue.clone(),
            id: origin.map(|origin| format!("{origin} {binding} {number}")),
            body: value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes(),
        }));
    }
    messages.retain(|_, messages| !messages.is_empty());
    messages
}

/// The answer to a request that a handler's outputs are: that of the binding `output`, or what it
/// returned.
pub fn answer_of(mut result: Map<String, Value>, output: &str) -> Result<Answer, Malformed> {
    let outputs = result.remove("Outputs").or_else(|| result.remove("outputs"));
    let given = match outputs {
        Some(Value::Object(mut outputs)) => outputs.remove(output),
        _ => None,
    };
    let returned = || result.remove("ReturnValue").or_else(|| result.remove("returnValue"));
    match given.or_else(returned).unwrap_or(Value::Null) {
        Value::Object(mut object) => {
            if let Some(status) = object.remove("status") {
                object.entry("statusCode").or_insert(status);
            }
            let is_answer =
                ["statusCode", "headers", "body"].iter().any(|n| object.contains_key(*n));
            if !is_answer {
                return Ok(plain(&Value::Object(object)));
            }
            let (status, mut headers) = answer::head_of(&mut object)?;
            let body = plain(&object.remove("body").unwrap_or(Value::Null));
            for (name, value) in body.headers {
                if let Some(name) = name.filter(|name| !headers.contains_key(name)) {
                    headers.insert(name, value);
                }
            }
            Ok(Answer { status, headers, body: body.body })
        }
        other => Ok(plain(&other)),
    }
}

/// Lines that a handler wants in the log.
pub fn logs_of(result: &Map<String, Value>) -> Vec<String> {
    let lines = result.get("Logs").or_else(|| result.get("logs")).and_then(Value::as_array);
    let lines = lines.into_iter().flatten();
    lines.map(|line| line.as_str().map_or_else(|| line.to_string(), ToOwned::to_owned)).collect()
}

fn plain(value: &Value) -> Answer {
    let mut headers = HeaderMap::new();
    let (kind, body) = match value {
        Value::Null => (None, String::new()),
        Value::String(text) => (Some("text/plain; charset=utf-8"), text.clone()),
        other => (Some("application/json"), other.to_string()),
    };
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    }
    Answer { status: StatusCode::OK, headers, body: body.into() }
}

fn is_bytes(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.starts_with("application/octet-stream") || kind.starts_with("multipart/")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_request_is_told_with_all_of_it() {
        let request = Request::post("/api/items/7?a=1&a=2&b=")
            .header("host", "shop")
            .header("x-a", "1")
            .header("x-a", "2")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let parameters = Map::from_iter([("id".to_owned(), json!("7"))]);
        assert_eq!(
            request_of(&parts, b"{\"x\":1}", &parameters),
            json!({
                "Url": "http://shop/api/items/7?a=1&a=2&b=",
                "Method": "POST",
                "Query": {"a": "1,2", "b": ""},
                "Headers": {"host": ["shop"], "x-a": ["1", "2"]},
                "Params": {"id": "7"},
                "Identities": [],
                "Body": "{\"x\":1}",
            })
        );
        assert_eq!(message_of(b"hello"), json!("\"hello\""));
    }

    #[test]
    fn outputs_become_messages_of_their_queues() {
        let output = |binding: &str, connection: &str| Output {
            binding: binding.into(),
            queue: format!("queue-of-{binding}"),
            connection: connection.into(),
        };
        let outputs =
            [output("one", "A"), output("many", "B"), output("$return", "A"), output("no", "C")];
        let result = json!({
            "Outputs": {"one": "hello", "many": ["a", {"b": 1}], "res": {"body": "x"}, "no": null},
            "ReturnValue": 7,
        });
        let Value::Object(result) = result else { panic!() };
        let said = |connection: &str, origin: Option<&str>| {
            let mut all = messages_of(&result, &outputs, origin);
            let of = all.remove(connection).unwrap_or_default().into_iter();
            of.map(|it| (it.subject, it.id, String::from_utf8(it.body).unwrap()))
                .collect::<Vec<_>>()
        };
        let queue = |name: &str| format!("queue-of-{name}");
        assert_eq!(
            said("A", None),
            [(queue("one"), None, "hello".into()), (queue("$return"), None, "7".into())]
        );
        assert_eq!(
            said("B", Some("e 1")),
            [
                (queue("many"), Some("e 1 many 0".into()), "a".into()),
                (queue("many"), Some("e 1 many 1".into()), "{\"b\":1}".into()),
            ]
        );
        assert!(said("C", None).is_empty());
    }

    #[test]
    fn a_tick_says_when_it_was_due_and_whether_it_is_late() {
        let due: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        let now: Timestamp = "2026-11-01T10:02:00Z".parse().unwrap();
        let tick = tick_of(Some(due), now);
        assert_eq!(
            (&tick["IsPastDue"], &tick["ScheduleStatus"]["Last"]),
            (&json!(true), &json!(due))
        );
        assert_eq!(tick_of(Some(due), due)["IsPastDue"], false);
        assert_eq!(tick_of(None, now)["IsPastDue"], false);
    }

    #[test]
    fn outputs_become_answers() {
        let of = |result: Value| {
            let Value::Object(result) = result else { panic!() };
            let answer = answer_of(result, "res").unwrap();
            let kind =
                answer.headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
            let body = String::from_utf8(answer.body.to_vec()).unwrap();
            (answer.status.as_u16(), kind.unwrap_or_default(), body)
        };
        let text = "text/plain; charset=utf-8".to_owned();
        let answered = of(json!({"Outputs": {"res": {"statusCode": 201, "body": "hi"}}}));
        assert_eq!(answered, (201, text.clone(), "hi".into()));
        let answered =
            of(json!({"Outputs": {"res": {"status": "404", "headers": {"content-type": "a/b"}}}}));
        assert_eq!(answered, (404, "a/b".into(), String::new()));
        assert_eq!(of(json!({"ReturnValue": "hi"})), (200, text, "hi".into()));
        let json = "application/json".to_owned();
        assert_eq!(of(json!({"ReturnValue": {"a": 1}})), (200, json, "{\"a\":1}".into()));
        assert_eq!(of(json!({"Outputs": null})), (200, String::new(), String::new()));
    }
}
