//! Headers: what is taken off a message before it is passed on, and what is put on it. Pure.
//!
//! Connection headers end at each hop. Whatever starts with `x-rouse-` is said between activators
//! only: nobody else may say it, in requests or in answers.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Version};

/// Prefix of what activators say to one another.
const INTERNAL: &str = "x-rouse-";

/// The token by which an activator proves itself.
pub(crate) const PEER_TOKEN: HeaderName = HeaderName::from_static("x-rouse-peer-token");
/// `NAME.NAMESPACE` of the Function that a passed on request is for.
pub(crate) const FUNCTION: HeaderName = HeaderName::from_static("x-rouse-function");
/// UID of that Function.
pub(crate) const FUNCTION_UID: HeaderName = HeaderName::from_static("x-rouse-function-uid");
/// Milliseconds since the request came to the activator that passes it on.
pub(crate) const ARRIVED_AGO: HeaderName = HeaderName::from_static("x-rouse-arrived-ago-ms");
/// Length of the body of a passed on request: what is sent on the stream is longer by a word.
const LENGTH: HeaderName = HeaderName::from_static("x-rouse-content-length");
/// On an answer: the request was not sent on, because this activator does not own the Function or
/// can't serve it now.
pub(crate) const UNSENT: HeaderName = HeaderName::from_static("x-rouse-unsent");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// On an answer between activators: the pod that gave it, and the milliseconds that the request
/// waited for it.
pub(crate) const SERVED_BY: HeaderName = HeaderName::from_static("x-rouse-served-by");

const X_FORWARDED: &str = "x-forwarded-";
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that end at each hop whether or not `Connection` names them. Bodies are framed anew.
static HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes the headers off a request that must not be passed on. Answers with the protocol that the
/// client wants to change to, where it does.
pub(crate) fn sanitise_request(headers: &mut HeaderMap, version: Version) -> Option<HeaderValue> {
    // One look at all names is less than one at each that might be there.
    let odd = |name: &HeaderName| {
        [TE, EXPECT, COOKIE].contains(name) || HOP_BY_HOP.contains(name) || is_internal(name)
    };
    if !headers.keys().any(odd) {
        return None;
    }
    let upgrade = (version == Version::HTTP_11).then(|| wanted_upgrade(headers)).flatten();
    let trailers = names_token(headers, &TE, "trailers");
    remove_hop_by_hop(headers);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The server side answers it as soon as somebody asks for the body.
    headers.remove(EXPECT);
    remove_internal(headers);
    join_cookies(headers);
    upgrade
}

/// Takes the headers off an answer that must not be passed on.
pub(crate) fn sanitise_response(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name) || is_internal(name)) {
        return;
    }
    remove_hop_by_hop(headers);
    remove_internal(headers);
}

