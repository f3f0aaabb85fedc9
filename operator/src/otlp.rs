//! Sends wakings as spans to a collector, by OTLP over HTTP. One task: it takes from the bounded queue
//! what is there, sends it, and counts what became of it. No request waits for it.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use hyper::Uri;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanExporter as _, SpanLinks,
};
use rouse_activator::spans::{Outcome, Spans, Waking, Wakings, name_of};
use tokio::time::sleep;

/// Wakings of so long are sent together.
const GATHERED: Duration = Duration::from_secs(1);
/// Wakings that are sent together, at most: half of what may wait, some seven spans each.
const MOST_AT_ONCE: usize = 512;
/// How long one sending may take, with all its attempts.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where collectors take spans, as the protocol has it.
const PATH: &str = "/v1/traces";

/// Reads the address of a collector.
pub fn parse_endpoint(text: &str) -> Result<Uri, String> {
    let wrong = |why: &str| {
        Err(format!(
            "{text:?} {why}: give the address of an OpenTelemetry collector in the cluster that takes \
             OTLP over HTTP, such as http://collector.observability:4318"
        ))
    };
    let Ok(uri) = text.parse::<Uri>() else { return wrong("is no address") };
    match (uri.scheme_str(), uri.host(), uri.path()) {
        (Some("http"), Some(_), "" | "/") => {
            format!("{}{PATH}", text.trim_end_matches('/')).parse().map_err(|e| format!("{e}"))
        }
        (Some("http"), Some(_), _) => Ok(uri),
        (Some("https"), ..) => wrong("asks for TLS, which is the collector's job further on"),
        _ => wrong("does not begin with http://"),
    }
}

/// Sends what comes out of `wakings` to the collector at `endpoint`, as the pod of that name.
pub fn spawn(endpoint: &Uri, pod: &str, (spans, wakings): (Spans, Wakings)) -> anyhow::Result<()> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint.to_string())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(PATIENCE)
        .build()
        .context("setting up the sending of spans")?;
    let resource = [
        KeyValue::new("service.name", "rouse-activator"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("k8s.pod.name", pod.to_owned()),
    ];
    exporter.set_resource(&Resource::builder_empty().with_attributes(resource).build());
    tokio::spawn(run(exporter, spans, wakings));
    Ok(())
}

async fn run(exporter: SpanExporter, spans: Spans, mut wakings: Wakings) {
    let mut gathered = Vec::new();
    let mut told = true;
    while let Some(first) = wakings.recv().await {
        sleep(GATHERED).await;
        gathered.push(first);
        while gathered.len() < MOST_AT_ONCE {
            let Ok(next) = wakings.try_recv() else { break };
            gathered.push(next);
        }
        let count = gathered.len();
        let batch = gathered.drain(..).flat_map(|waking| build_spans(&waking)).collect();
        match exporter.export(batch).await {
            Ok(()) => {
                spans.note(Outcome::Sent, count);
                told = true;
            }
            Err(error) => {
                spans.note(Outcome::Failed, count);
                // Once until it works again: the counter tells the rest.
                if std::mem::take(&mut told) {
                    tracing::warn!(%error, "sending spans to the collector failed");
                }
            }
        }
    }
}

/// The span of a waking, as a child of the span that called, and those of its parts as its children.
fn build_spans(waking: &Waking) -> Vec<SpanData> {
    let caller = &waking.caller;
    let ids =
        TraceId::from_hex(caller.trace.as_str()).ok().zip(SpanId::from_hex(caller.span()).ok());
    let Some((trace, parent)) = ids else { return Vec::new() };
    let span = |name: &'static str, (parent, remote): (SpanId, bool), times: (_, _)| SpanData {
        span_context: SpanContext::new(
            trace,
            RandomIdGenerator::default().new_span_id(),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: parent,
        parent_span_is_remote: remote,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: SystemTime::from(times.0),
        end_time: SystemTime::from(times.1),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("rouse").build(),
    };
    let mut whole = span("rouse.activation", (parent, true), (waking.begins(), waking.ends()));
    whole.attributes = vec![
        KeyValue::new("faas.name", waking.key.name.to_string()),
        KeyValue::new("faas.coldstart", true),
        KeyValue::new("k8s.namespace.name", waking.key.namespace.to_string()),
        KeyValue::new("rouse.revision", waking.activation.revision.clone()),
    ];
    let own = (whole.span_context.span_id(), false);
    let parts = waking.parts().map(|part| span(name_of(part.phase), own, (part.begins, part.ends)));
    let parts: Vec<SpanData> = parts.collect();
    std::iter::once(whole).chain(parts).collect()
}

#[cfg(test)]
mod tests;
