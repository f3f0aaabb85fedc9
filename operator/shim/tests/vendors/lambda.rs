//! Handlers of AWS Lambda with the runtime clients of AWS: each language the same.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::{Shim, call, digest, get, post, send};
use crate::{clients, serving, zipped};

/// A language, as its runtime would start it.
struct Language {
    name: &'static str,
    code: Vec<u8>,
    command: Vec<String>,
    handler: &'static str,
    variables: Vec<(&'static str, String)>,
}

fn path(language: &str, path: &str) -> String {
    clients(language).join(path).to_str().unwrap().to_owned()
}

fn python() -> Language {
    Language {
        name: "python",
        code: zipped("python", &["app.py", "lib/__init__.py", "lib/words.py"]),
        command: ["python3", "-m", "awslambdaric", "app.handler"].map(Into::into).to_vec(),
        handler: "app.handler",
        variables: vec![("PYTHONPATH", path("python", "site"))],
    }
}

fn node() -> Language {
    let client = path("node", "node_modules/.bin/aws-lambda-ric");
    Language {
        name: "node",
        code: zipped("node", &["index.js", "lib/words.js"]),
        command: vec![client, "index.handler".into()],
        handler: "index.handler",
        variables: Vec::new(),
    }
}

fn go() -> Language {
    Language {
        name: "go",
        code: zipped("go", &[&path("go", "bin/lambda")]),
        command: vec!["./bootstrap".into()],
        handler: "bootstrap",
        variables: Vec::new(),
    }
}

fn rust() -> Language {
    Language {
        name: "rust",
        code: zipped("rust", &[&path("rust", "bootstrap")]),
        command: vec!["./bootstrap".into()],
        handler: "bootstrap",
        variables: Vec::new(),
    }
}

fn java() -> Language {
    let jars = path("java", "target/jars/*");
    let class_path = format!("{}:{jars}", path("java", "target/classes"));
    let client = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda";
    let handler = "rouse.Handler::handleRequest";
    let command =
        ["java", "-Xmx128m", "-cp", &class_path, client, handler].map(Into::into).to_vec();
    Language {
        name: "java",
        code: zipped("java", &["src/main/java/rouse/Handler.java"]),
        command,
        handler,
        variables: vec![],
    }
}

async fn start(language: Language, more: &[(&str, &str)]) -> (Shim, u16) {
    let command: Vec<&str> = language.command.iter().map(String::as_str).collect();
    let mut variables = vec![("ROUSE_CONTRACT", "lambda"), ("ROUSE_HANDLER", language.handler)];
    let own = language.variables.iter().map(|(name, value)| (*name, value.as_str()));
    variables.extend(own.chain(more.iter().copied()));
    serving(language.code, &command, &variables).await
}

/// What a handler answers to requests: a status, cookies both ways, a body of bytes, a failure.
async fn requests(language: Language) {
    let name = language.name;
    let (mut shim, port) = start(language, &[]).await;
    let request = Request::get("/hello?a=b").header("cookie", "x=1; y=2");
    let answer = call(port, request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.text(), format!("hello from {name} x=1,y=2"));
    assert_eq!(answer.header("content-type"), "text/plain");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").into_iter().collect();
    assert_eq!(cookies, ["a=1; Secure", "b=2"]);

    let bytes: Vec<u8> = (0..=255).collect();
    let request = Request::post("/binary").header("content-type", "image/png");
    let answer = call(port, request.body(Bytes::from(bytes.clone()).into()).unwrap()).await;
    assert_eq!((answer.header("content-type"), &answer.body[..]), ("image/png", &bytes[..]));

    let answer = get(port, "/fail").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["message"], "Internal Server Error");
    let why = shim.said(|line| line["why"].as_str().map(ToOwned::to_owned)).await;
    assert!(why.contains("on purpose"), "{why}");

    let request = Request::get("/print?words").header("x-request-id", "r-print");
    call(port, request.body(Full::default()).unwrap()).await;
    let printed = |line: &Value| {
        let is_it = line["message"].as_str()?.contains("printed words");
        is_it.then(|| line["requestId"].clone())
    };
    assert_eq!(shim.said(printed).await, "r-print");
    assert_eq!(shim.state().await["starts"], 1, "nothing of this ended the client");
}

