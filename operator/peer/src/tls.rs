//! TLS between peers: version 1.3, and any certificate. What a certificate proves is that the other
//! side has its key; whose key that is must be asked elsewhere.

use std::io;
use std::sync::Arc;

use rouse_core::peer::Fingerprint;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// The name that every activator's certificate has. Nobody checks it.
pub(crate) const SERVER_NAME: &str = "rouse-activator";

/// A caller's end of a connection.
pub type ClientStream<I> = tokio_rustls::client::TlsStream<I>;
/// An activator's end of a connection.
pub type ServerStream<I> = tokio_rustls::server::TlsStream<I>;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Http2, Self::Http1];

    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    /// What was agreed on. Whoever names nothing means HTTP/1.1.
    pub fn of(connection: &CommonState) -> Self {
        if connection.alpn_protocol() == Some(Self::Http2.alpn()) {
            Self::Http2
        } else {
            Self::Http1
        }
    }
}

/// The fingerprint of a certificate's key.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Result<Fingerprint, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Fingerprint::of(&parsed.subject_public_key_info()))
}

/// How an activator serves with its key.
pub(crate) fn server_config(
    certificate: CertificateDer<'static>,
    secret: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], secret)?;
    config.alpn_protocols = Protocol::ALL.iter().map(|p| p.alpn().to_vec()).collect();
    // Every connection shows the key: see `client_config`.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(protocol: Protocol) -> Result<ClientConfig, rustls::Error> {
    let provider = ring::default_provider();
    let verifier = AnyKey { algorithms: provider.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    // Connections last; a resumed one would save nothing and be trusted for what another showed.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// How callers connect. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClientTls {
    http1: TlsConnector,
    http2: TlsConnector,
    name: ServerName<'static>,
}

impl ClientTls {
    pub fn new() -> Result<Self, rustls::Error> {
        let name = ServerName::try_from(SERVER_NAME);
        let name = name.map_err(|error| rustls::Error::General(error.to_string()))?;
        let [http1, http2] = [client_config(Protocol::Http1)?, client_config(Protocol::Http2)?]
            .map(|config| TlsConnector::from(Arc::new(config)));
        Ok(Self { http1, http2, name })
    }

    /// Shakes hands with whoever is there, and tells the key that it has.
    pub async fn handshake<I>(
        &self,
        io: I,
        protocol: Protocol,
    ) -> io::Result<(ClientStream<I>, Fingerprint)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        };
        let stream = connector.connect(self.name.clone(), io).await?;
        let connection = stream.get_ref().1;
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or_else(|| io::Error::other("it showed no certificate"))?;
        let key = fingerprint(shown).map_err(io::Error::other)?;
        if Protocol::of(connection) != protocol {
            return Err(io::Error::other("it speaks another protocol"));
        }
        Ok((stream, key))
    }
}

/// Accepts every certificate of whoever has its key.
#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::ring::sign::any_ecdsa_type;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use tokio::io::duplex;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn make() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        let certificate = params.self_signed(&pair).unwrap().der().clone();
        (certificate, PrivateKeyDer::Pkcs8(pair.serialize_der().into()))
    }

    async fn shake(server: ServerConfig, protocol: Protocol) -> io::Result<Fingerprint> {
        let (near, far) = duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let accepting = tokio::spawn(async move { acceptor.accept(far).await.map(drop) });
        let tls = ClientTls::new().unwrap();
        let shaken = tls.handshake(near, protocol).await.map(|(_, key)| key);
        drop(accepting.await.unwrap());
        shaken
    }

    #[tokio::test]
    async fn the_key_that_a_server_has_is_told() {
        let (certificate, secret) = make();
        let key = fingerprint(&certificate).unwrap();
        for protocol in Protocol::ALL {
            let config = server_config(certificate.clone(), secret.clone_key()).unwrap();
            assert_eq!(shake(config, protocol).await.unwrap(), key);
        }
        assert_ne!(fingerprint(&make().0).unwrap(), key);
    }

    #[tokio::test]
    async fn a_certificate_of_another_proves_nothing() {
        let (certificate, _) = make();
        let (own, secret) = make();
        let mut config = server_config(own, secret.clone_key()).unwrap();
        let crossed = CertifiedKey::new(vec![certificate], any_ecdsa_type(&secret).unwrap());
        config.cert_resolver = Arc::new(SingleCertAndKey::from(crossed));
        let error = shake(config, Protocol::Http2).await.unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{error}");
    }

    #[tokio::test]
    async fn another_version_or_protocol_is_refused() {
        let (certificate, secret) = make();
        let mut config = server_config(certificate.clone(), secret.clone_key()).unwrap();
        config.alpn_protocols = vec![b"h3".to_vec()];
        assert!(shake(config, Protocol::Http2).await.is_err());
        let mut config = server_config(certificate.clone(), secret.clone_key()).unwrap();
        config.alpn_protocols = Vec::new();
        assert!(shake(config, Protocol::Http2).await.is_err());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], secret)
            .unwrap();
        assert!(shake(config, Protocol::Http1).await.is_err());
    }
}
