//! `rouse invoke`: calls a Function as a caller in the cluster would, and tells what it answered and what
//! the wait was made of.

pub mod args;
mod message;
mod timing;
mod way;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use rouse_core::function::FunctionKey;
use rouse_crds::v1alpha1::{ConditionType, Function};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use self::args::InvokeArgs;
use self::timing::Phase;
use self::way::Way;
use crate::cluster::{Cluster, name_of_function};
use crate::exit::Failure;
use crate::output::{self, Form, Sheet};
use crate::progress::{Progress, say};

/// An answer, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    millis: f64,
    phases: Vec<Phase>,
}

/// Calls the Function, and tells what came of it.
pub async fn run(args: &InvokeArgs) -> anyhow::Result<()> {
    let message = message::message(&args.body, Timestamp::now())?;
    let call = async {
        let (mut way, namespace) = Progress::begin().during(find(args)).await?;
        let key = FunctionKey::new(&namespace, &args.name);
        let request = build_request(args, message, &way.host(&key.cluster_host()))?;
        exchange(args, &mut way, request).await
    };
    let status = if args.timeout.is_zero() {
        call.await?
    } else {
        timeout(args.timeout, call).await.map_err(|_| too_late(&args.name, args.timeout))??
    };
    if status.is_client_error() || status.is_server_error() {
        return Err(Failure::Answered { who: args.name.clone(), status }.into());
    }
    Ok(())
}

fn too_late(name: &str, patience: Duration) -> Failure {
    Failure::TooLate(format!(
        "{name} did not answer within {patience:?}: --timeout waits longer, and `rouse status {name}` \
         says how it is"
    ))
}

/// The way to the Function, and its namespace.
async fn find(args: &InvokeArgs) -> anyhow::Result<(Way, String)> {
    if let Some(address) = &args.address {
        // Nobody else needs to be asked, so there need not be a cluster.
        let namespace = match &args.cluster.namespace {
            Some(namespace) => namespace.clone(),
            None => Cluster::of(&args.cluster)
                .await
                .map_or_else(|_| "default".into(), |it| it.namespace),
        };
        return Ok((Way::to(address)?, namespace));
    }
    let cluster = Cluster::of(&args.cluster).await?;
    let function = cluster.function(&args.name).await?;
    if sleeps(&function) {
        say(&format!("{} sleeps: this call wakes it", args.name));
    }
    let way = match &cluster.address {
        Some(address) => Way::to(address)?,
        None => Way::forward(&cluster, &args.name).await?,
    };
    Ok((way, cluster.namespace))
}

/// Whether nothing of a Function runs.
pub fn sleeps(function: &Function) -> bool {
    let conditions = function.status.iter().flat_map(|status| &status.conditions);
    let active = ConditionType::Active.as_str();
    let mut conditions = conditions.filter(|one| one.type_ == active);
    conditions.any(|one| one.reason == "Asleep")
}

