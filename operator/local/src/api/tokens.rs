//! Tokens of ServiceAccounts: given, and told whose they are. Pure but for their randomness.
//!
//! They are random and known by this API alone, so that nothing has to be signed: whoever has one was
//! given it. One that is bound to a pod is good as long as the pod is there.

use std::collections::HashMap;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::ring;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::meta::{self, list, number, set, text};
use super::store::Store;

/// Tokens that are remembered; those that are over go first, then those that end soonest.
const MOST: usize = 4096;
/// Seconds that one lives if nobody says, at least and at most.
const LIFE: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 86_400;
/// Who a token without an audience is for.
const AUDIENCE: &str = "https://kubernetes.default.svc";

/// A token that was given.
struct Given {
    namespace: String,
    account: String,
    account_uid: String,
    audiences: Vec<String>,
    pod: Option<(String, String)>,
    until: Timestamp,
}

/// All tokens that were given.
#[derive(Default)]
pub(super) struct Tokens(HashMap<String, Given>);

/// Text that nobody can guess.
pub(super) fn random_text() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 32];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| {
        let message = "this machine gives no random numbers";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    })?;
    Ok(bytes.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}")))
}

impl Tokens {
    /// Gives a token of `account`, as `request` asks for it.
    pub(super) fn give(
        &mut self,
        store: &Store,
        account: &Value,
        mut request: Value,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let mut audiences: Vec<String> = list(&request, "/spec/audiences")
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect();
        if audiences.is_empty() {
            audiences.push(AUDIENCE.to_owned());
        }
        let seconds = number(&request, "/spec/expirationSeconds").unwrap_or(LIFE);
        let seconds = seconds.clamp(SHORTEST, LONGEST);
        let until = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
        let pod = match text(&request, "/spec/boundObjectRef/kind") {
            "" => None,
            "Pod" => Some(bound_pod(store, account, &request)?),
            other => return Err(Refusal::bad(format!("tokens can't be bound to a {other}"))),
        };
        let token = format!("rouse-local.{}", random_text()?);
        self.make_room(now);
        set(&mut request, &["spec", "audiences"], audiences.clone());
        set(&mut request, &["spec", "expirationSeconds"], seconds);
        set(
            &mut request,
            &["status"],
            json!({
                "token": token, "expirationTimestamp": meta::moment(until),
            }),
        );
        set(&mut request, &["apiVersion"], "authentication.k8s.io/v1");
        set(&mut request, &["kind"], "TokenRequest");
        let given = Given {
            namespace: meta::namespace(account).to_owned(),
            account: meta::name(account).to_owned(),
            account_uid: meta::uid(account).to_owned(),
            audiences,
            pod,
            until,
        };
        self.0.insert(token, given);
        Ok(request)
    }

    /// Gives a token of `account` for one audience, which is good as long as this API is.
    pub(super) fn give_lasting(
        &mut self,
        account: &Value,
        audience: &str,
    ) -> Result<String, Refusal> {
        let token = format!("rouse-local.{}", random_text()?);
        let given = Given {
            namespace: meta::namespace(account).to_owned(),
            account: meta::name(account).to_owned(),
            account_uid: meta::uid(account).to_owned(),
            audiences: vec![audience.to_owned()],
            pod: None,
            until: Timestamp::MAX,
        };
        self.0.insert(token.clone(), given);
        Ok(token)
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.0.len() < MOST {
            return;
        }
        self.0.retain(|_, given| given.until > now);
        while self.0.len() >= MOST {
            let soonest = self.0.iter().min_by_key(|(_, given)| given.until);
            let Some(token) = soonest.map(|(token, _)| token.clone()) else { return };
            self.0.remove(&token);
        }
    }

    /// Whose token it is that a review asks about.
    pub(super) fn review(&self, store: &Store, mut review: Value, now: Timestamp) -> Value {
        let given =
            self.0.get(text(&review, "/spec/token")).filter(|given| given.holds(store, now));
        let asked: Vec<&str> = list(&review, "/spec/audiences").filter_map(Value::as_str).collect();
        let asked = if asked.is_empty() { vec![AUDIENCE] } else { asked };
        let status = match given {
            None => json!({"authenticated": false, "error": "the token is not known, or is over"}),
            Some(given) => {
                let good: Vec<&str> = asked
                    .into_iter()
                    .filter(|asked| given.audiences.iter().any(|audience| audience == asked))
                    .collect();
                if good.is_empty() {
                    json!({"authenticated": false, "error": "the token is for another audience"})
                } else {
                    json!({"authenticated": true, "audiences": good, "user": given.user()})
                }
            }
        };
        set(&mut review, &["status"], status);
        set(&mut review, &["apiVersion"], "authentication.k8s.io/v1");
        set(&mut review, &["kind"], "TokenReview");
        review
    }
}

/// Name and UID of the pod that a token is bound to.
fn bound_pod(store: &Store, account: &Value, request: &Value) -> Result<(String, String), Refusal> {
    let name = text(request, "/spec/boundObjectRef/name");
    let uid = text(request, "/spec/boundObjectRef/uid");
    let found = store.by_uid(uid).filter(|it| {
        it.kind.is("", "Pod")
            && meta::name(&it.value) == name
            && meta::namespace(&it.value) == meta::namespace(account)
    });
    let message = format!("there is no pod {name:?} with the UID {uid:?} to bind the token to");
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "NotFound", message))?;
    Ok((name.to_owned(), uid.to_owned()))
}

impl Given {
    /// Whether all that it hangs on is still there.
    fn holds(&self, store: &Store, now: Timestamp) -> bool {
        let there = |uid: &str| store.by_uid(uid).is_some();
        now < self.until
            && there(&self.account_uid)
            && self.pod.as_ref().is_none_or(|(_, uid)| there(uid))
    }

    fn user(&self) -> Value {
        let mut extra = json!({});
        if let Some((name, uid)) = &self.pod {
            set(&mut extra, &["authentication.kubernetes.io/pod-name"], json!([name]));
            set(&mut extra, &["authentication.kubernetes.io/pod-uid"], json!([uid]));
        }
        json!({
            "username": format!("system:serviceaccount:{}:{}", self.namespace, self.account),
            "uid": self.account_uid,
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{}", self.namespace),
                "system:authenticated",
            ],
            "extra": extra,
        })
    }
}