/// Takes off what activators say to one another.
pub(crate) fn remove_internal(headers: &mut HeaderMap) {
    if headers.keys().any(is_internal) {
        let names: Vec<HeaderName> = headers.keys().filter(|n| is_internal(n)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

fn is_internal(name: &HeaderName) -> bool {
    name.as_str().starts_with(INTERNAL)
}

/// Whether a header of this name tells of a client.
pub(crate) fn tells_of_client(name: &HeaderName) -> bool {
    name.as_str().starts_with(X_FORWARDED) || *name == X_REAL_IP || *name == FORWARDED
}

/// Takes off what tells of a client and may not be believed.
fn remove_told_of_client(headers: &mut HeaderMap) {
    let tells = |name: &&HeaderName| tells_of_client(name);
    if headers.keys().any(|name| tells(&name)) {
        let names: Vec<HeaderName> = headers.keys().filter(tells).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// Puts the headers back by which an HTTP/1.1 connection changes to `protocol`.
pub(crate) fn restore_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The protocol that a client wants to change to. A change to HTTP/2 is not granted: it would put
/// requests past all that is checked here.
fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let lower = protocol.as_bytes().to_ascii_lowercase();
    let is_http = lower.split(|b| *b == b',').any(|p| p.trim_ascii().starts_with(b"h2"));
    (names_token(headers, &CONNECTION, "upgrade") && !is_http).then(|| protocol.clone())
}

fn names_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // What frames and addresses a message can't be dropped on the way.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// HTTP/2 permits several fields with cookies, HTTP/1.1 does not (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).into_iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let values: Vec<&[u8]> =
        headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// Address of the other side.
    pub client: SocketAddr,
    /// Whether it is believed what it says of clients of its own.
    pub believed: bool,
    /// Whether it speaks TLS.
    pub secure: bool,
}

/// What is told of the clients of one connection; made once for all of its requests.
#[derive(Clone, Debug)]
pub(crate) struct ClientFacts {
    believed: bool,
    scheme: &'static str,
    address: HeaderValue,
    forwarded: HeaderValue,
    lines: Box<str>,
}

impl ClientFacts {
    pub(crate) fn new(origin: Origin) -> Self {
        let Origin { client, believed, secure } = origin;
        let scheme = if secure { "https" } else { "http" };
        // An IPv4 client of a socket for both kinds is still an IPv4 client.
        let ip = client.ip().to_canonical();
        let mut forwarded = String::new();
        // Writing to a string can't fail.
        let _ = match ip {
            IpAddr::V4(ip) => write!(forwarded, "for={ip};proto={scheme}"),
            IpAddr::V6(ip) => write!(forwarded, "for=\"[{ip}]\";proto={scheme}"),
        };
        let lines = format!(
            "{X_FORWARDED_FOR}: {ip}\r\n{FORWARDED}: {forwarded}\r\n{X_FORWARDED_PROTO}: {scheme}\r\n"
        );
        Self {
            believed,
            scheme,
            address: header_value(&ip.to_string()),
            forwarded: header_value(&forwarded),
            lines: lines.into(),
        }
    }

    /// What is told where a request says nothing of it, but for the host: as it is written.
    pub(crate) fn lines(&self) -> &[u8] {
        self.lines.as_bytes()
    }

    /// Tells the pod of the client. What the other side says itself counts where it is believed: in
    /// the cluster, where callers may be proxies of their own, and of the proxies in front.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let scheme = HeaderValue::from_static(self.scheme);
        let host = headers.get(HOST).cloned();
        if self.believed {
            append(headers, X_FORWARDED_FOR, &self.address);
            append(headers, FORWARDED, &self.forwarded);
            headers.entry(X_FORWARDED_PROTO).or_insert(scheme);
            if let Some(host) = host {
                headers.entry(X_FORWARDED_HOST).or_insert(host);
            }
        } else {
            remove_told_of_client(headers);
            headers.insert(X_FORWARDED_FOR, self.address.clone());
            headers.insert(FORWARDED, self.forwarded.clone());
            headers.insert(X_FORWARDED_PROTO, scheme);
            if let Some(host) = host {
                headers.insert(X_FORWARDED_HOST, host);
            }
        }
    }
}

/// Adds `value` to the list that `name` has.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let joined = {
        let mut list: Vec<&[u8]> =
            headers.get_all(&name).into_iter().map(HeaderValue::as_bytes).collect();
        if list.is_empty() {
            None
        } else {
            list.push(value.as_bytes());
            HeaderValue::from_bytes(&list.join(&b", "[..])).ok()
        }
    };
    headers.insert(name, joined.unwrap_or_else(|| value.clone()));
}

/// `text` as a value; empty where it can't be one.
pub(crate) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Gives `request` the form of HTTP/1.1: the host in a header, the path alone as its target.
pub(crate) fn speak_http1<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_11;
    if !request.headers().contains_key(HOST)
        && let Some(authority) = request.uri().authority()
    {
        let host = header_value(authority.as_str());
        request.headers_mut().insert(HOST, host);
    }
    if request.uri().authority().is_some() {
        *request.uri_mut() = Uri::from(path_and_query(request.uri()));
    }
}

/// Tells the length of the body so that only the owner takes it for that.
pub(crate) fn hide_length(headers: &mut HeaderMap) {
    if let Some(length) = headers.remove(CONTENT_LENGTH) {
        headers.insert(LENGTH, length);
    }
}

