//! Who owns a Function: rendezvous hashing over a versioned list of activators, which one writer
//! (the leading controller) publishes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The activators that may own Functions, at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Grows by one with each change of the members.
    pub version: u64,
    /// The members, ordered by UID.
    pub members: Vec<Member>,
    /// The members of the version before: who owned a Function then is asked for what it has. No
    /// more than a hint, for which nothing is taken to be true.
    #[serde(default)]
    pub previous: Vec<Member>,
}

/// One activator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// UID of the activator's pod.
    pub uid: String,
    /// Name of the activator's pod.
    pub name: String,
    /// Address and port for peers, for example `10.244.0.7:8082`.
    pub peer: String,
}

impl Membership {
    /// The membership that follows this one when `members` are there: this very one if they are
    /// the same, else the next version.
    #[must_use]
    pub fn next(&self, mut members: Vec<Member>) -> Self {
        members.sort();
        members.dedup_by(|a, b| a.uid == b.uid);
        if members == self.members {
            return self.clone();
        }
        Self { version: self.version + 1, members, previous: self.members.clone() }
    }

    /// The member that owns the Function with this UID: the one with the highest weight, so that
    /// a member's coming or going moves only its own share (Thaler and Ravishankar, "A Name-Based
    /// Mapping Scheme for Rendezvous", 1996). None without members.
    pub fn owner(&self, function_uid: &str) -> Option<&Member> {
        heaviest(&self.members, function_uid)
    }

    /// The member that owned the Function at the version before.
    pub fn former_owner(&self, function_uid: &str) -> Option<&Member> {
        heaviest(&self.previous, function_uid)
    }
}

fn heaviest<'a>(members: &'a [Member], function_uid: &str) -> Option<&'a Member> {
    members.iter().max_by_key(|member| weight(&member.uid, function_uid))
}

/// The same on every build and platform, unlike the standard library's hasher.
fn weight(member_uid: &str, function_uid: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(member_uid.as_bytes());
    hash.update([0]);
    hash.update(function_uid.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(count: usize) -> Membership {
        Membership::default().next((0..count).map(member).collect())
    }

    fn member(i: usize) -> Member {
        Member {
            uid: format!("uid-{i}"),
            name: format!("activator-{i}"),
            peer: format!("10.0.0.{i}:8082"),
        }
    }

    #[test]
    fn the_version_grows_only_with_a_change() {
        let one = membership(2);
        assert_eq!(one.version, 1);
        let same = one.next(vec![member(1), member(0)]);
        assert_eq!(same, one);
        let two = one.next(vec![member(1)]);
        assert_eq!((two.version, two.previous), (2, one.members));
    }

    #[test]
    fn nobody_owns_without_members() {
        assert_eq!(Membership::default().owner("f"), None);
    }

    #[test]
    fn a_lost_member_moves_only_its_own_functions() {
        let three = membership(3);
        let two = three.next(vec![member(0), member(1)]);
        for i in 0..300 {
            let uid = format!("function-{i}");
            let before = three.owner(&uid).map(|m| m.uid.clone());
            let after = two.owner(&uid).map(|m| m.uid.clone());
            if before.as_deref() != Some("uid-2") {
                assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn functions_spread_over_members() {
        let three = membership(3);
        let mut shares = std::collections::BTreeMap::new();
        for i in 0..3000 {
            let owner = three.owner(&format!("function-{i}")).map(|m| m.uid.clone());
            *shares.entry(owner).or_insert(0) += 1;
        }
        assert!(shares.values().all(|share| (800..1200).contains(share)), "{shares:?}");
    }
}
