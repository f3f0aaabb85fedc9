//! The event that a request becomes: version 2.0 of the payload of API Gateway, as function URLs
//! send it too. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use serde::Serialize;

use crate::percent::{decoded, decoded_form};

/// What stands for the account, of which there is none.
const ACCOUNT: &str = "anonymous";
/// The route and the stage of a function URL.
const DEFAULT: &str = "$default";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: String,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<&'a str>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: String,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: &'a str,
}

/// The event for a request to `function` that came at `now`.
pub fn event_of(
    parts: &Parts,
    body: &[u8],
    function: &str,
    request_id: &str,
    now: Timestamp,
) -> Result<Vec<u8>, serde_json::Error> {
    let headers = &parts.headers;
    let query = parts.uri.query().unwrap_or_default();
    let host = text(headers, HOST).split(':').next().unwrap_or_default();
    let path = decoded(parts.uri.path());
    let (body, is_base64_encoded) = body_of(headers, body);
    let event = Event {
        version: "2.0",
        route_key: DEFAULT,
        raw_path: path.clone(),
        raw_query_string: query,
        cookies: cookies(headers),
        headers: joined(headers),
        query_string_parameters: parameters(query),
        request_context: Context {
            account_id: ACCOUNT,
            api_id: function,
            domain_name: host,
            domain_prefix: host.split('.').next().unwrap_or_default(),
            http: Http {
                method: parts.method.as_str(),
                path,
                protocol: "HTTP/1.1",
                source_ip: source(headers),
                user_agent: text(headers, USER_AGENT),
            },
            request_id,
            route_key: DEFAULT,
            stage: DEFAULT,
            time: now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            time_epoch: now.as_millisecond(),
        },
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&event)
}

/// Headers as a map: those that are there more than once are joined, cookies stand elsewhere.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| **name != COOKIE) {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.as_str())
            .and_modify(|known| {
                known.push(',');
                known.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    all
}

fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim).filter(|pair| !pair.is_empty()).collect()
}

/// The parameters of a query, decoded; those that are there more than once are joined.
pub fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded_form(value);
        all.entry(decoded_form(name))
            .and_modify(|known| {
                known.push(',');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

/// The body as text, or in base64 where it is none by its type, coding or bytes. Forms are in base64
/// too, as API Gateway has them.
fn body_of(headers: &HeaderMap, body: &[u8]) -> (Option<String>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    let is_text = is_text(text(headers, CONTENT_TYPE)) && !headers.contains_key(CONTENT_ENCODING);
    match std::str::from_utf8(body) {
        Ok(text) if is_text => (Some(text.to_owned()), false),
        _ => (Some(STANDARD.encode(body)), true),
    }
}

fn is_text(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.starts_with("text/")
        || media.ends_with("+json")
        || media.ends_with("+xml")
        || ["application/json", "application/javascript", "application/xml"].contains(&&*media)
}

/// Who sent it, as the activator says.
fn source(headers: &HeaderMap) -> &str {
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    forwarded.and_then(|list| list.split(',').next()).map_or("127.0.0.1", str::trim)
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn event(request: Request<&[u8]>) -> Value {
        let (parts, body) = request.into_parts();
        let now = "2020-04-21T15:08:21.5Z".parse().unwrap();
        serde_json::from_slice(&event_of(&parts, body, "hello", "r1", now).unwrap()).unwrap()
    }

    #[test]
    fn a_request_becomes_what_api_gateway_would_send() {
        let request = Request::post("/my/p%C3%A4th?parameter1=value1&parameter1=value2&q=a+b%26")
            .header("host", "hello.shop:8080")
            .header("cookie", "cookie1=one; cookie2=two")
            .header("x-custom", "1")
            .header("x-custom", "2")
            .header("user-agent", "agent")
            .header("x-forwarded-for", "192.0.2.1, 10.0.0.1")
            .header("content-type", "application/json")
            .body(&b"{\"a\": 1}"[..])
            .unwrap();
        assert_eq!(
            event(request),
            json!({
                "version": "2.0",
                "routeKey": "$default",
                "rawPath": "/my/p\u{e4}th",
                "rawQueryString": "parameter1=value1&parameter1=value2&q=a+b%26",
                "cookies": ["cookie1=one", "cookie2=two"],
                "headers": {
                    "content-type": "application/json",
                    "host": "hello.shop:8080",
                    "user-agent": "agent",
                    "x-custom": "1,2",
                    "x-forwarded-for": "192.0.2.1, 10.0.0.1",
                },
                "queryStringParameters": {"parameter1": "value1,value2", "q": "a b&"},
                "requestContext": {
                    "accountId": "anonymous",
                    "apiId": "hello",
                    "domainName": "hello.shop",
                    "domainPrefix": "hello",
                    "http": {
                        "method": "POST",
                        "path": "/my/p\u{e4}th",
                        "protocol": "HTTP/1.1",
                        "sourceIp": "192.0.2.1",
                        "userAgent": "agent",
                    },
                    "requestId": "r1",
                    "routeKey": "$default",
                    "stage": "$default",
                    "time": "21/Apr/2020:15:08:21 +0000",
                    "timeEpoch": 1_587_481_701_500_i64,
                },
                "body": "{\"a\": 1}",
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn what_is_not_there_is_absent() {
        let event = event(Request::get("/").body(&b""[..]).unwrap());
        for name in ["cookies", "queryStringParameters", "body"] {
            assert_eq!(event.get(name), None, "{name}");
        }
        assert_eq!(event["isBase64Encoded"], false);
    }

    #[test]
    fn bodies_are_text_or_base64() {
        let of = |content_type: &str, coding: Option<&str>, body: &'static [u8]| {
            let mut request = Request::post("/").header("content-type", content_type);
            if let Some(coding) = coding {
                request = request.header("content-encoding", coding);
            }
            let event = event(request.body(body).unwrap());
            (event["body"].clone(), event["isBase64Encoded"].clone())
        };
        assert_eq!(of("text/plain; charset=utf-8", None, b"x"), (json!("x"), json!(false)));
        assert_eq!(of("application/problem+json", None, b"{}"), (json!("{}"), json!(false)));
        assert_eq!(of("image/png", None, b"\x89PNG"), (json!("iVBORw=="), json!(true)));
        assert_eq!(of("text/plain", Some("gzip"), b"x"), (json!("eA=="), json!(true)));
        assert_eq!(of("text/plain", None, b"\xff"), (json!("/w=="), json!(true)));
        assert_eq!(
            of("application/x-www-form-urlencoded", None, b"a=b"),
            (json!("YT1i"), json!(true))
        );
    }

    proptest! {
        #[test]
        fn a_body_arrives_as_it_was(body: Vec<u8>, kind in "(text/plain|image/png)") {
            prop_assume!(!body.is_empty());
            let body: &'static [u8] = body.leak();
            let event = event(Request::post("/").header("content-type", kind).body(body).unwrap());
            let text = event["body"].as_str().unwrap();
            let arrived = if event["isBase64Encoded"] == true {
                STANDARD.decode(text).unwrap()
            } else {
                text.as_bytes().to_vec()
            };
            prop_assert_eq!(arrived, body);
        }

        #[test]
        fn decoding_never_fails(text in "[a%0-9+/\u{e4}]{0,12}") {
            decoded_form(&text);
        }
    }
}
