//! Fetches an archive by its URL, from the pod's own place in the network. It says where it failed
//! and leaves trying again to others.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HOST, LOCATION, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Refused, Store};

/// How often one may be sent elsewhere.
const REDIRECTS: usize = 5;
/// How long a server may take to be reached, and to begin its answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the whole may take.
const WHOLE: Duration = Duration::from_mins(10);

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The server answered something else.
    #[error("GET {url} was answered with {status}")]
    Status {
        /// What was asked for; without its query, which may hold a signature.
        url: String,
        /// The answer.
        status: http::StatusCode,
    },
    /// There was no answer.
    #[error("GET {url}: {cause}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        cause: String,
    },
    /// One is sent on and on.
    #[error("GET {0} leads from one place to another, more than {REDIRECTS} times")]
    Redirects(String),
    /// One is sent where an archive has no business to be.
    #[error("GET {url} leads to {to}, an address of this machine or link, which is not followed")]
    Inwards {
        /// What was asked for.
        url: String,
        /// Where it leads.
        to: IpAddr,
    },
    /// What came is not taken.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Fetches the archive into the store.
pub async fn fetch(store: &Store, url: &Uri, most: u64) -> Result<(), Failed> {
    let response = follow(url).await?;
    store.take(response.into_body(), most, WHOLE).await?;
    Ok(())
}

async fn follow(url: &Uri) -> Result<Response<Incoming>, Failed> {
    let mut at = url.clone();
    for hop in 0..=REDIRECTS {
        let response = match timeout(PATIENCE, ask(&at, hop > 0)).await {
            Ok(response) => response?,
            Err(_) => return Err(unreachable(&at, "there was no answer in 20 s")),
        };
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match (response.status(), location) {
            (status, _) if status.is_success() => return Ok(response),
            (status, Some(location)) if status.is_redirection() => {
                at = resolve(&at, location).map_err(|wrong| unreachable(&at, wrong))?;
            }
            (status, _) => return Err(Failed::Status { url: shown(&at), status }),
        }
    }
    Err(Failed::Redirects(shown(url)))
}

/// Asks for `url`. Where somebody else named it, it must not lead inwards: what answers there may
/// trust whoever is so near.
async fn ask(url: &Uri, redirected: bool) -> Result<Response<Incoming>, Failed> {
    let host = url.host().ok_or_else(|| unreachable(url, "it names no host"))?;
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, port)).await;
    let addresses: Vec<_> = found.map_err(|error| unreachable(url, error))?.collect();
    if let Some(inner) = addresses.iter().find(|address| redirected && is_inner(address.ip())) {
        return Err(Failed::Inwards { url: shown(url), to: inner.ip() });
    }
    let stream = TcpStream::connect(&addresses[..]).await.map_err(|e| unreachable(url, e))?;
    if !secure {
        return exchange(url, TokioIo::new(stream)).await;
    }
    let stream = secured(stream, bare).await.map_err(|error| unreachable(url, error))?;
    exchange(url, TokioIo::new(stream)).await
}

/// A connection to who has a certificate for `host`, from now on encrypted.
pub async fn secured(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(tls()?));
    connector.connect(name, stream).await.map_err(|error| error.to_string())
}

async fn exchange<S>(url: &Uri, stream: S) -> Result<Response<Incoming>, Failed>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let handshake = http1::handshake(stream).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(url, error))?;
    // It ends with the answer's body.
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("rouse-shim/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())
        .map_err(|error| unreachable(url, error))?;
    sender.send_request(request).await.map_err(|error| unreachable(url, error))
}

fn tls() -> Result<ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("there are no certificates of authorities in this image; SSL_CERT_FILE may \
                    name a file of them"
            .into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Where `location` leads from `base`: elsewhere, or to another path of the same server. Never from
/// a secured place to one that is not.
fn resolve(base: &Uri, location: &str) -> Result<Uri, &'static str> {
    let odd = "it leads to something that is no URL";
    let to: Uri = location.parse().map_err(|_| odd)?;
    let to = if to.scheme().is_some() {
        to
    } else if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = base.clone().into_parts();
        parts.path_and_query = to.into_parts().path_and_query;
        Uri::from_parts(parts).map_err(|_| odd)?
    } else {
        return Err(odd);
    };
    match (base.scheme_str(), to.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Ok(to),
        (Some("https"), Some("http")) => Err("it leads from https to http"),
        _ => Err(odd),
    }
}

/// Whether an address is of this machine or link.
fn is_inner(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
        }
    }
}

/// A URL without what may be secret in it.
fn shown(url: &Uri) -> String {
    let (scheme, host) = (url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default());
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", url.path())
}

fn unreachable(url: &Uri, cause: impl std::fmt::Display) -> Failed {
    Failed::Unreachable { url: shown(url), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_to_less_secure_places() {
        let base: Uri = "https://a.example/x/code.zip?signature=1".parse().unwrap();
        let to = |location| resolve(&base, location).map(|uri| uri.to_string());
        assert_eq!(to("https://b.example/y").unwrap(), "https://b.example/y");
        assert_eq!(to("/z?q=1").unwrap(), "https://a.example/z?q=1");
        assert!(to("http://b.example/y").is_err());
        assert!(to("ftp://b.example/y").is_err());
        assert!(to("//b.example/y").is_err());
        assert_eq!(shown(&base), "https://a.example/x/code.zip");
    }

    #[test]
    fn inner_addresses_are_known_in_every_spelling() {
        for address in
            ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "::ffff:127.0.0.1", "fe80::1"]
        {
            assert!(is_inner(address.parse().unwrap()), "{address}");
        }
        for address in ["10.0.0.1", "93.184.216.34", "2001:db8::1"] {
            assert!(!is_inner(address.parse().unwrap()), "{address}");
        }
    }
}
