//! TLS towards callers outside: the certificate and key from files, which are read anew when they
//! change. Connections that stand keep what they were made with. Files that can't be used are told
//! in the log, and the certificate before them stays in use.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::seats::{Leave, Occupied};

/// How often the files are looked at. The kubelet takes longer to change them.
const LOOK: Duration = Duration::from_secs(10);

/// How long a client may take to make its connection secure.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The protocols that are offered, the best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// The name of HTTP/2 among them.
const HTTP2: &[u8] = b"h2";

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("reading {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is no PEM file with what it should hold.
    #[error("{} holds no {what} in PEM form: {error}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why.
        error: pem::Error,
    },
    /// The certificate and the key can't be used together.
    #[error("the certificate and the key can't be used: {0}")]
    Pair(#[source] rustls::Error),
}

/// The certificate in use.
#[derive(Debug, Default)]
struct Current(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// TLS with the certificate and key of two files.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificate, key, .. } = self;
        f.debug_struct("Tls").field("certificate", certificate).field("key", key).finish()
    }
}

impl Tls {
    /// TLS with the chain of certificates in the file `certificate` and the key in the file `key`.
    /// Neither need be there yet; until both are, no connection is made.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Arc::<Current>::default();
        let resolver = Arc::clone(&current) as Arc<dyn ResolvesServerCert>;
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { certificate, key, provider, current, acceptor })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Follows the files, for ever.
    pub(super) async fn watch(self) {
        let mut last = None;
        let mut told = None;
        loop {
            match self.reload(&mut last).await {
                Ok(changed) => {
                    told = None;
                    if changed {
                        tracing::info!(file = %self.certificate.display(), "new certificate");
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    // Once for each thing that is wrong, not once for each look.
                    if told.as_ref() != Some(&text) {
                        let in_use = self.current.0.load().is_some();
                        tracing::error!(error = text, former_in_use = in_use, "certificate");
                        told = Some(text);
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Puts what the files hold in use if it is not what was read `last`.
    pub(super) async fn reload(
        &self,
        last: &mut Option<(Vec<u8>, Vec<u8>)>,
    ) -> Result<bool, TlsError> {
        let files = (read(&self.certificate).await?, read(&self.key).await?);
        if last.as_ref() == Some(&files) {
            return Ok(false);
        }
        let pair = self.pair(&files.0, &files.1)?;
        self.current.0.store(Some(Arc::new(pair)));
        *last = Some(files);
        Ok(true)
    }

    fn pair(&self, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
        let wrong = |path: &Path, what| {
            let path = path.to_owned();
            move |error| TlsError::Pem { path, what, error }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .and_then(
                |chain: Vec<_>| {
                    if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
                },
            )
            .map_err(wrong(&self.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(wrong(&self.key, "private key"))?;
        CertifiedKey::from_der(chain, key, &self.provider).map_err(TlsError::Pair)
    }
}

/// Makes a connection secure. None where the client does not, or not in time, or has to go.
pub(super) async fn greet<I>(acceptor: &TlsAcceptor, io: I, seat: &Occupied) -> Option<TlsStream<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut leave = Leave::new(seat.seat());
    let greeted = tokio::select! {
        greeted = timeout(HANDSHAKE, acceptor.accept(io)) => greeted,
        _ = leave.order() => return None,
    };
    match greeted {
        Ok(Ok(io)) => {
            if io.get_ref().1.alpn_protocol() == Some(HTTP2) {
                seat.seat().speaks_http2();
            }
            Some(io)
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "greeting a client");
            None
        }
        Err(_elapsed) => None,
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| TlsError::Read { path: path.to_owned(), error })
}
