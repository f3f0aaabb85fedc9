//! Connections to servers of NATS: one for each server and way to log in, shared by all who need it.
//! One that breaks is not mended: whoever uses it comes again, and the first to come connects anew,
//! with the Secrets as they are then.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use rouse_crds::v1alpha1::SecretKey;
use tokio::sync::{broadcast, watch};

use super::settings::{Login, Server};
use crate::address::{Policy, checked};
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::tls::client_config_for;

/// How long connecting, and any request, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection on which nothing moves is asked whether it is one.
const PING: Duration = Duration::from_secs(20);
/// What the server denied lately. Who is too slow to hear of it is denied again.
const DENIALS: usize = 32;
/// Port of servers that name none.
const PORT: u16 = 4222;

/// All connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    secrets: Secrets,
    policy: Arc<Policy>,
    places: Mutex<Vec<(Server, Place)>>,
}

/// Where the connection to a server is, as long as anybody uses it. Who connects holds it, so that
/// others wait and share.
type Place = Arc<tokio::sync::Mutex<Weak<Shared>>>;

/// A connection, which ends with the last who uses it.
#[derive(Debug)]
struct Shared {
    client: Client,
    gone: watch::Receiver<Option<Gone>>,
    denied: broadcast::Receiver<Arc<str>>,
}

/// Why a connection is of no use any more, to anybody.
#[derive(Clone, Debug)]
enum Gone {
    Away(Arc<str>),
    Denied(Arc<str>),
}

/// A share of a connection.
pub(super) struct Connection {
    pub client: Client,
    gone: watch::Receiver<Option<Gone>>,
    denied: broadcast::Receiver<Arc<str>>,
    _shared: Arc<Shared>,
}

impl Connections {
    /// Connections that are allowed by `policy`, with credentials from `secrets`.
    pub fn new(secrets: Secrets, policy: Arc<Policy>) -> Self {
        Self(Arc::new(Inner { secrets, policy, places: Mutex::default() }))
    }

    /// A share of the connection to `server`, which is made if there is none.
    pub(super) async fn open(&self, server: &Server) -> Result<Connection, Failure> {
        let place = self.0.place(server);
        let mut place = place.lock().await;
        let open = place.upgrade().filter(|shared| shared.gone.borrow().is_none());
        let shared = match open {
            Some(shared) => shared,
            None => Arc::new(self.0.connect(server).await?),
        };
        *place = Arc::downgrade(&shared);
        Ok(Connection {
            client: shared.client.clone(),
            gone: shared.gone.clone(),
            denied: shared.denied.resubscribe(),
            _shared: shared,
        })
    }
}

impl Connection {
    /// Whether it is still of use.
    pub fn is_open(&self) -> bool {
        self.gone.borrow().is_none()
    }