/// Every event that AWS's client for Go is tested with comes back equal in meaning.
async fn golden(language: Language) {
    let language_name = language.name;
    let (shim, port) = start(language, &[]).await;
    let folder = clients("go").join("events");
    let mut seen = 0;
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        let text = std::fs::read(entry.path()).unwrap();
        let Ok(event) = serde_json::from_slice::<Value>(&text) else { continue };
        // What asks for an answer to a request gets one from these handlers.
        if event.get("rawPath").is_some() {
            continue;
        }
        let request = Request::post("/").header("rouse-event", "lambda");
        let answer = call(port, request.body(text.into()).unwrap()).await;
        let name = entry.path().display().to_string();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let expected = if language_name == "java" { without_nulls(event) } else { event };
        assert!(same(&answer.json(), &expected), "{name}: {}", answer.text());
        seen += 1;
    }
    assert!(seen > 60, "only {seen} events");
    assert_eq!(shim.state().await["starts"], 1);
}

/// The request that a golden event of API Gateway or of a function URL was.
fn request_of(event: &Value) -> Request<Full<Bytes>> {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (path, query) = (text("/rawPath"), text("/rawQueryString"));
    let mut request = Request::builder().method(text("/requestContext/http/method"));
    request = request.uri(if query.is_empty() { path.into() } else { format!("{path}?{query}") });
    let told = ["content-length", "user-agent", "x-forwarded-for"];
    for (name, value) in event["headers"].as_object().into_iter().flatten() {
        if !told.contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name, value.as_str().unwrap());
        }
    }
    request = request.header("user-agent", text("/requestContext/http/userAgent"));
    request = request.header("x-forwarded-for", text("/requestContext/http/sourceIp"));
    for cookie in event["cookies"].as_array().into_iter().flatten() {
        request = request.header("cookie", cookie.as_str().unwrap());
    }
    // The events leave out what their bodies are.
    let request = request.header("content-type", "text/plain").header("x-echo", "1");
    request.body(text("/body").to_owned().into()).unwrap()
}

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn golden_requests_become_the_events_that_aws_makes_of_them() {
    let (_shim, port) = start(python(), &[]).await;
    let mut seen = 0;
    for entry in clients("go").join("events").read_dir().unwrap().map(Result::unwrap) {
        let text = std::fs::read(entry.path()).unwrap();
        let Ok(event) = serde_json::from_slice::<Value>(&text) else { continue };
        // What asks whether a request is allowed is none.
        if event.get("rawPath").is_none() || event.get("type").is_some() {
            continue;
        }
        let name = entry.path().display().to_string();
        let answer = call(port, request_of(&event)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let got = answer.json();
        for path in [
            "/version",
            "/rawPath",
            "/rawQueryString",
            "/cookies",
            "/queryStringParameters",
            "/body",
            "/isBase64Encoded",
            "/requestContext/http",
        ] {
            let absent = |value: Option<&Value>| value.cloned().unwrap_or_default();
            assert_eq!(absent(got.pointer(path)), absent(event.pointer(path)), "{name}: {path}");
        }
        for (header, value) in event["headers"].as_object().unwrap() {
            let header = header.to_ascii_lowercase();
            if !["content-length", "x-forwarded-for", "cookie"].contains(&header.as_str()) {
                assert_eq!(got["headers"][&header], *value, "{name}: {header}");
            }
        }
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} requests");
}

/// A document without members that are null: the client for Java leaves them out for handlers that
/// take any object.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let some = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(some.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Whether two documents mean the same: some clients write 1.0 where 1 was.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let equal = |(name, value)| other.get(name).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(equal)
        }
        (one, other) => one == other,
    }
}

