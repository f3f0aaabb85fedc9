//! How Deployments roll, and who goes with whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::deployments::{Count, Goal, roll};
use super::*;
use crate::api::kinds::Kind;
use crate::api::route::{Query, Target};
use crate::api::verbs::{self, Call, DeleteOptions, PatchKind, Propagation};

fn count(wanted: i64, available: i64) -> Count {
    Count { wanted, there: wanted, available }
}

#[test]
fn without_old_pods_there_are_as_many_as_asked_for() {
    let goal = Goal { replicas: 3, surge: 1, unavailable: 0, recreates: false };
    assert_eq!(roll(goal, Count::default(), &[]), (3, vec![]));
    assert_eq!(roll(goal, count(5, 5), &[count(0, 0)]), (3, vec![0]));
    assert_eq!(roll(Goal { replicas: 0, ..goal }, count(2, 2), &[count(1, 1)]), (0, vec![0]));
}

/// Whatever the bounds, each step keeps to them, and the steps come to an end.
#[test]
fn a_roll_keeps_within_its_bounds_and_arrives() {
    for replicas in 0..8 {
        for (surge, unavailable) in [(1, 0), (0, 1), (1, 1), (2, 3), (5, 0)] {
            for first_available in [0, replicas] {
                let goal = Goal { replicas, surge, unavailable, recreates: false };
                let (mut new, mut old) = (Count::default(), count(replicas, first_available));
                let mut steps = 0;
                while new.available < replicas || old.wanted > 0 {
                    let (next, left) = roll(goal, new, &[old]);
                    let all = next + left[0];
                    assert!(all <= replicas + surge, "{goal:?} {new:?} {old:?}: {all} pods");
                    let fit = new.available.min(next) + old.available.min(left[0]);
                    let before = new.available + old.available;
                    assert!(
                        fit >= (replicas - unavailable).min(before),
                        "{goal:?} {new:?} {old:?}: {fit} serve"
                    );
                    // All that is there becomes fit before the next look.
                    new = count(next, next);
                    old = count(left[0], old.available.min(left[0]));
                    steps += 1;
                    assert!(steps < 50, "{goal:?} does not arrive");
                }
                assert_eq!(new.wanted, replicas);
            }
        }
    }
}

#[test]
fn where_pods_are_recreated_the_old_go_first() {
    let goal = Goal { replicas: 2, surge: 1, unavailable: 0, recreates: true };
    assert_eq!(roll(goal, Count::default(), &[count(2, 2)]), (0, vec![0]));
    let going = Count { wanted: 0, there: 1, available: 0 };
    assert_eq!(roll(goal, Count::default(), &[going]), (0, vec![0]));
    assert_eq!(roll(goal, Count::default(), &[count(0, 0)]), (2, vec![0]));
}

