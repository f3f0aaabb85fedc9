//! The other activators as the tasks of Functions know them: where they can be asked for what they
//! have, by their UIDs, which is all that stands on a pod.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rouse_core::handover::{ClaimId, Release};
use rouse_core::membership::{Member, Membership};

use super::{AskPeer, Released};

/// Activators that are remembered after they left: they may be asked while they finish.
const MOST_FORMER: usize = 64;

/// The other activators, and this one among them.
pub struct Neighbours {
    me: Arc<str>,
    /// Tells this process from others of the same pod.
    process: u64,
    tenures: AtomicU64,
    known: ArcSwap<Known>,
    ask: Arc<AskPeer>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    version: u64,
    members: HashMap<String, Member>,
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbours").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Neighbours {
    /// Those of the activator whose pod has the UID `me`; others are asked by `ask`.
    pub fn new(me: &str, ask: Arc<AskPeer>) -> Self {
        Self {
            me: me.into(),
            process: RandomState::new().build_hasher().finish(),
            tenures: AtomicU64::new(0),
            known: ArcSwap::default(),
            ask,
        }
    }

    /// UID of this activator's pod.
    pub const fn me(&self) -> &Arc<str> {
        &self.me
    }

    /// A claim that nobody has made before.
    pub fn new_claim(&self) -> ClaimId {
        ClaimId::new(&self.me, self.process, self.tenures.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes in another membership.
    pub fn learn(&self, membership: &Membership) {
        self.known.rcu(|known| {
            let mut members = known.members.clone();
            if members.len() > MOST_FORMER {
                members.clear();
            }
            let there = membership.previous.iter().chain(&membership.members);
            members.extend(there.map(|member| (member.uid.clone(), member.clone())));
            Known { version: membership.version, members }
        });
    }

    /// Where the activators with these UIDs are, those that are remembered.
    pub fn addresses(&self, uids: &[Arc<str>]) -> Vec<Member> {
        let known = self.known.load();
        uids.iter().filter_map(|uid| known.members.get(&**uid).cloned()).collect()
    }

    /// Remembers where others are whom nobody has named before.
    fn meet(&self, others: &[Member]) {
        if others.is_empty() {
            return;
        }
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            for other in others {
                known.members.entry(other.uid.clone()).or_insert_with(|| other.clone());
            }
            known
        });
    }

    /// Asks the activator with the UID `member` for the Function with the UID `function`.
    pub async fn ask(&self, function: &Arc<str>, member: &str) -> Released {
        let asking = {
            let known = self.known.load();
            let release = known.members.get(&*self.me).map(|to| Release {
                function: Arc::clone(function),
                version: known.version,
                to: to.clone(),
            });
            (known.members.get(member).cloned(), release)
        };
        match asking {
            (Some(member), Some(release)) => {
                let name = member.name.clone();
                let released = (self.ask)(member, release).await;
                match &released {
                    Released::Gave { estate, .. } => self.meet(&estate.addresses),
                    Released::Refused => {}
                    Released::Silent => {
                        tracing::warn!(%function, activator = name, "it gives no answer, its pods are replaced");
                    }
                }
                released
            }
            // It left so long ago that nobody remembers it.
            (None, _) => Released::Silent,
            // Who is no member owns nothing.
            (_, None) => Released::Refused,
        }
    }
}