fn build_request(
    args: &InvokeArgs,
    message: Option<rouse_event::Message>,
    host: &str,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let usual = if message.is_some() { Method::POST } else { Method::GET };
    let path =
        if args.path.starts_with('/') { args.path.clone() } else { format!("/{}", args.path) };
    let message = message.unwrap_or_else(|| rouse_event::Message { headers: vec![], body: vec![] });
    let mut request = Request::builder()
        .method(args.method.clone().unwrap_or(usual))
        .uri(&path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("rouse/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &message.headers {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(message.body));
    let mut request = request.body(body).with_context(|| format!("{path:?} is no path"))?;
    // What the user says stands in the place of what was told above, and beside itself.
    let headers = request.headers_mut();
    for (name, _) in &args.headers {
        headers.remove(name);
    }
    for (name, value) in &args.headers {
        headers.append(name, value.clone());
    }
    Ok(request)
}

/// Sends the request and tells the answer; gives its status.
async fn exchange(
    args: &InvokeArgs,
    way: &mut Way,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<StatusCode> {
    let begun = Instant::now();
    let answer = Progress::begin().during(way.send(request)).await?;
    let (status, phases) = (answer.status(), timing::phases(answer.headers()));
    let sheet = timing::sheet(&phases);
    if args.output.is_for_people() {
        tell_head(args, &answer, begun.elapsed());
        let bytes = copy(answer.into_body()).await?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        say(&format!("{status}, {bytes} bytes in {took:.1} ms"));
        if timing::is_cold(&phases) {
            say(sheet.render(Form::Table, &phases)?.trim_end());
        }
        return Ok(status);
    }
    let headers = answer.headers().iter().map(|(name, value)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let headers = headers.collect();
    let body = answer.into_body().collect().await.context(CUT)?.to_bytes();
    let (body, body_base64) = match String::from_utf8(body.to_vec()) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(&body))),
    };
    let millis = begun.elapsed().as_secs_f64() * 1000.0;
    let answer = Answer { status: status.as_u16(), headers, body, body_base64, millis, phases };
    Sheet { names: vec![name_of_function(&args.name)], ..sheet }.print(args.output, &answer)?;
    Ok(status)
}

/// What is said of an answer that breaks off.
const CUT: &str = "the answer broke off";

fn tell_head(args: &InvokeArgs, answer: &Response<Incoming>, took: Duration) {
    if args.output != Form::Wide {
        return;
    }
    say(&format!("head after {:.1} ms", took.as_secs_f64() * 1000.0));
    for (name, value) in answer.headers() {
        say(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
}

/// Prints a body as it comes; gives its length.
async fn copy(mut body: Incoming) -> anyhow::Result<usize> {
    let is_seen = std::io::stdout().is_terminal();
    let (mut bytes, mut last) = (0, b'\n');
    while let Some(frame) = body.frame().await {
        let Ok(part) = frame.context(CUT)?.into_data() else { continue };
        if is_seen && part.contains(&0) {
            say("the body is no text: send it to a file (> FILE)");
            return Ok(bytes + part.len());
        }
        bytes += part.len();
        last = part.last().copied().unwrap_or(last);
        if !output::print_bytes(&part)? {
            // It may never end by itself.
            return Ok(bytes);
        }
    }
    if last != b'\n' {
        // What is told next begins a line, wherever the two go.
        say("");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use hyper::header::CONTENT_TYPE;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::args::{Cli, Role};
    use crate::role::command::Command;

    fn args(line: &[&str]) -> InvokeArgs {
        let line = ["rouse", "invoke", "hello"].iter().chain(line);
        let Role::Command(Command::Invoke(args)) = Cli::parse_from(line).role else {
            panic!("another role")
        };
        *args
    }

    fn request(line: &[&str]) -> Request<Full<Bytes>> {
        let args = args(line);
        let message = message::message(&args.body, Timestamp::UNIX_EPOCH).unwrap();
        build_request(&args, message, "hello.shop").unwrap()
    }

    #[test]
    fn a_body_makes_it_a_post_and_the_user_has_the_last_word() {
        let plain = request(&[]);
        assert_eq!((plain.method(), plain.uri().path()), (&Method::GET, "/"));
        assert_eq!(plain.headers()[HOST], "hello.shop");
        let post = request(&["v1/x?a=1", "--data", "{}"]);
        assert_eq!((post.method(), post.uri().to_string().as_str()), (&Method::POST, "/v1/x?a=1"));
        assert_eq!(post.headers()[CONTENT_TYPE], "application/json");
        let own = ["-X", "PUT", "-d", "x", "-H", "Content-Type: a/b", "-H", "X: 1", "-H", "X: 2"];
        let own = request(&own);
        assert_eq!(
            (own.method(), &own.headers()[CONTENT_TYPE]),
            (&Method::PUT, &"a/b".parse().unwrap())
        );
        assert_eq!(own.headers().get_all("x").iter().count(), 2);
    }

    #[test]
    fn one_body_is_sent_at_most() {
        let parse = |line: &str| Cli::try_parse_from(format!("rouse invoke f {line}").split(' '));
        for wrong in
            ["--data a --file b", "--event a --data b", "--event a --event-type b", "--lambda"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(
            parse("--event-type t").is_ok() && parse("--data {} --event-type t --lambda").is_ok()
        );
    }

    /// Answers all with one body; gives where, and what is asked.
    async fn serve(body: String) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, hears) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                asked.send(String::from_utf8_lossy(&request[..read]).into_owned()).await.unwrap();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     content-length: {length}\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (address, hears)
    }

    #[tokio::test]
    async fn where_the_kubeconfig_says_how_functions_are_called_no_port_is_forwarded() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let function = json!({"apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
                              "metadata": {"name": "hello", "namespace": "shop"}, "spec": {"image": "x"}});
        let (api, mut asked) = serve(function.to_string()).await;
        let (gateway, mut called) = serve("hi".into()).await;
        let extension = json!({"name": "rouse.dev", "extension": {"address": gateway}});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "dev",
            "clusters": [{"name": "dev", "cluster": {"server": api, "extensions": [extension]}}],
            "contexts": [{"name": "dev", "context": {"cluster": "dev", "namespace": "shop"}}],
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_string()).unwrap();
        let args = args(&["/v1", "--kubeconfig", file.path().to_str().unwrap()]);
        let (mut way, namespace) = find(&args).await.unwrap();
        let host = way.host(&FunctionKey::new(&namespace, &args.name).cluster_host());
        let answer = way.send(build_request(&args, None, &host).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hi");
        let called = called.recv().await.unwrap().to_ascii_lowercase();
        assert!(
            called.starts_with("get /v1 http/1.1") && called.contains("host: hello.shop"),
            "{called}"
        );
        assert!(asked.recv().await.unwrap().contains("/namespaces/shop/functions/hello "));
        assert!(asked.try_recv().is_err(), "nothing else is asked of the API server");
    }
}
