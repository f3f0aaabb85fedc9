//! TLS with servers: which certificates are believed and shown, read from Secrets at each
//! connection, so that a renewed one is taken at the next.

use std::sync::Arc;

use rouse_crds::v1alpha1::{SecretKey, SourceTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::credentials::Secrets;
use crate::failure::Failure;

/// What `tls` says. Without a `ca` the public authorities are believed, which come with Rouse: its
/// image has none of its own.
pub(crate) fn client_config(
    tls: Option<&SourceTls>,
    secrets: &Secrets,
) -> Result<ClientConfig, Failure> {
    let roots = authorities(tls, secrets)?;
    config_with(roots, tls, secrets)
}

fn config_with(
    roots: Arc<RootCertStore>,
    tls: Option<&SourceTls>,
    secrets: &Secrets,
) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Invalid(error.to_string()))?
        .with_root_certificates(roots);
    let Some(SourceTls { certificate: Some(certificate), key: Some(key), .. }) = tls else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate, secrets)?;
    let secret = secrets.fetch(key)?;
    let private = PrivateKeyDer::from_pem_slice(secret.bytes());
    let private = private.map_err(|error| unfit(key, &error.to_string()))?;
    let config = builder.with_client_auth_cert(chain, private);
    config.map_err(|error| unfit(certificate, &error.to_string()))
}

/// The same, for a library that knows nothing but the address that was checked: the certificate must
/// be of `name` all the same, a DNS name or an address.
pub(crate) fn client_config_for(
    tls: Option<&SourceTls>,
    name: &str,
    secrets: &Secrets,
) -> Result<ClientConfig, Failure> {
    let roots = authorities(tls, secrets)?;
    let mut config = config_with(roots.clone(), tls, secrets)?;
    let usual =
        WebPkiServerVerifier::builder_with_provider(roots, config.crypto_provider().clone())
            .build();
    let usual = usual.map_err(|error| Failure::Invalid(error.to_string()))?;
    let name = ServerName::try_from(name.to_owned());
    let name = name.map_err(|error| Failure::Invalid(error.to_string()))?;
    config.dangerous().set_certificate_verifier(Arc::new(Named { usual, name }));
    Ok(config)
}

fn authorities(tls: Option<&SourceTls>, secrets: &Secrets) -> Result<Arc<RootCertStore>, Failure> {
    let mut roots = RootCertStore::empty();
    match tls.and_then(|tls| tls.ca.as_ref()) {
        Some(ca) => {
            for authority in certificates(ca, secrets)? {
                roots.add(authority).map_err(|error| unfit(ca, &error.to_string()))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    Ok(Arc::new(roots))
}

fn certificates(
    of: &SecretKey,
    secrets: &Secrets,
) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = secrets.fetch(of)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unfit(of, "it has no certificate in PEM")),
        Err(error) => Err(unfit(of, &error.to_string())),
    }
}

/// The key of a Secret can't be used. What it holds is not told.
fn unfit(SecretKey { name, key }: &SecretKey, why: &str) -> Failure {
    Failure::Invalid(format!("the key {key} of Secret {name} can't be used for TLS: {why}"))
}

/// Checks certificates as anybody does, but for a name that was fixed before.
#[derive(Debug)]
struct Named {
    usual: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Self { usual, name } = self;
        usual.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
