//! The first phase: what a request says must be one thing only, and nothing that only Rouse may
//! say. Odd requests are refused, not repaired. Pure, but for the clock.

use std::time::Duration;

use http::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, Uri};
use http::{Method, Request, Version};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use rouse_core::function::FunctionKey;
use tokio::time::Instant;

use crate::body::{RequestBody, Verdict, Wrong};
use crate::function::FunctionHandle;
use crate::headers;
use crate::problem::Failure;

/// Bytes that the names and values of a request's headers may have together.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Headers that a request may have; the server below reads at most 100.
const MAX_HEADER_COUNT: usize = 96;

/// Bytes that a request's path and query may have together.
const MAX_TARGET_BYTES: usize = 16 * 1024;

/// Bytes that a waiting request takes apart from its headers and target: its task and its place.
const HEAD_OVERHEAD: usize = 4096;

/// How long the body of a request may stand still where the Function does not say.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Longest time that another activator may say a request has waited already.
const MAX_AGO: Duration = Duration::from_hours(24);

/// A request that may be passed on: its host in the header `Host`, its path alone as its target.
#[derive(Debug)]
pub(super) struct Received {
    /// In a box: it is handed from phase to phase.
    pub request: Box<Request<RequestBody>>,
    /// Memory that it takes while it waits: its head, and what was read of its body.
    pub held_bytes: u64,
    /// The change of protocol that the client asks for.
    pub upgrade: Option<Upgrade>,
    /// Whether the client speaks HTTP/1.
    pub http1: bool,
    /// What its body is held to.
    pub bounds: Option<BodyBounds>,
}

/// What the body of a request is held to.
#[derive(Clone, Debug)]
pub(super) struct BodyBounds {
    function: FunctionKey,
    limit: u64,
    pause: Duration,
    verdict: Verdict,
}

impl BodyBounds {
    /// What the request failed for, if it failed for its body.
    pub fn failure(&self) -> Option<Failure> {
        Some(match self.verdict.get()? {
            Wrong::TooLarge => {
                Failure::BodyTooLarge { function: self.function.clone(), limit: self.limit }
            }
            Wrong::Stalled => Failure::BodyStalled(self.pause),
        })
    }
}

impl Received {
    /// Holds the body to what `function` takes. A stream of HTTP/2 without a length may stand still
    /// for as long as the other side has something to say.
    pub fn bound_body(&mut self, function: &FunctionHandle) -> Result<(), Failure> {
        let body = self.request.body_mut();
        if body.is_end_stream() {
            return Ok(());
        }
        let limit = function.rules().body_limit;
        let size = body.size_hint();
        if let Some(limit) = limit.filter(|limit| size.lower() > *limit) {
            return Err(Failure::BodyTooLarge { function: function.key.clone(), limit });
        }
        let uploads = self.http1 || size.exact().is_some();
        let pause = function.timeouts().idle.or(uploads.then_some(LONGEST_PAUSE));
        self.bounds = body.watch(limit, pause).map(|verdict| BodyBounds {
            function: function.key.clone(),
            limit: limit.unwrap_or_default(),
            pause: pause.unwrap_or_default(),
            verdict,
        });
        Ok(())
    }
}

/// A change of protocol.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// What the connection changes to.
    pub protocol: HeaderValue,
    /// The client's connection, once it has changed.
    pub client: OnUpgrade,
}

/// What another activator says of a request that it passes on.
#[derive(Debug)]
pub(super) struct Told {
    /// `NAME.NAMESPACE`.
    pub function: String,
    pub uid: String,
    /// When the request came to the first activator.
    pub arrived: Instant,
}

/// Checks and cleans the request of a client.
pub(super) fn receive(request: Request<RequestBody>) -> Result<Received, Failure> {
    let bytes = measure(&request);
    check_limits(&request, bytes)?;
    clean(request, bytes)
}

/// Cleans a request whose head has so many `bytes`.
fn clean(mut request: Request<RequestBody>, bytes: usize) -> Result<Received, Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::Connect);
    }
    check_coding(request.headers())?;
    check_scheme(request.uri())?;
    settle_host(&mut request)?;
    let http1 = request.version() < Version::HTTP_2;
    let version = request.version();
    let protocol = headers::sanitise_request(request.headers_mut(), version);
    let upgrade =
        protocol.map(|protocol| Upgrade { protocol, client: hyper::upgrade::on(&mut request) });
    request.extensions_mut().clear();
    headers::speak_http1(&mut request);
    let head = u64::try_from(bytes + HEAD_OVERHEAD).unwrap_or(u64::MAX);
    let held_bytes = head.saturating_add(request.body().read_ahead());
    let request = Box::new(request);
    Ok(Received { request, held_bytes, upgrade, http1, bounds: None })
}

