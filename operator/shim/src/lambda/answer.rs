//! The answer that a handler's result becomes, as function URLs read results. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Map, Value};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// As it is sent.
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// What is wrong with a result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is no JSON.
    #[error("the result is not JSON")]
    Json,
    /// The status is none.
    #[error("the statusCode {0} is not a status between 200 and 599")]
    Status(String),
    /// A header can't be one.
    #[error("the header {0:?} or its value can't be sent")]
    Header(String),
    /// The body is not what it is said to be.
    #[error("the body is not {0}")]
    Body(&'static str),
}

/// The answer that a result becomes. An object with a `statusCode` says what it is; all else is the
/// body, a text as it is.
pub fn answer_of(result: Bytes) -> Result<Answer, Malformed> {
    let value: Value = serde_json::from_slice(&result).map_err(|_| Malformed::Json)?;
    match value {
        Value::Object(mut object) if object.contains_key("statusCode") => {
            let (status, mut headers) = head_of(&mut object)?;
            let encoded = object.get("isBase64Encoded") == Some(&Value::Bool(true));
            let body = body_of(object.remove("body"), encoded)?;
            headers.entry(CONTENT_TYPE).or_insert(JSON);
            Ok(Answer { status, headers, body })
        }
        Value::String(text) => Ok(plain(text.into())),
        _ => Ok(plain(result)),
    }
}

fn plain(body: Bytes) -> Answer {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
    Answer { status: StatusCode::OK, headers, body }
}

/// Status and headers that an object names, also one that comes before a stream.
pub fn head_of(object: &mut Map<String, Value>) -> Result<(StatusCode, HeaderMap), Malformed> {
    let mut headers = HeaderMap::new();
    let status = match object.remove("statusCode") {
        None | Some(Value::Null) => StatusCode::OK,
        Some(value) => {
            let code = match &value {
                Value::Number(number) => number.as_u64().and_then(|code| u16::try_from(code).ok()),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            let status = code.and_then(|code| StatusCode::from_u16(code).ok());
            let fit = status.filter(|status| (200..600).contains(&status.as_u16()));
            fit.ok_or_else(|| Malformed::Status(value.to_string()))?
        }
    };
    for (name, value) in members(object.remove("headers")) {
        add(&mut headers, &name, &value)?;
    }
    for (name, values) in members(object.remove("multiValueHeaders")) {
        if let Value::Array(values) = values {
            // What stands there holds for what stands in `headers`.
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.remove(name);
            }
            values.iter().try_for_each(|value| add(&mut headers, &name, value))?;
        }
    }
    if let Some(Value::Array(cookies)) = object.remove("cookies") {
        cookies.iter().try_for_each(|cookie| add(&mut headers, SET_COOKIE.as_str(), cookie))?;
    }
    Ok((status, headers))
}

fn members(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

fn add(headers: &mut HeaderMap, name: &str, value: &Value) -> Result<(), Malformed> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => return Ok(()),
        other => other.to_string(),
    };
    let wrong = || Malformed::Header(name.to_owned());
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    let value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| wrong())?;
    // How the answer is framed is not the handler's to say.
    if name != CONTENT_LENGTH && name != TRANSFER_ENCODING && name != "connection" {
        headers.append(name, value);
    }
    Ok(())
}

fn body_of(body: Option<Value>, encoded: bool) -> Result<Bytes, Malformed> {
    match body {
        None | Some(Value::Null) => Ok(Bytes::new()),
        Some(Value::String(text)) if encoded => {
            STANDARD.decode(text).map(Bytes::from).map_err(|_| Malformed::Body("base64"))
        }
        Some(Value::String(text)) => Ok(text.into()),
        Some(other) => Ok(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A status, headers and a body.
    type Told = (u16, Vec<(String, String)>, Vec<u8>);

    fn of(result: &Value) -> Result<Told, Malformed> {
        let answer = answer_of(result.to_string().into())?;
        let headers = answer.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Ok((answer.status.as_u16(), headers.collect(), answer.body.to_vec()))
    }

    fn json_type() -> (String, String) {
        ("content-type".into(), "application/json".into())
    }

    #[test]
    fn an_object_with_a_status_says_what_the_answer_is() {
        let result = json!({
            "statusCode": 201,
            "headers": {"Content-Type": "image/png", "X-Number": 7, "Content-Length": "1"},
            "cookies": ["a=1; Secure", "b=2"],
            "body": "iVBORw==",
            "isBase64Encoded": true,
        });
        let (status, headers, body) = of(&result).unwrap();
        assert_eq!((status, body.as_slice()), (201, &b"\x89PNG"[..]));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for expected in [
            pair("content-type", "image/png"),
            pair("x-number", "7"),
            pair("set-cookie", "a=1; Secure"),
            pair("set-cookie", "b=2"),
        ] {
            assert!(headers.contains(&expected), "{headers:?}");
        }
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn all_else_is_the_body() {
        assert_eq!(of(&json!("hi")).unwrap(), (200, vec![json_type()], b"hi".to_vec()));
        assert_eq!(of(&json!({"a": 1})).unwrap(), (200, vec![json_type()], b"{\"a\":1}".to_vec()));
        assert_eq!(of(&json!(null)).unwrap(), (200, vec![json_type()], b"null".to_vec()));
        let object = json!({"statusCode": 200, "body": {"a": 1}});
        assert_eq!(of(&object).unwrap(), (200, vec![json_type()], b"{\"a\":1}".to_vec()));
        assert_eq!(of(&json!({"statusCode": "204"})).unwrap().0, 204);
    }

    #[test]
    fn several_values_win_over_one() {
        let result = json!({
            "statusCode": 200,
            "headers": {"x-a": "0"},
            "multiValueHeaders": {"X-A": ["1", "2"]},
        });
        let headers = of(&result).unwrap().1;
        let values: Vec<_> = headers.iter().filter(|(name, _)| name == "x-a").collect();
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(answer_of("{".into()).unwrap_err(), Malformed::Json);
        for status in [json!(99), json!(101), json!(600), json!("x"), json!(true)] {
            let wrong = of(&json!({"statusCode": status})).unwrap_err();
            assert_eq!(wrong, Malformed::Status(status.to_string()));
        }
        let header = json!({"statusCode": 200, "headers": {"x": "a\r\nb: c"}});
        assert_eq!(of(&header).unwrap_err(), Malformed::Header("x".into()));
        let body = json!({"statusCode": 200, "body": "%", "isBase64Encoded": true});
        assert_eq!(of(&body).unwrap_err(), Malformed::Body("base64"));
    }

    proptest! {
        #[test]
        fn no_result_is_too_odd(text in "[{}\"a:,0-9\\[\\]]{0,24}") {
            let _ = answer_of(text.into());
        }
    }
}
