//! Against a stand-in for a collector: an HTTP server that reads what comes with the types that the
//! protocol's own project generates. No collector can be had here; what one does with the spans is
//! not shown.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as Attribute};
use opentelemetry_proto::tonic::trace::v1::Span;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use prost::Message;
use rouse_activator::exemplar::Caller;
use rouse_core::function::FunctionKey;
use rouse_crds::v1alpha1::Activation;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn caller() -> Caller {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    Caller::of(&headers).unwrap()
}

fn example(caller: Caller) -> Waking {
    let activation = Activation {
        requested_at: Time(Timestamp::UNIX_EPOCH),
        revision: "r".into(),
        scaled_millis: Some(7),
        created_millis: Some(12),
        scheduled_millis: None,
        addressed_millis: Some(290),
        listening_millis: Some(301),
        first_byte_millis: Some(303),
    };
    Waking { key: FunctionKey::new("shop", "f"), caller, activation }
}

/// A collector that answers with `status` and passes on what it gets.
async fn collector(status: StatusCode) -> (Uri, mpsc::Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    assert_eq!(request.uri().path(), PATH);
                    assert_eq!(request.headers()[CONTENT_TYPE], "application/x-protobuf");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    sender.send(ExportTraceServiceRequest::decode(body).unwrap()).await.unwrap();
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = status;
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (parse_endpoint(&endpoint).unwrap(), received)
}

fn counted(registry: &Registry, outcome: &str, count: u32) -> bool {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text.contains(&format!("rouse_trace_wakings_total{{outcome=\"{outcome}\"}} {count}\n"))
}

fn text_of(attributes: &[Attribute], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()? {
        AnyValue { value: Some(Value::StringValue(text)) } => Some(text),
        AnyValue { value: Some(Value::BoolValue(flag)) } => Some(flag.to_string()),
        _ => None,
    }
}

#[tokio::test]
async fn a_waking_is_a_span_below_its_request_with_one_for_each_phase() {
    let (endpoint, mut received) = collector(StatusCode::OK).await;
    let mut registry = Registry::default();
    let mut spans = Spans::register(&mut registry);
    let wakings = spans.open();
    spawn(&endpoint, "rouse-activator-0", (spans.clone(), wakings)).unwrap();
    spans.tell(|| example(caller()));
    let request = received.recv().await.unwrap();
    let [resource] = &request.resource_spans[..] else { panic!("{request:?}") };
    let of = resource.resource.as_ref().unwrap();
    assert_eq!(text_of(&of.attributes, "service.name").unwrap(), "rouse-activator");
    assert_eq!(text_of(&of.attributes, "k8s.pod.name").unwrap(), "rouse-activator-0");
    let all: Vec<&Span> = resource.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    let (whole, parts) = all.split_first().unwrap();
    assert_eq!(whole.trace_id, TraceId::from_hex(TRACE).unwrap().to_bytes());
    assert_eq!(whole.parent_span_id, SpanId::from_hex(CALLER).unwrap().to_bytes());
    assert_eq!(text_of(&whole.attributes, "faas.name").unwrap(), "f");
    assert_eq!(text_of(&whole.attributes, "faas.coldstart").unwrap(), "true");
    assert_eq!(text_of(&whole.attributes, "k8s.namespace.name").unwrap(), "shop");
    assert_eq!(whole.end_time_unix_nano - whole.start_time_unix_nano, 303_000_000);
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let expected = ["scale", "create", "sandbox", "listen", "answer"];
    assert_eq!(names, expected.map(|name| format!("rouse.activation.{name}")));
    for part in parts {
        assert_eq!((&part.trace_id, &part.parent_span_id), (&whole.trace_id, &whole.span_id));
        assert_ne!(part.span_id, whole.span_id);
    }
    assert_eq!(parts[4].end_time_unix_nano, whole.end_time_unix_nano);
    while !counted(&registry, "sent", 1) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_collector_that_refuses_costs_nothing_but_the_spans() {
    let (endpoint, mut received) = collector(StatusCode::BAD_REQUEST).await;
    let mut registry = Registry::default();
    let mut spans = Spans::register(&mut registry);
    let wakings = spans.open();
    spawn(&endpoint, "p", (spans.clone(), wakings)).unwrap();
    for count in 1..=2 {
        spans.tell(|| example(caller()));
        received.recv().await.unwrap();
        while !counted(&registry, "failed", count) {
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn an_address_is_that_of_a_collector() {
    let parsed = |text| parse_endpoint(text).map(|uri| uri.to_string());
    let full = Ok("http://collector:4318/v1/traces".to_owned());
    assert_eq!(parsed("http://collector:4318"), full);
    assert_eq!(parsed("http://collector:4318/"), full);
    assert_eq!(parsed("http://gateway/otlp/v1/traces").unwrap(), "http://gateway/otlp/v1/traces");
    for wrong in ["", "collector:4318", "https://collector:4318", "http://"] {
        let error = parsed(wrong).unwrap_err();
        assert!(error.contains("http://collector.observability:4318"), "{error}");
    }
}