/// Checks and cleans a request that a proven activator passes on.
pub(super) fn receive_forwarded(
    mut request: Request<RequestBody>,
) -> Result<(Received, Told), Failure> {
    headers::show_length(request.headers_mut());
    let text = |name| {
        let value: Option<&HeaderValue> = request.headers().get(name);
        value.and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let told = (|| {
        let ago = text(headers::ARRIVED_AGO)?.parse().ok().map(Duration::from_millis)?;
        let now = Instant::now();
        Some(Told {
            function: text(headers::FUNCTION)?,
            uid: text(headers::FUNCTION_UID)?,
            arrived: now.checked_sub(ago.min(MAX_AGO)).unwrap_or(now),
        })
    })();
    let told = told.ok_or(Failure::BadRequest(
        "the request does not say which Function it is passed on for",
    ))?;
    // The limits were checked where it came in; it has more headers by now.
    let bytes = measure(&request);
    Ok((clean(request, bytes)?, told))
}

/// Bytes of the names and values of the headers.
fn header_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Bytes of the head.
fn measure<B>(request: &Request<B>) -> usize {
    header_bytes(request.headers()) + target_bytes(request)
}

/// Bytes of the path and query.
fn target_bytes<B>(request: &Request<B>) -> usize {
    request.uri().path_and_query().map_or(0, |target| target.as_str().len())
}

fn check_limits<B>(request: &Request<B>, bytes: usize) -> Result<(), Failure> {
    let target = target_bytes(request);
    if target > MAX_TARGET_BYTES {
        return Err(Failure::TargetTooLong { bytes: target, max_bytes: MAX_TARGET_BYTES });
    }
    let fields = request.headers();
    let bytes = bytes - target;
    if bytes > MAX_HEADER_BYTES || fields.len() > MAX_HEADER_COUNT {
        return Err(Failure::HeadersTooLarge {
            bytes,
            count: fields.len(),
            max_bytes: MAX_HEADER_BYTES,
            max_count: MAX_HEADER_COUNT,
        });
    }
    Ok(())
}

/// The body's own coding, such as gzip, is told in `Content-Encoding` and none of a proxy's business;
/// one of the transfer would have to be undone here.
fn check_coding(fields: &HeaderMap) -> Result<(), Failure> {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    Err(Failure::BadRequest("the request has a Transfer-Encoding other than chunked"))
}

/// A target that names another scheme asks for something that is not here.
fn check_scheme(target: &Uri) -> Result<(), Failure> {
    match target.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(Failure::BadRequest("the request's target is not of http or https")),
    }
}

/// Leaves the host in one place: the header `Host`, as the client wrote it.
fn settle_host<B>(request: &mut Request<B>) -> Result<(), Failure> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::BadRequest("the request has more than one Host header"));
    }
    let target = request.uri().authority().map(Authority::as_str);
    let host = match (header, target) {
        (Some(header), Some(target)) => {
            if !header.as_bytes().eq_ignore_ascii_case(target.as_bytes()) {
                return Err(Failure::BadRequest(
                    "the request names one host in its target and another in its Host header",
                ));
            }
            None
        }
        (Some(_), None) => None,
        (None, Some(target)) => Some(headers::header_value(target)),
        (None, None) => return Err(Failure::BadRequest("the request names no host")),
    };
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    if names_host(request.headers()) {
        Ok(())
    } else {
        Err(Failure::BadRequest("the request's host is no name or address, with or without a port"))
    }
}

fn names_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).map(HeaderValue::as_bytes) else { return false };
    let simple = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || host.len() > 512 {
        return false;
    }
    let odd = |b: &u8| !simple(b) && !matches!(b, b':' | b'[' | b']');
    host.iter().all(simple) || (!host.iter().any(odd) && has_good_port(host))
}

fn has_good_port(host: &[u8]) -> bool {
    Authority::try_from(host)
        .is_ok_and(|authority| authority.port().is_some() || authority.host().len() == host.len())
}
