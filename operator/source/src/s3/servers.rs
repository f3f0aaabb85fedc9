//! Servers of S3, each with the connections and the knowledge of its clock that all Triggers share
//! which reach it alike: at the same endpoint and region, with the same access key and certificates.
//!
//! Secrets are read whenever a source connects: one that changed leads to a client of its own, and
//! the former goes with the last who uses it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rouse_crds::v1alpha1::{S3Credentials, SecretKey, SourceTls};

use super::client::Objects;
use super::settings::Server;
use crate::credentials::{Secret, Secrets};
use crate::failure::Failure;

/// All servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Servers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    secrets: Secrets,
    known: Mutex<Vec<Known>>,
}

/// A server that somebody uses.
#[derive(Debug)]
struct Known {
    server: Server,
    /// What the Secrets said that reaching it takes.
    keys: Vec<Secret>,
    objects: Weak<Objects>,
}

impl Servers {
    /// Servers that are reached with credentials from `secrets`.
    pub fn new(secrets: Secrets) -> Self {
        Self(Arc::new(Inner { secrets, known: Mutex::default() }))
    }

    /// A server, with the credentials as they are now.
    pub(super) fn open(&self, server: &Server) -> Result<Arc<Objects>, Failure> {
        let Inner { secrets, known } = &*self.0;
        let keys: Vec<_> =
            keys_of(server).map(|key| secrets.fetch(key)).collect::<Result<_, _>>()?;
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(objects) = find(&mut known, server, &keys) {
            return Ok(objects);
        }
        let objects = Arc::new(Objects::open(server, secrets)?);
        let (server, shared) = (server.clone(), Arc::downgrade(&objects));
        known.push(Known { server, keys, objects: shared });
        Ok(objects)
    }
}

/// The one that is reached so, if there is one; those that nobody uses are forgotten.
fn find(known: &mut Vec<Known>, server: &Server, keys: &[Secret]) -> Option<Arc<Objects>> {
    known.retain(|known| known.objects.strong_count() > 0);
    let mut alike = known.iter().filter(|known| known.server == *server && known.keys == keys);
    alike.find_map(|known| known.objects.upgrade())
}

/// The keys of Secrets that reaching a server takes.
fn keys_of(server: &Server) -> impl Iterator<Item = &SecretKey> {
    let Server { endpoint: _, region: _, credentials, tls, policy: _ } = server;
    let access = credentials.iter().flat_map(|credentials| {
        let S3Credentials { access_key_id, secret_access_key, session_token } = credentials;
        [Some(access_key_id), Some(secret_access_key), session_token.as_ref()]
    });
    let tls = tls.iter().flat_map(|SourceTls { ca, certificate, key }| {
        [ca.as_ref(), certificate.as_ref(), key.as_ref()]
    });
    access.chain(tls).flatten()
}