    /// Waits until it is of no use any more, or something is denied that is among what the caller
    /// needs, by the subject that the server names.
    pub async fn breaks(&mut self, needs: impl Fn(&str) -> bool) -> Failure {
        const DOING: &str = "keeping the connection to NATS";
        loop {
            tokio::select! {
                gone = self.gone.wait_for(Option::is_some) => {
                    return match gone.map(|gone| gone.clone()) {
                        Ok(Some(Gone::Denied(text))) => Failure::denied("using NATS", &*text),
                        Ok(Some(Gone::Away(text))) => Failure::away(DOING, &*text),
                        _ => Failure::away(DOING, "it ended"),
                    };
                }
                denied = self.denied.recv() => match denied {
                    Ok(text) if subject_of(&text).is_none_or(&needs) => {
                        return Failure::denied("using NATS", &*text);
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => {
                        return Failure::away(DOING, "it ended");
                    }
                },
            }
        }
    }
}

/// The subject that a denial is about.
fn subject_of(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

impl Inner {
    fn place(&self, server: &Server) -> Place {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody uses: neither this list nor a connection.
        places.retain(|(_, place)| {
            let is_empty = place.try_lock().is_ok_and(|shared| shared.strong_count() == 0);
            Arc::strong_count(place) > 1 || !is_empty
        });
        if let Some((_, place)) = places.iter().find(|(known, _)| known == server) {
            return place.clone();
        }
        let place = Place::default();
        places.push((server.clone(), place.clone()));
        place
    }

    /// Connects to the first of the servers that lets us.
    async fn connect(&self, server: &Server) -> Result<Shared, Failure> {
        let mut last = None;
        for url in &server.urls {
            match self.connect_to(server, url).await {
                Ok(shared) => return Ok(shared),
                // Another server of the cluster would say the same.
                Err(failure @ (Failure::Denied { .. } | Failure::Credentials { .. })) => {
                    return Err(failure);
                }
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::Invalid("no server of NATS is named".into())))
    }

    async fn connect_to(&self, server: &Server, url: &str) -> Result<Shared, Failure> {
        const DOING: &str = "connecting to NATS";
        let given: ServerAddr = url
            .parse()
            .map_err(|error| Failure::Invalid(format!("{url} is no server of NATS: {error}")))?;
        let (host, port) = (given.host().to_owned(), given.port());
        let port = if port == 0 { PORT } else { port };
        let address = checked(&host, port, &self.policy).await?;
        let is_encrypted = server.tls.is_some() || url.starts_with("tls:");
        // A server may ask for it though the Trigger does not.
        let tls = client_config_for(server.tls.as_ref(), &host, &self.secrets)?;
        let (gone_sender, gone) = watch::channel(None);
        let (denials, denied) = broadcast::channel(DENIALS);
        let options = ConnectOptions::new()
            .name("rouse")
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ping_interval(PING)
            // Only the server that was allowed, and no reconnecting behind the sources' backs.
            .ignore_discovered_servers()
            .max_reconnects(1)
            .require_tls(is_encrypted)
            .tls_client_config(tls)
            .event_callback(move |event| {
                note(event, &gone_sender, &denials);
                std::future::ready(())
            });
        let options = log_in(options, &server.login, &self.secrets)?;
        let client =
            options.connect(format!("nats://{address}")).await.map_err(|error| {
                match error.kind() {
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        Failure::denied(DOING, error)
                    }
                    ConnectErrorKind::ServerParse => Failure::Invalid(error.to_string()),
                    _ => Failure::away(DOING, error),
                }
            })?;
        Ok(Shared { client, gone, denied })
    }
}

/// Takes in what the client tells of its connection.
fn note(event: Event, gone: &watch::Sender<Option<Gone>>, denials: &broadcast::Sender<Arc<str>>) {
    let end = |why| {
        // The first cause is the one that tells.
        gone.send_if_modified(|gone| gone.is_none() && gone.replace(why).is_none());
    };
    match event {
        Event::Disconnected | Event::Closed | Event::LameDuckMode => {
            end(Gone::Away(event.to_string().into()));
        }
        Event::ServerError(ServerError::AuthorizationViolation) => {
            end(Gone::Denied("authorization violation".into()));
        }
        Event::ServerError(ServerError::Other(text))
            if text.to_ascii_lowercase().contains("permissions violation") =>
        {
            // It fails when nobody listens.
            let _ = denials.send(text.into());
        }
        _ => {}
    }
}

fn log_in(
    options: ConnectOptions,
    login: &Login,
    secrets: &Secrets,
) -> Result<ConnectOptions, Failure> {
    let fetch = |of| secrets.fetch_text(of);
    Ok(match login {
        Login::Nobody => options,
        Login::User { user, password } => options.user_and_password(fetch(user)?, fetch(password)?),
        Login::Token(of) => options.token(fetch(of)?),
        Login::Nkey(of) => options.nkey(fetch(of)?),
        Login::File(of) => options.credentials(&fetch(of)?).map_err(|_| {
            let SecretKey { name, key } = of;
            Failure::Invalid(format!("the key {key} of Secret {name} is no credentials file"))
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_its_subject() {
        let text = "Permissions Violation for Subscription to \"orders.>\" using queue \"q\"";
        assert_eq!(subject_of(text), Some("orders.>"));
        assert_eq!(subject_of("Permissions Violation"), None);
    }
}