/// Objects, owners and a watch, by seeds.
struct World {
    kinds: Kinds,
    store: Store,
    rng: fastrand::Rng,
    /// What a watch knows.
    known: BTreeMap<String, u64>,
    told_to: u64,
    made: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let kinds = Kinds::new(&[]).unwrap();
        let store = Store::new(kinds.iter().map(|kind| kind.id), seed);
        let rng = fastrand::Rng::with_seed(seed);
        let mut world = Self { kinds, store, rng, known: BTreeMap::new(), told_to: 0, made: 0 };
        world.told_to = world.store.version();
        let namespace = Arc::clone(&world.kinds.namespace);
        world.call(&namespace, None, "", |store, call| {
            verbs::create(store, call, json!({"metadata": {"name": "n"}})).unwrap();
        });
        world
    }

    fn maps(&self) -> Arc<Kind> {
        Arc::clone(self.kinds.find("", "v1", "configmaps").unwrap())
    }

    fn call(
        &mut self,
        kind: &Arc<Kind>,
        namespace: Option<&str>,
        name: &str,
        act: impl FnOnce(&mut Store, &Call<'_>),
    ) {
        let target = Target {
            kind: Arc::clone(kind),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            subresource: String::new(),
        };
        let query = Query::default();
        let now = Timestamp::UNIX_EPOCH;
        let call = Call { kinds: &self.kinds, target: &target, query: &query, agent: "t", now };
        act(&mut self.store, &call);
        settle(&mut self.store, &self.kinds, now);
    }

    fn pick(&mut self) -> Option<Arc<Object>> {
        let all: Vec<_> = self.store.list(self.maps().id, None).cloned().collect();
        self.rng.choice(all)
    }

    fn step(&mut self) {
        let maps = self.maps();
        let picked = self.pick();
        let name = picked.as_ref().map(|it| meta::name(&it.value).to_owned()).unwrap_or_default();
        match (self.rng.u8(..10), picked) {
            (0..5, _) | (_, None) => {
                let mut owners = Vec::new();
                for _ in 0..self.rng.usize(..3) {
                    owners.extend(self.pick().map(|it| super::replica_sets::owner(&it)));
                }
                let finalizers = if self.rng.u8(..4) == 0 { json!(["t/hold"]) } else { json!([]) };
                self.made += 1;
                let object = json!({"metadata": {
                    "name": format!("m{}", self.made), "ownerReferences": owners,
                    "finalizers": finalizers,
                }});
                self.call(&maps, Some("n"), "", |store, call| {
                    verbs::create(store, call, object).unwrap();
                });
            }
            (5..8, Some(_)) => {
                let propagations =
                    [Propagation::Background, Propagation::Foreground, Propagation::Orphan];
                let options = DeleteOptions::propagated(self.rng.choice(propagations).unwrap());
                self.call(&maps, Some("n"), &name, |store, call| {
                    verbs::delete(store, call, &options).unwrap();
                });
            }
            (_, Some(_)) => {
                let patch = br#"{"metadata": {"finalizers": null}}"#;
                self.call(&maps, Some("n"), &name, |store, call| {
                    verbs::patch(store, call, (PatchKind::Merge, patch)).unwrap();
                });
            }
        }
    }

    fn check(&mut self, seed: u64) {
        let maps = self.maps();
        for change in self.store.changes_since(maps.id, self.told_to).unwrap() {
            let name = meta::name(&change.after.value).to_owned();
            if change.is_gone {
                self.known.remove(&name);
            } else {
                self.known.insert(name, change.after.version);
            }
        }
        self.told_to = self.store.version();
        let mut there = BTreeMap::new();
        for object in self.store.list(maps.id, None) {
            let value = &object.value;
            there.insert(meta::name(value).to_owned(), object.version);
            let owners: Vec<&str> = meta::owners(value).collect();
            let owned = owners.iter().any(|owner| self.store.by_uid(owner).is_some());
            let is_going = meta::is_going(value);
            assert!(owners.is_empty() || owned || is_going, "seed {seed}: {value} has no owner");
            assert!(!is_going || meta::has_finalizers(value), "seed {seed}: {value} stays");
            for owner in owners.iter().filter(|owner| self.store.by_uid(owner).is_some()) {
                let dependents = self.store.dependents(owner);
                let known = dependents.iter().any(|it| meta::uid(&it.value) == meta::uid(value));
                assert!(known, "seed {seed}: {value} is not known to its owner");
            }
        }
        assert_eq!(self.known, there, "seed {seed}: a watch knows something else");
    }
}

#[test]
fn nothing_is_left_without_an_owner_and_watches_know_all() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..80 {
            world.step();
            world.check(seed);
        }
        let namespace = Arc::clone(&world.kinds.namespace);
        world.call(&namespace, None, "n", |store, call| {
            verbs::delete(store, call, &DeleteOptions::default()).unwrap();
        });
        while let Some(held) = world.pick() {
            let name = meta::name(&held.value).to_owned();
            let maps = world.maps();
            let patch = br#"{"metadata": {"finalizers": null}}"#;
            world.call(&maps, Some("n"), &name, |store, call| {
                verbs::patch(store, call, (PatchKind::Merge, patch)).unwrap();
            });
        }
        assert!(world.store.list(namespace.id, None).next().is_none(), "seed {seed}");
    }
}
