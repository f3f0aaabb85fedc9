//! The keys of Secrets that a Trigger with a source names. Pure.

use std::collections::BTreeSet;

use rouse_crds::v1alpha1::{
    Entrance, NatsCredentials, NatsServer, NatsTrigger, PostgresTrigger, S3Credentials,
    S3Notifications, S3Trigger, SecretKey, SourceTls,
};

use super::{SourceKind, ValidatedSource};
use crate::delivery::Heir;

/// Longest name of a Secret.
const LONGEST_NAME: usize = 253;

/// The keys of Secrets that `trigger` names, as far as there can be such keys: the API server would
/// refuse the pods of all Triggers for the sake of one that can't.
pub fn secrets_of(trigger: &ValidatedSource) -> BTreeSet<SecretKey> {
    let mut named = Named::default();
    match &trigger.kind {
        SourceKind::Nats(nats) => named.messages(nats),
        SourceKind::S3(S3Trigger { notifications, credentials, tls, .. }) => {
            if let Some(S3Notifications { http, nats }) = notifications {
                named.keys(http.as_ref().map(|Entrance { at: _, token }| token));
                if let Some(nats) = nats {
                    named.messages(nats);
                }
            }
            if let Some(credentials) = credentials {
                let S3Credentials { access_key_id, secret_access_key, session_token } = credentials;
                named.key(access_key_id);
                named.key(secret_access_key);
                named.keys(session_token);
            }
            named.tls(tls.as_ref());
        }
        SourceKind::Postgres(PostgresTrigger { password, tls, .. }) => {
            named.keys(password);
            named.tls(tls.as_ref());
        }
        SourceKind::Webhook(webhook) => named.key(&webhook.secret),
        SourceKind::CloudEvents(events) => named.key(&events.at.token),
    }
    if let Some(Heir::Nats(letters)) = &trigger.settings.dead_letter {
        named.nats(&letters.server);
    }
    named.0
}

#[derive(Default)]
struct Named(BTreeSet<SecretKey>);

impl Named {
    fn key(&mut self, key: &SecretKey) {
        let is_name = !key.name.is_empty() && key.name.len() <= LONGEST_NAME;
        let is_key = !key.key.starts_with("..") && key.key != ".";
        if is_name && is_key {
            self.0.insert(key.clone());
        }
    }

    fn keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a SecretKey>) {
        keys.into_iter().for_each(|key| self.key(key));
    }

    fn tls(&mut self, tls: Option<&SourceTls>) {
        if let Some(SourceTls { ca, certificate, key }) = tls {
            self.keys([ca, certificate, key].into_iter().flatten());
        }
    }

    fn messages(&mut self, nats: &NatsTrigger) {
        let NatsTrigger { server, jet_stream: _, subject: _ } = nats;
        self.nats(server);
    }

    fn nats(&mut self, server: &NatsServer) {
        let NatsServer { servers: _, credentials, tls } = server;
        if let Some(credentials) = credentials {
            let NatsCredentials { file, nkey, token, user, password } = credentials;
            self.keys([file, nkey, token, user, password].into_iter().flatten());
        }
        self.tls(tls.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn source(spec: &Value) -> ValidatedSource {
        let trigger = serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1",
            "kind": "Trigger",
            "metadata": {"namespace": "shop", "name": "t", "uid": "u"},
            "spec": spec,
        }));
        ValidatedSource::of(&trigger.unwrap()).unwrap().unwrap()
    }

    #[test]
    fn every_secret_that_a_trigger_names_is_found() {
        let at = |name: &str| json!({"name": "s", "key": name});
        let found = |spec: Value| {
            let keys = secrets_of(&source(&spec)).into_iter();
            keys.map(|key| key.key).collect::<Vec<_>>()
        };
        assert_eq!(
            found(json!({
                "function": "f",
                "nats": {
                    "servers": ["nats://n"], "subject": {"name": "a"},
                    "credentials": {"user": at("user"), "password": at("password")},
                    "tls": {"ca": at("ca"), "certificate": at("certificate"), "key": at("key")},
                },
                "delivery": {"deadLetter": {"nats": {
                    "servers": ["nats://n"], "stream": "D", "subject": "d",
                    "credentials": {"token": at("letters")},
                }}},
            })),
            ["ca", "certificate", "key", "letters", "password", "user"]
        );
        assert_eq!(
            found(json!({"function": "f", "s3": {
                "endpoint": "http://minio:9000", "bucket": "uploads",
                "credentials": {"accessKeyId": at("id"), "secretAccessKey": at("secret")},
                "notifications": {"host": "a.example.com", "token": at("token")},
            }})),
            ["id", "secret", "token"]
        );
        assert_eq!(
            found(json!({"function": "f", "s3": {
                "endpoint": "http://minio:9000", "bucket": "uploads",
                "notifications": {"nats": {
                    "servers": ["nats://n"], "subject": {"name": "a"},
                    "credentials": {"file": at("creds")}, "tls": {"ca": at("ca")},
                }},
            }})),
            ["ca", "creds"]
        );
        let webhook = |secret: Value| {
            json!({"function": "f", "webhook": {
                "host": "a.example.com", "sender": "GitHub", "secret": secret,
            }})
        };
        assert_eq!(found(webhook(at("hook"))), ["hook"]);
        assert_eq!(found(webhook(at("..hook"))), [""; 0], "no Secret has such a key");
    }
}
