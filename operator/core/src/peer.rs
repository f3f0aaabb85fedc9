//! How activators and those who call them know one another: what a token must say.
//!
//! A caller proves itself by a token of its ServiceAccount (see `PEER_AUDIENCE`). An activator
//! proves that a key is its own by a token of its ServiceAccount, bound to its pod, whose audience
//! names the key: such a token is worth nothing with another key, so anybody may have it.

use std::fmt;

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use sha2::{Digest, Sha256};

use crate::function::names::MANAGER_ACTIVATOR;

/// Path on an activator's peer port of the token that proves its key.
pub const IDENTITY_PATH: &str = "/v1/identity";

/// What the audience of a token that proves a key begins with. An admission policy keeps activators
/// from asking for others.
pub const KEY_AUDIENCE: &str = "rouse-peer/";

/// Where the API server tells the UID of the pod that a token is bound to.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// What is known of a public key: the SHA-256 of its `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a key, given as DER of its `SubjectPublicKeyInfo`.
    pub fn of(public_key: &[u8]) -> Self {
        Self(Sha256::digest(public_key).into())
    }

    /// Audience of the token that proves this key.
    pub fn audience(self) -> String {
        format!("{KEY_AUDIENCE}{self}")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Full name of the ServiceAccount `name` in `namespace`, as the API server tells it.
pub fn account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Whose token it is: none if it is not good for `audience`.
pub fn authenticated<'a>(
    status: Option<&'a TokenReviewStatus>,
    audience: &str,
) -> Option<&'a UserInfo> {
    let status = status?;
    let meant = status.audiences.iter().flatten().any(|accepted| accepted == audience);
    if status.authenticated == Some(true) && meant { status.user.as_ref() } else { None }
}

/// That a key is an activator's.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The key.
    pub key: Fingerprint,
    /// Namespace that Rouse runs in.
    pub namespace: &'a str,
    /// UID of the activator's pod.
    pub pod_uid: &'a str,
}

/// Why a token does not prove a claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// It is no token for this key, or no longer.
    #[error("its token is not good for its key")]
    Token,
    /// It is not an activator's.
    #[error("its token is of {0:?}, no activator")]
    Account(String),
    /// It is another activator's, or bound to no pod.
    #[error("its token is of another pod")]
    Pod,
}

impl Claim<'_> {
    /// Whether a token proves it, of which the API server, asked with this key's audience and no
    /// other, says `status`.
    pub fn check(&self, status: Option<&TokenReviewStatus>) -> Result<(), Unproved> {
        let user = authenticated(status, &self.key.audience()).ok_or(Unproved::Token)?;
        let name = user.username.as_deref().unwrap_or_default();
        if name != account(self.namespace, MANAGER_ACTIVATOR) {
            return Err(Unproved::Account(name.to_owned()));
        }
        match user.extra.as_ref().and_then(|extra| extra.get(POD_UID)).map(Vec::as_slice) {
            Some([uid]) if uid == self.pod_uid => Ok(()),
            _ => Err(Unproved::Pod),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(change: impl FnOnce(&mut Value)) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true,
            "audiences": [Fingerprint::of(b"key").audience()],
            "user": {
                "username": "system:serviceaccount:rouse-system:rouse-activator",
                "extra": {POD_UID: ["uid-1"]},
            },
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    fn check(change: impl FnOnce(&mut Value)) -> Result<(), Unproved> {
        let key = Fingerprint::of(b"key");
        let claim = Claim { key, namespace: "rouse-system", pod_uid: "uid-1" };
        claim.check(Some(&status(change)))
    }

    #[test]
    fn the_audience_names_the_key() {
        assert_eq!(
            Fingerprint::of(b"key").audience(),
            "rouse-peer/2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"
        );
    }

    #[test]
    fn a_token_proves_the_key_of_its_own_pod() {
        assert_eq!(check(|_| {}), Ok(()));
    }

    #[test]
    fn a_token_that_is_not_good_for_the_key_proves_nothing() {
        let other = Fingerprint::of(b"another").audience();
        assert_eq!(check(|s| s["audiences"] = json!([other])), Err(Unproved::Token));
        assert_eq!(check(|s| s["audiences"] = json!([])), Err(Unproved::Token));
        // What an API server answers whose authenticator knows nothing of audiences.
        assert_eq!(check(|s| s["audiences"] = Value::Null), Err(Unproved::Token));
        assert_eq!(check(|s| s["authenticated"] = json!(false)), Err(Unproved::Token));
        assert_eq!(check(|s| s["user"] = Value::Null), Err(Unproved::Token));
        let claim = Claim { key: Fingerprint::of(b"key"), namespace: "n", pod_uid: "uid-1" };
        assert_eq!(claim.check(None), Err(Unproved::Token));
    }

    #[test]
    fn another_account_or_pod_proves_nothing() {
        for name in [
            "system:serviceaccount:rouse-system:rouse-controller",
            "system:serviceaccount:shop:rouse-activator",
            "",
        ] {
            let denied = check(|s| s["user"]["username"] = json!(name));
            assert_eq!(denied, Err(Unproved::Account(name.into())));
        }
        for extra in [
            Value::Null,
            json!({}),
            json!({POD_UID: []}),
            json!({POD_UID: ["uid-2"]}),
            json!({POD_UID: ["uid-1", "uid-2"]}),
            json!({"authentication.kubernetes.io/pod-name": ["uid-1"]}),
        ] {
            assert_eq!(check(|s| s["user"]["extra"] = extra), Err(Unproved::Pod));
        }
    }
}
