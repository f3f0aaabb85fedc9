//! What a pod is told of a request beside what the request says: of its client, and of the trace that
//! it belongs to. Few requests say anything of either themselves. For all others it stays beside the
//! headers until they are written, where one line is put behind the other, instead of being put
//! among them one by one. Pure, but for the random numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BufMut;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};

use crate::exemplar::Caller;
use crate::headers::{self, ClientFacts};
use crate::trace::{self, Trace};

/// What is told of one request.
#[derive(Debug, Default)]
pub(crate) struct Told {
    beside: Option<(Arc<ClientFacts>, Trace)>,
    /// Whether it is among the headers by now.
    among: AtomicBool,
}

impl Told {
    /// What is to be told of a request of `client` with these headers; it goes among them at once
    /// where they say something of it already.
    pub fn of(client: &Arc<ClientFacts>, headers: &mut HeaderMap) -> Self {
        let said = |name: &HeaderName| headers::tells_of_client(name) || trace::is_told_in(name);
        if headers.keys().any(said) {
            client.apply(headers);
            trace::settle(headers);
            return Self::default();
        }
        Self { beside: Some((Arc::clone(client), Trace::begin())), among: AtomicBool::new(false) }
    }

    fn beside(&self) -> Option<&(Arc<ClientFacts>, Trace)> {
        self.beside.as_ref().filter(|_| !self.among.load(Ordering::Relaxed))
    }

    /// Puts it among the headers, unless it is there.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if let Some((client, trace)) = self.beside() {
            client.apply(headers);
            trace.apply(headers);
            self.among.store(true, Ordering::Relaxed);
        }
    }

    /// Where a request with these headers comes from, if somebody records its trace.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        match self.beside() {
            Some((_, trace)) => Caller::of_parent(trace.parent()),
            None => Caller::of(headers),
        }
    }

    /// Bytes of the lines that [`Told::write`] writes, and some more.
    pub fn room(&self, headers: &HeaderMap) -> usize {
        let host = headers.get(HOST).map_or(0, HeaderValue::len);
        self.beside().map_or(0, |(client, _)| client.lines().len() + host + trace::ROOM + ROOM)
    }

    /// Writes what is not among the headers.
    pub fn write(&self, headers: &HeaderMap, head: &mut Vec<u8>) {
        let Some((client, trace)) = self.beside() else { return };
        head.put_slice(client.lines());
        if let Some(host) = headers.get(HOST) {
            head.put_slice(b"x-forwarded-host: ");
            head.put_slice(host.as_bytes());
            head.put_slice(b"\r\n");
        }
        trace.write(head);
    }
}

/// Bytes of the name of the host's line, and of what stands around it.
const ROOM: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Origin;

    fn client(believed: bool) -> Arc<ClientFacts> {
        let origin = Origin { client: "192.0.2.7:4711".parse().unwrap(), believed, secure: false };
        Arc::new(ClientFacts::new(origin))
    }

    fn host() -> HeaderMap {
        HeaderMap::from_iter([(HOST, HeaderValue::from_static("f.shop"))])
    }

    #[test]
    fn what_is_written_is_what_would_be_among_the_headers() {
        for believed in [true, false] {
            let mut headers = host();
            let told = Told::of(&client(believed), &mut headers);
            assert_eq!(headers.len(), 1, "it stays beside them");
            let mut written = Vec::new();
            told.write(&headers, &mut written);
            assert!(written.len() <= told.room(&headers));
            let caller = told.caller(&headers);
            assert!(caller.is_some());
            told.tell(&mut headers);
            let lines = headers.iter().skip(1).flat_map(|(name, value)| {
                [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
            });
            let lines: Vec<u8> = lines.collect();
            assert_eq!(String::from_utf8(written), String::from_utf8(lines));
            assert_eq!(told.caller(&headers), caller);

            let told_once = headers.clone();
            told.tell(&mut headers);
            let mut written = Vec::new();
            told.write(&headers, &mut written);
            assert_eq!((headers, written.len()), (told_once, 0), "it is told once");
        }
    }

    #[test]
    fn what_a_request_says_itself_is_settled_at_once() {
        for said in [
            "x-forwarded-for",
            "x-forwarded-port",
            "x-real-ip",
            "forwarded",
            "traceparent",
            "tracestate",
            "x-request-id",
        ] {
            let mut headers = host();
            headers.insert(said, HeaderValue::from_static("said"));
            let told = Told::of(&client(true), &mut headers);
            assert!(headers.contains_key("traceparent") && headers.contains_key("forwarded"));
            let mut written = Vec::new();
            told.write(&headers, &mut written);
            assert_eq!((written.len(), told.room(&headers)), (0, 0), "{said}");
        }
    }
}
