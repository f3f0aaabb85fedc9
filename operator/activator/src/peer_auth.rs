//! Who calls on the peer port: asks the API server whom a token belongs to, and remembers the
//! answer for a while, so that peers are known even while the API server is away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewStatus};
use kube::{Api, Client};
use rouse_core::function::names::{MANAGER_ACTIVATOR, MANAGER_CONTROLLER, PEER_AUDIENCE};
use rouse_core::peer::{account, authenticated};
use rouse_peer::{ReviewError, review};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::instances::client::describe;
use crate::server::{Peer, PeerDenied};

/// How long a token that was found good need not be asked about again.
const FRESH: Duration = Duration::from_mins(2);
/// How long it stands if the API server can't be asked: as long as such a token lives at most.
const STANDS: Duration = Duration::from_hours(1);
/// How long one that was found bad need not be asked about again.
const DENIED: Duration = Duration::from_secs(10);
/// Tokens that are remembered: a few for each activator and controller, and some strangers'.
const MOST_TOKENS: usize = 512;
/// Longest token, in bytes. Those of ServiceAccounts have about one thousand.
const MOST_BYTES: usize = 8 * 1024;
/// Questions to the API server at once, so that strangers can't flood it through us.
const MOST_REVIEWS: usize = 4;
/// Questions that may wait for their turn: more than a cluster has activators that come up at once.
const MOST_WAITING: usize = 64;

/// Tells who a caller is. Cheap to clone.
#[derive(Clone)]
pub struct PeerAuth {
    shared: Arc<Shared>,
}

struct Shared {
    reviews: Api<TokenReview>,
    /// Full names of the two roles' ServiceAccounts.
    activator: String,
    controller: String,
    verdicts: Mutex<HashMap<[u8; 32], Verdict>>,
    asking: Semaphore,
    waiting: Semaphore,
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    peer: Option<Peer>,
    at: Instant,
}

impl Verdict {
    fn is_fresh(&self, now: Instant) -> bool {
        let lasts = if self.peer.is_some() { FRESH } else { DENIED };
        now < self.at + lasts
    }

    fn stands(&self, now: Instant) -> bool {
        let lasts = if self.peer.is_some() { STANDS } else { DENIED };
        now < self.at + lasts
    }

    fn answer(&self) -> Result<Peer, PeerDenied> {
        self.peer.ok_or(PeerDenied::Unknown)
    }
}

