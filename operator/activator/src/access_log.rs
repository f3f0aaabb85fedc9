//! One line for each request of a Function that asks for it (`spec.accessLog`), written when its
//! answer has ended, by the activator that the client called. It has no query and no header: both
//! carry secrets.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HeaderValue;
use http::{Method, Request, StatusCode};
use rouse_core::function::FunctionKey;
use tokio::time::Instant;

use crate::trace;

/// What is known of a request that is to be logged. The line is written when this is dropped.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    function: FunctionKey,
    arrived: Instant,
    method: Method,
    path: String,
    trace_id: Option<HeaderValue>,
    /// 0 while there is none: the client left before.
    status: AtomicU16,
    bytes: AtomicU64,
    wait: OnceLock<Duration>,
    pod: OnceLock<Arc<str>>,
    via: OnceLock<Via>,
}

/// Which way a request went whose Function another activator owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// By the owner.
    Owner,
    /// Straight to the pod.
    Straight,
}

impl Via {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Straight => "straight",
        }
    }
}

impl AccessRecord {
    /// A record of a request that has its trace.
    pub(crate) fn begin<B>(
        function: &FunctionKey,
        arrived: Instant,
        request: &Request<B>,
    ) -> Arc<Self> {
        Arc::new(Self {
            function: function.clone(),
            arrived,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            trace_id: trace::trace_id(request.headers()),
            status: AtomicU16::new(0),
            bytes: AtomicU64::new(0),
            wait: OnceLock::new(),
            pod: OnceLock::new(),
            via: OnceLock::new(),
        })
    }

    pub(crate) fn note_status(&self, status: StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    pub(crate) fn note_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes which pod has the request, and how long it waited for it.
    pub(crate) fn note_pod(&self, pod: &Arc<str>, wait: Duration) {
        // The first to answer is the only one.
        self.pod.get_or_init(|| Arc::clone(pod));
        self.wait.get_or_init(|| wait);
    }
}

impl AccessRecord {
    /// Notes that another activator owns the Function, and which way the request went.
    pub(crate) fn note_via(&self, via: Via) {
        // The first to answer is the only one.
        self.via.get_or_init(|| via);
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let status = self.status.load(Ordering::Relaxed);
        tracing::info!(
            target: "rouse::access",
            namespace = %self.function.namespace,
            function = %self.function.name,
            method = %self.method,
            path = %self.path,
            // As nginx has it for a client that left before it had an answer.
            status = if status == 0 { 499 } else { status },
            bytes = self.bytes.load(Ordering::Relaxed),
            duration_ms = self.arrived.elapsed().as_secs_f64() * 1000.0,
            wait_ms = self.wait.get().map(|wait| wait.as_secs_f64() * 1000.0),
            pod = self.pod.get().map(|pod| &**pod),
            via = self.via.get().map(|via| via.as_str()),
            trace_id = self.trace_id.as_ref().and_then(|id| id.to_str().ok()),
            "request"
        );
    }
}
