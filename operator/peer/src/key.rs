//! An activator's key: made when the process starts, kept in memory, gone with the process.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rouse_core::peer::Fingerprint;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::tls;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key or its certificate could not be made.
    #[error("making a key for TLS")]
    Key(#[from] rcgen::Error),
    /// It can't be set up.
    #[error("setting TLS up")]
    Setup(#[from] rustls::Error),
}

/// An activator's key, ready to serve with. Cheap to clone.
#[derive(Clone)]
pub struct ServerKey {
    fingerprint: Fingerprint,
    config: Arc<ServerConfig>,
}

impl ServerKey {
    /// Makes a key and its certificate, which says nothing but the key: TLS asks for one.
    pub fn generate() -> Result<Self, TlsError> {
        let pair = KeyPair::generate()?;
        let certificate = CertificateParams::new([tls::SERVER_NAME.to_owned()])?;
        let certificate = certificate.self_signed(&pair)?.der().clone();
        let fingerprint = tls::fingerprint(&certificate)?;
        let secret = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        let config = tls::server_config(certificate, secret)?;
        Ok(Self { fingerprint, config: Arc::new(config) })
    }

    /// What others know the key by.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What lets callers in.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Lets a caller in.
    #[cfg(any(test, feature = "testing"))]
    pub async fn accept<I>(
        &self,
        io: I,
    ) -> std::io::Result<(crate::ServerStream<I>, crate::Protocol)>
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let stream = self.acceptor().accept(io).await?;
        let protocol = crate::Protocol::of(stream.get_ref().1);
        Ok((stream, protocol))
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerKey").field(&self.fingerprint).finish()
    }
}