/// A result that is too large and a handler that is too late: the caller is told, and no client ends
/// over what the server says to it.
async fn bounds(language: Language) {
    // What waits for a process that starts again waits for a virtual machine with Java.
    let patience = if language.name == "java" { "12000" } else { "3000" };
    let (shim, port) = start(language, &[("ROUSE_REQUEST_TIMEOUT_MS", patience)]).await;
    let event = |event: Value| {
        let request = Request::post("/").header("rouse-event", "lambda");
        call(port, request.body(event.to_string().into()).unwrap())
    };
    let most = 6 * 1024 * 1024 + 100;
    let fits = event(json!({"large": most})).await;
    assert_eq!((fits.status.as_u16(), fits.body.len()), (200, most));
    let large = event(json!({"large": most + 1})).await;
    assert_eq!(large.status, 500);
    assert!(large.text().contains("ResponseSizeTooLarge"), "{}", large.text());
    assert_eq!(get(port, "/hello").await.status, 201);
    assert_eq!(shim.state().await["starts"], 1);
    let late = event(json!({"sleep": 60})).await;
    assert_eq!(late.status, 504, "{}", late.text());
    assert_eq!(get(port, "/hello").await.status, 201);
    assert_eq!(shim.state().await["starts"], 2);
}

/// Several requests at once in one process.
async fn together(language: Language) {
    let (shim, port) = start(language, &[("ROUSE_PROCESS_CONCURRENCY", "4")]).await;
    get(port, "/wait").await;
    let began = Instant::now();
    let all = tokio::join!(
        get(port, "/wait"),
        get(port, "/wait"),
        get(port, "/wait"),
        get(port, "/wait")
    );
    assert!([all.0, all.1, all.2, all.3].iter().all(|answer| answer.status == 201));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(shim.state().await["starts"], 1);
}

macro_rules! languages {
    ($($language:ident)*) => {$(
        mod $language {
            #[tokio::test]
            #[ignore = "needs the vendor's client"]
            async fn requests() {
                super::requests(super::$language()).await;
            }

            #[tokio::test]
            #[ignore = "needs the vendor's client"]
            async fn golden_events() {
                super::golden(super::$language()).await;
            }

            #[tokio::test]
            #[ignore = "needs the vendor's client"]
            async fn bounds() {
                super::bounds(super::$language()).await;
            }
        }
    )*};
}

languages!(python node go rust java);

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn go_python_and_java_take_several_requests_in_one_process() {
    for language in [go(), python(), java()] {
        together(language).await;
    }
}

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn node_streams_its_answer() {
    let mut language = node();
    language.command[1] = "index.stream".into();
    let (_shim, port) = start(language, &[]).await;
    let request = Request::get("/").body(Full::default()).unwrap();
    let (parts, mut body) = send(port, request).await.into_parts();
    assert_eq!((parts.status.as_u16(), &parts.headers["x-a"]), (202, &"1".parse().unwrap()));
    assert_eq!(parts.headers["set-cookie"], "c=1");
    let (mut times, mut whole) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        times.push(Instant::now());
        whole.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert_eq!(whole, b"one,two,three");
    let spread = *times.last().unwrap() - times[0];
    assert!(spread >= Duration::from_millis(80), "{spread:?}");
}

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn python_says_why_it_does_not_come_up() {
    let mut language = python();
    language.command[3] = "nothing.handler".into();
    let command: Vec<&str> = language.command.iter().map(String::as_str).collect();
    let mut variables = vec![("ROUSE_CONTRACT", "lambda")];
    variables.extend(language.variables.iter().map(|(name, value)| (*name, value.as_str())));
    let shim = Shim::start(&digest(&language.code), &command, &variables).await;
    assert_eq!(shim.push(language.code).await.status, 200);
    let state = shim.until("InitFailed").await;
    let message = state["message"].as_str().unwrap();
    assert!(message.contains("Runtime.ImportModuleError"), "{message}");
    assert!(message.contains("nothing"), "{message}");
}

#[tokio::test]
#[ignore = "needs the vendor's client"]
async fn a_handler_with_a_form_gets_it_as_api_gateway_sends_it() {
    let (_shim, port) = start(go(), &[]).await;
    let answer = post(port, "/binary", "a=b").await;
    assert_eq!(answer.text(), "a=b");
}
