//! The key by which the API is known over HTTP: made when it starts, kept in memory, gone with it.
//! `kubectl` shows a token to nobody without TLS.

use std::sync::Arc;

use k8s_openapi::ByteString;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

/// Names of this machine.
const NAMES: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

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

/// A key, ready to serve with.
pub(super) struct ServerKey {
    certificate: String,
    config: Arc<ServerConfig>,
}

impl ServerKey {
    pub(super) fn generate() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned))?;
        let CertifiedKey { cert, signing_key } = made;
        let secret = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], secret)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { certificate: cert.pem(), config: Arc::new(config) })
    }

    /// What lets callers in.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Its certificate, as a kubeconfig has it.
    pub(super) fn certificate(&self) -> ByteString {
        ByteString(self.certificate.clone().into_bytes())
    }
}
