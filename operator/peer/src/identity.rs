//! The token by which an activator proves its key: asked for when the process starts, and again
//! before it expires.

use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use rouse_core::function::names::MANAGER_ACTIVATOR;
use rouse_core::peer::Fingerprint;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a token shall live. The API server may give it less.
const LIFE: Duration = Duration::from_hours(1);

/// Shortest life of a token that is believed in; the API server gives none under ten minutes.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);

/// How long the API server may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pauses after failures: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whose token it is, and what for.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Namespace that Rouse runs in.
    pub namespace: String,
    /// Name of this activator's pod.
    pub pod_name: String,
    /// UID of this activator's pod.
    pub pod_uid: String,
    /// The key.
    pub key: Fingerprint,
}

#[derive(Clone, Debug)]
struct Held {
    token: Bytes,
    /// None: never.
    expires: Option<Instant>,
}

/// The token, as it is at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(watch::Receiver<Option<Held>>);

impl Identity {
    /// The token, if there is one that is good.
    pub fn token(&self) -> Option<Bytes> {
        let held = self.0.borrow();
        let good = |held: &&Held| held.expires.is_none_or(|expires| Instant::now() < expires);
        held.as_ref().filter(good).map(|held| held.token.clone())
    }

    /// Whether there has been one, good or not.
    pub fn was_given(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// One whose token is what it is told that it is.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn told() -> (impl Fn(Option<String>), Self) {
        let sender = watch::Sender::new(None);
        let identity = Self(sender.subscribe());
        let tell = move |token: Option<String>| {
            sender.send_replace(token.map(|token| Held { token: token.into(), expires: None }));
        };
        (tell, identity)
    }
}

/// Keeps the token good.
#[derive(Debug)]
pub struct IdentityKeeper {
    accounts: Api<ServiceAccount>,
    request: TokenRequest,
    sender: watch::Sender<Option<Held>>,
}

#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("no answer in time")]
    Late,
    #[error("the API server's answer has no token")]
    NoToken,
}

impl IdentityKeeper {
    /// Keeps a token as `config` says.
    pub fn new(client: Client, config: IdentityConfig) -> Self {
        let IdentityConfig { namespace, pod_name, pod_uid, key } = config;
        let spec = TokenRequestSpec {
            audiences: Some(vec![key.audience()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod_name),
                uid: Some(pod_uid),
            }),
            expiration_seconds: i64::try_from(LIFE.as_secs()).ok(),
            ..TokenRequestSpec::default()
        };
        Self {
            accounts: Api::namespaced(client, &namespace),
            request: TokenRequest { spec: Some(spec), ..TokenRequest::default() },
            sender: watch::Sender::new(None),
        }
    }

    /// Where the token is to be had.
    pub fn identity(&self) -> Identity {
        Identity(self.sender.subscribe())
    }

    /// Keeps the token good. Never ends.
    pub async fn run(self) {
        let mut pause = PAUSE;
        loop {
            let asked = Instant::now();
            match self.fetch().await {
                Ok((token, life)) => {
                    let held = Held { token, expires: Some(asked + life) };
                    self.sender.send_replace(Some(held));
                    pause = PAUSE;
                    // As the kubelet does: early enough for an API server that is away for a while.
                    sleep(life * 4 / 5).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "asking for the token that proves this activator's key");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn fetch(&self) -> Result<(Bytes, Duration), RequestError> {
        let params = PostParams::default();
        let asked = self.accounts.create_token_request(MANAGER_ACTIVATOR, &params, &self.request);
        let answer = timeout(TIMEOUT, asked).await.map_err(|_elapsed| RequestError::Late)??;
        // What it says here is what it gave; the time at which that ends is by another clock.
        let seconds = answer.spec.and_then(|spec| spec.expiration_seconds);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let life = seconds.map_or(LIFE, Duration::from_secs).max(SHORTEST_LIFE);
        let token = answer.status.and_then(|status| status.token);
        Ok((token.ok_or(RequestError::NoToken)?.into(), life))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ServerKey;
    use crate::testing::{NAMESPACE, Tokens, proof};

    #[tokio::test(start_paused = true)]
    async fn a_token_for_the_key_and_bound_to_the_pod_is_kept_good() {
        let api = Tokens::default();
        let key = ServerKey::generate().unwrap().fingerprint();
        let config = IdentityConfig {
            namespace: NAMESPACE.into(),
            pod_name: "activator-1".into(),
            pod_uid: "uid-1".into(),
            key,
        };
        let keeper = IdentityKeeper::new(api.client(), config);
        let mut identity = keeper.identity();
        assert_eq!(identity.token(), None);
        api.set_away(true);
        let running = tokio::spawn(keeper.run());
        sleep(Duration::from_secs(5)).await;
        assert_eq!(identity.token(), None);
        api.set_away(false);
        identity.0.changed().await.unwrap();
        let expected = Bytes::from(proof("uid-1", key));
        assert_eq!(identity.token(), Some(expected.clone()));
        let asked = json!([
            "/api/v1/namespaces/rouse-system/serviceaccounts/rouse-activator/token",
            {
                "audiences": [key.audience()],
                "boundObjectRef":
                    {"apiVersion": "v1", "kind": "Pod", "name": "activator-1", "uid": "uid-1"},
                "expirationSeconds": 3600,
            },
        ]);
        assert_eq!(api.take_requests(), std::slice::from_ref(&asked));

        // It is renewed in time, and not shown any more when it could not be.
        sleep(LIFE).await;
        assert_eq!(api.take_requests(), [asked]);
        assert_eq!(identity.token(), Some(expected.clone()));
        api.set_away(true);
        sleep(LIFE).await;
        assert_eq!(identity.token(), None);
        assert!(identity.was_given());
        api.set_away(false);
        sleep(LONGEST_PAUSE).await;
        assert_eq!(identity.token(), Some(expected));
        running.abort();
    }
}