impl PeerAuth {
    /// Knows the ServiceAccounts of Rouse's own `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            shared: Arc::new(Shared {
                reviews: Api::all(client),
                activator: account(namespace, MANAGER_ACTIVATOR),
                controller: account(namespace, MANAGER_CONTROLLER),
                verdicts: Mutex::default(),
                asking: Semaphore::new(MOST_REVIEWS),
                waiting: Semaphore::new(MOST_WAITING),
            }),
        }
    }

    /// Who calls with this token.
    pub async fn check(&self, token: &str) -> Result<Peer, PeerDenied> {
        if token.is_empty() || token.len() > MOST_BYTES {
            return Err(PeerDenied::Unknown);
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(verdict) = self.remembered(&digest, Verdict::is_fresh) {
            return verdict.answer();
        }
        let Shared { asking, waiting, .. } = &*self.shared;
        let _turn = if let Ok(turn) = asking.try_acquire() {
            turn
        } else {
            // Whoever is known does not stand in line behind strangers.
            let known = self.remembered(&digest, Verdict::stands).and_then(|verdict| verdict.peer);
            if let Some(peer) = known {
                return Ok(peer);
            }
            let Ok(_place) = waiting.try_acquire() else { return Err(PeerDenied::Unavailable) };
            asking.acquire().await.map_err(|_closed| PeerDenied::Unavailable)?
        };
        // Somebody with the same token may have asked in the meantime.
        if let Some(verdict) = self.remembered(&digest, Verdict::is_fresh) {
            return verdict.answer();
        }
        match self.fetch_peer(token).await {
            Ok(peer) => {
                let verdict = Verdict { peer, at: Instant::now() };
                self.remember(digest, verdict);
                verdict.answer()
            }
            Err(error) => {
                tracing::warn!(
                    error = describe(&error),
                    "asking whom a peer's token belongs to failed"
                );
                let standing = self.remembered(&digest, Verdict::stands);
                standing.map_or(Err(PeerDenied::Unavailable), |verdict| verdict.answer())
            }
        }
    }

    async fn fetch_peer(&self, token: &str) -> Result<Option<Peer>, ReviewError> {
        let status = review(&self.shared.reviews, token, PEER_AUDIENCE).await?;
        Ok(self.peer_of(status.as_ref()))
    }

    fn peer_of(&self, status: Option<&TokenReviewStatus>) -> Option<Peer> {
        match authenticated(status, PEER_AUDIENCE)?.username.as_deref()? {
            name if name == self.shared.activator => Some(Peer::Activator),
            name if name == self.shared.controller => Some(Peer::Controller),
            _ => None,
        }
    }

    fn remembered(
        &self,
        digest: &[u8; 32],
        counts: fn(&Verdict, Instant) -> bool,
    ) -> Option<Verdict> {
        let now = Instant::now();
        self.lock().get(digest).copied().filter(|verdict| counts(verdict, now))
    }

    fn remember(&self, digest: [u8; 32], verdict: Verdict) {
        let mut verdicts = self.lock();
        if verdicts.len() >= MOST_TOKENS {
            verdicts.retain(|_, verdict| verdict.stands(Instant::now()));
        }
        if verdicts.len() >= MOST_TOKENS {
            // Strangers have to make room for one another, never peers for strangers.
            verdicts.retain(|_, verdict| verdict.peer.is_some());
        }
        if verdicts.len() < MOST_TOKENS {
            verdicts.insert(digest, verdict);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Verdict>> {
        self.shared.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower_test::mock;

    use super::*;

    type ApiServer = mock::Handle<Request<Body>, Response<Body>>;

    fn auth() -> (PeerAuth, ApiServer) {
        let (service, server) = mock::pair();
        (PeerAuth::new(Client::new(service, "default"), "rouse-system"), server)
    }

    /// Answers one review, and returns what was asked.
    async fn answer(server: &mut ApiServer, status: Value) -> Value {
        let (request, respond) = server.next_request().await.expect("a review");
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {}, "status": status});
        respond.send_response(Response::new(Body::from(review.to_string().into_bytes())));
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn refuse(server: &mut ApiServer) {
        let (_, respond) = server.next_request().await.expect("a review");
        respond.send_error("the API server is away");
    }

    fn account(name: &str) -> Value {
        json!({"authenticated": true, "audiences": ["rouse.dev/peer"],
            "user": {"username": format!("system:serviceaccount:{name}")}})
    }

    #[tokio::test(start_paused = true)]
    async fn the_two_roles_are_known_by_their_accounts() {
        for (name, expected) in [
            ("rouse-system:rouse-activator", Ok(Peer::Activator)),
            ("rouse-system:rouse-controller", Ok(Peer::Controller)),
            ("shop:rouse-activator", Err(PeerDenied::Unknown)),
            ("rouse-system:default", Err(PeerDenied::Unknown)),
        ] {
            let (auth, mut server) = auth();
            let (checked, asked) =
                tokio::join!(auth.check("token"), answer(&mut server, account(name)));
            assert_eq!(checked, expected, "{name}");
            assert_eq!(asked["spec"], json!({"token": "token", "audiences": ["rouse.dev/peer"]}));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_for_another_audience_or_not_authenticated_is_unknown() {
        for status in [
            json!({"authenticated": true, "user": account("rouse-system:rouse-activator")["user"]}),
            json!({"authenticated": false, "error": "expired"}),
        ] {
            let (auth, mut server) = auth();
            let (checked, _) = tokio::join!(auth.check("token"), answer(&mut server, status));
            assert_eq!(checked, Err(PeerDenied::Unknown));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn verdicts_are_remembered_and_stand_while_nobody_can_be_asked() {
        let (auth, mut server) = auth();
        let good = account("rouse-system:rouse-activator");
        let (first, _) = tokio::join!(auth.check("t"), answer(&mut server, good));
        assert_eq!(first, Ok(Peer::Activator));
        assert_eq!(auth.check("t").now_or_never(), Some(Ok(Peer::Activator)), "nobody is asked");
        tokio::time::advance(FRESH).await;
        let (stale, ()) = tokio::join!(auth.check("t"), refuse(&mut server));
        assert_eq!(stale, Ok(Peer::Activator));
        tokio::time::advance(STANDS).await;
        let (over, ()) = tokio::join!(auth.check("t"), refuse(&mut server));
        assert_eq!(over, Err(PeerDenied::Unavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_is_remembered_for_a_short_time() {
        let (auth, mut server) = auth();
        let (first, _) =
            tokio::join!(auth.check("t"), answer(&mut server, json!({"authenticated": false})));
        assert_eq!(first, Err(PeerDenied::Unknown));
        assert_eq!(auth.check("t").now_or_never(), Some(Err(PeerDenied::Unknown)));
        tokio::time::advance(DENIED).await;
        let good = account("rouse-system:rouse-controller");
        let (second, _) = tokio::join!(auth.check("t"), answer(&mut server, good));
        assert_eq!(second, Ok(Peer::Controller));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_keep_no_peer_waiting() {
        let (auth, mut server) = auth();
        let good = account("rouse-system:rouse-activator");
        let (first, _) = tokio::join!(auth.check("t"), answer(&mut server, good));
        assert_eq!(first, Ok(Peer::Activator));
        tokio::time::advance(FRESH).await;
        let strangers: Vec<_> = (0..10 * MOST_WAITING)
            .map(|i| {
                let auth = auth.clone();
                tokio::spawn(async move { auth.check(&format!("stranger {i}")).await })
            })
            .collect();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let turned_away = strangers.iter().filter(|stranger| stranger.is_finished()).count();
        assert_eq!(turned_away, 10 * MOST_WAITING - MOST_WAITING - MOST_REVIEWS);
        assert_eq!(auth.check("t").now_or_never(), Some(Ok(Peer::Activator)));
        drop(server);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_strangers_never_push_peers_out() {
        let (auth, _server) = auth();
        let now = Instant::now();
        auth.remember([0xff; 32], Verdict { peer: Some(Peer::Activator), at: now });
        for i in 0..2 * MOST_TOKENS {
            let digest = Sha256::digest(i.to_le_bytes()).into();
            auth.remember(digest, Verdict { peer: None, at: now });
            assert!(auth.lock().len() <= MOST_TOKENS);
        }
        assert!(auth.lock().contains_key(&[0xff; 32]));
        assert_eq!(auth.check(&"x".repeat(MOST_BYTES + 1)).await, Err(PeerDenied::Unknown));
    }
}
