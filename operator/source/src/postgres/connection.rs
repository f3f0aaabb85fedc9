//! Connects to a server of PostgreSQL: to the address that was checked, and encrypted unless its
//! Trigger says that it need not be.

use std::net::SocketAddr;
use std::sync::Arc;

use postgres_protocol::message::frontend;
use rouse_crds::v1alpha1::SourceTls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Access;
use super::login::Login;
use super::wire::{PATIENCE, Wire};
use crate::address;
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::tls;

const DOING: &str = "connecting to PostgreSQL";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Reading changes, and asking before.
    Replication,
    /// Asking.
    Questions,
}

/// Connects and logs in.
pub(super) async fn open(access: &Access, mode: Mode) -> Result<Wire, Failure> {
    let Access { settings, secrets, policy } = access;
    let trigger = &settings.trigger;
    let password = trigger.password.as_ref().map(|of| secrets.fetch_text(of)).transpose()?;
    let login = Login {
        user: &trigger.user,
        database: &trigger.database,
        password: password.as_deref(),
        replicates: mode == Mode::Replication,
        is_private: !trigger.plaintext,
    };
    let connect = async {
        let at = address::checked(&trigger.host, trigger.port, policy).await?;
        let mut wire = if trigger.plaintext {
            Wire::new(address::connect(at, DOING).await?)
        } else {
            encrypt(at, &trigger.host, trigger.tls.as_ref(), secrets).await?
        };
        login.run(&mut wire).await?;
        Ok(wire)
    };
    let opened = timeout(PATIENCE, connect).await;
    opened.unwrap_or_else(|_| Err(Failure::away(DOING, "the server does not answer")))
}

/// Has the server speak TLS, and show a certificate of `host`.
async fn encrypt(
    at: SocketAddr,
    host: &str,
    tls: Option<&SourceTls>,
    secrets: &Secrets,
) -> Result<Wire, Failure> {
    let config = tls::client_config(tls, secrets)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::Invalid(format!("{host} is no name that a certificate may have")))?;
    let mut stream = address::connect(at, DOING).await?;
    let mut question = bytes::BytesMut::new();
    frontend::ssl_request(&mut question);
    let away = |error| Failure::away(DOING, error);
    stream.write_all(&question).await.map_err(away)?;
    // One byte and no more: what somebody on the way sent behind it would be taken for the server's.
    let answer = stream.read_u8().await.map_err(away)?;
    if answer != b'S' {
        return Err(Failure::Invalid(format!(
            "the server at {host} does not speak TLS: give it a certificate (ssl = on), or set \
             spec.postgres.plaintext if anybody on the way may read and change all"
        )));
    }
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| {
        let said = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        match said {
            Some(rustls::Error::InvalidCertificate(why)) => Failure::Invalid(format!(
                "the certificate of {host} is not believed ({why}): name the authority that signed \
                 it in spec.postgres.tls.ca, and the server in spec.postgres.host as it is named there"
            )),
            _ => Failure::away(DOING, error),
        }
    })?;
    Ok(Wire::new(stream))
}
