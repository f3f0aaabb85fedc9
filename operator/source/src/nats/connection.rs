//! Connects to servers of NATS, and tells when a connection breaks. It is not mended here: whoever
//! runs the source connects anew, with the Secrets as they are then.

use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError};
use rouse_crds::v1alpha1::{SecretKey, SourceTls};
use tokio::sync::mpsc;

use super::settings::{Login, Server};
use crate::credentials::Secrets;
use crate::failure::Failure;

/// How long connecting, and any request, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection on which nothing moves is asked whether it is one.
const PING: Duration = Duration::from_secs(20);
/// Breaks that are told: the first one matters.
const BREAKS: usize = 4;

/// A connection, which ends with it.
pub(super) struct Connection {
    pub client: Client,
    /// What broke it.
    pub breaks: mpsc::Receiver<Break>,
}

/// Why a connection is of no use any more.
pub(super) enum Break {
    Gone(String),
    Denied(String),
}

/// Why, as a failure of the source.
pub(super) fn failure_of(what: Option<Break>) -> Failure {
    match what {
        Some(Break::Denied(text)) => Failure::denied("using NATS", text),
        Some(Break::Gone(text)) => Failure::away("keeping the connection to NATS", text),
        None => Failure::away("keeping the connection to NATS", "it ended"),
    }
}

/// Connects to one of the servers.
pub(super) async fn open(server: &Server, secrets: &Secrets) -> Result<Connection, Failure> {
    let (sender, breaks) = mpsc::channel(BREAKS);
    let options = ConnectOptions::new()
        .name("rouse")
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .ping_interval(PING)
        // Only the servers that were allowed, and no reconnecting behind the source's back.
        .ignore_discovered_servers()
        .max_reconnects(server.urls.len().max(1))
        .event_callback(move |event| {
            if let Some(what) = break_of(event) {
                // When there is no place, an earlier break is told.
                let _ = sender.try_send(what);
            }
            std::future::ready(())
        });
    let options = log_in(options, &server.login, secrets).await?;
    let options = match &server.tls {
        Some(tls) => encrypt(options, tls, secrets).await?,
        None => options,
    };
    let client = options.connect(server.urls.as_slice()).await.map_err(|error| {
        const DOING: &str = "connecting to NATS";
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Failure::denied(DOING, error)
            }
            ConnectErrorKind::ServerParse => Failure::Invalid(error.to_string()),
            _ => Failure::away(DOING, error),
        }
    })?;
    Ok(Connection { client, breaks })
}

fn break_of(event: Event) -> Option<Break> {
    match event {
        Event::Disconnected | Event::Closed | Event::LameDuckMode => {
            Some(Break::Gone(event.to_string()))
        }
        Event::ServerError(ServerError::AuthorizationViolation) => {
            Some(Break::Denied("authorization violation".into()))
        }
        Event::ServerError(ServerError::Other(text))
            if text.to_ascii_lowercase().contains("permissions violation") =>
        {
            Some(Break::Denied(text))
        }
        _ => None,
    }
}

async fn log_in(
    options: ConnectOptions,
    login: &Login,
    secrets: &Secrets,
) -> Result<ConnectOptions, Failure> {
    let fetch = async |of: &SecretKey| {
        let secret = secrets.fetch(&of.name, &of.key).await?;
        Ok::<_, Failure>(secret.text()?.to_owned())
    };
    Ok(match login {
        Login::Nobody => options,
        Login::User { user, password } => {
            options.user_and_password(fetch(user).await?, fetch(password).await?)
        }
        Login::Token(of) => options.token(fetch(of).await?),
        Login::Nkey(of) => options.nkey(fetch(of).await?),
        Login::File(of) => options.credentials(&fetch(of).await?).map_err(|_| {
            let SecretKey { name, key } = of;
            Failure::Invalid(format!("the key {key} of Secret {name} is no credentials file"))
        })?,
    })
}

async fn encrypt(
    mut options: ConnectOptions,
    tls: &SourceTls,
    secrets: &Secrets,
) -> Result<ConnectOptions, Failure> {
    let path = async |of: &SecretKey| {
        // The library reads it again, and would not say so well that it is missing.
        secrets.fetch(&of.name, &of.key).await?;
        secrets.path(&of.name, &of.key)
    };
    options = options.require_tls(true);
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(path(ca).await?);
    }
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        options = options.add_client_certificate(path(certificate).await?, path(key).await?);
    }
    Ok(options)
}