/// Takes the length of the body for what it is again.
pub(crate) fn show_length(headers: &mut HeaderMap) {
    if let Some(length) = headers.remove(LENGTH) {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Makes a request without a body wait for `100 Continue`, at whose heels its end comes.
pub(crate) fn wait_to_go(headers: &mut HeaderMap) {
    headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    headers.remove(CONTENT_LENGTH);
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// Gives `request` the form of HTTP/2: the host and scheme in its target. A host that can't stand
/// there was refused when the request came in.
pub(crate) fn speak_http2<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(HOST) else { return };
    if let Ok(authority) = Authority::try_from(host.as_bytes()) {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority);
        parts.path_and_query = Some(path_and_query(request.uri()));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// The path and query of `uri`; the root where it has none.
pub(crate) fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).fold(
            HeaderMap::new(),
            |mut map, (name, value)| {
                map.append(name, value);
                map
            },
        )
    }

    fn texts(headers: &HeaderMap) -> Vec<String> {
        let mut texts: Vec<String> =
            headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        texts.sort();
        texts
    }

    #[test]
    fn connection_headers_and_internal_ones_end_here() {
        let mut headers = map(&[
            ("host", "a.b"),
            ("connection", "close, X-Own , host, content-length"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("x-own", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("expect", "100-continue"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "secret"),
            ("authorization", "mine"),
            ("x-rouse-peer-token", "forged"),
            ("x-rouse-anything", "forged"),
        ]);
        assert_eq!(sanitise_request(&mut headers, Version::HTTP_11), None);
        assert_eq!(
            texts(&headers),
            ["authorization: mine", "content-length: 3", "host: a.b", "te: trailers"]
        );
    }

    #[test]
    fn an_upgrade_is_wanted_in_http11_and_never_to_http2() {
        let wanted = |version, protocol: &'static str| {
            let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", protocol)]);
            sanitise_request(&mut headers, version)
        };
        assert_eq!(wanted(Version::HTTP_11, "websocket").unwrap(), "websocket");
        assert_eq!(wanted(Version::HTTP_10, "websocket"), None);
        assert_eq!(wanted(Version::HTTP_11, "H2C"), None);
        assert_eq!(wanted(Version::HTTP_11, "websocket, h2c"), None);
    }

    #[test]
    fn who_is_believed_is_added_to_and_others_are_replaced() {
        let said = [
            ("host", "a.b"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-for", "8.8.8.8"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "said.example"),
            ("forwarded", "for=9.9.9.9"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "9.9.9.9"),
        ];
        let client = "[::ffff:10.0.0.1]:5".parse().unwrap();
        let mut headers = map(&said);
        ClientFacts::new(Origin { client, believed: true, secure: false }).apply(&mut headers);
        assert_eq!(
            texts(&headers),
            [
                "forwarded: for=9.9.9.9, for=10.0.0.1;proto=http",
                "host: a.b",
                "x-forwarded-for: 9.9.9.9, 8.8.8.8, 10.0.0.1",
                "x-forwarded-host: said.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-real-ip: 9.9.9.9",
            ]
        );
        let mut headers = map(&said);
        let client = "[2001:db8::1]:5".parse().unwrap();
        ClientFacts::new(Origin { client, believed: false, secure: true }).apply(&mut headers);
        assert_eq!(
            texts(&headers),
            [
                "forwarded: for=\"[2001:db8::1]\";proto=https",
                "host: a.b",
                "x-forwarded-for: 2001:db8::1",
                "x-forwarded-host: a.b",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn a_request_changes_its_form_and_back_without_a_loss() {
        let mut request = Request::builder().uri("/a%20b?c=%2f&d").body(()).unwrap();
        request.headers_mut().insert(HOST, HeaderValue::from_static("f.shop:80"));
        speak_http2(&mut request);
        assert_eq!(request.uri(), "http://f.shop:80/a%20b?c=%2f&d");
        assert!(!request.headers().contains_key(HOST));
        speak_http1(&mut request);
        assert_eq!(request.uri(), "/a%20b?c=%2f&d");
        assert_eq!(request.headers()[HOST], "f.shop:80");
    }

    #[test]
    fn cookies_become_one() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(texts(&headers), ["cookie: a=1; b=2"]);
    }
}
