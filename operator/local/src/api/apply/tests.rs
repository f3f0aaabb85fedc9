//! Who owns what, and what an apply does, by the cases that Rouse lives by.

use rouse_crds::v1alpha1::crds;
use serde_json::json;

use super::*;
use crate::api::kinds::Kinds;

fn manager(name: &str, applies: bool) -> Manager {
    Manager { name: name.into(), applies, subresource: String::new() }
}

fn deployment(spec: &Value) -> Value {
    json!({"metadata": {"name": "a", "uid": "1", "labels": {"app": "a"}}, "spec": spec})
}

struct Rig {
    kinds: Kinds,
    owned: Owned,
    live: Value,
}

impl Rig {
    fn created(by: &str, object: Value) -> Self {
        let kinds = Kinds::new(&crds()).unwrap();
        let mut owned = Owned::default();
        owned.note(manager(by, false), Node::root(&kinds.deployment), (None, &object));
        Self { kinds, owned, live: object }
    }

    fn apply(&mut self, by: &str, object: &Value, force: bool) -> Result<(), Vec<Conflict>> {
        let node = Node::root(&self.kinds.deployment);
        let (live, by) = (self.live.clone(), manager(by, true));
        self.live = self.owned.apply(by, node, (&live, object), force)?;
        Ok(())
    }

    fn update(&mut self, by: &str, change: impl FnOnce(&mut Value)) {
        let before = self.live.clone();
        change(&mut self.live);
        let node = Node::root(&self.kinds.deployment);
        self.owned.note(manager(by, false), node, (Some(&before), &self.live));
    }
}

#[test]
fn what_is_left_out_stays_with_who_else_owns_it() {
    let mut rig = Rig::created("activator", deployment(&json!({"replicas": 0, "paused": true})));
    // As the controller does: all but the replicas.
    rig.apply("controller", &deployment(&json!({"paused": true})), true).unwrap();
    assert_eq!(rig.live["spec"], json!({"replicas": 0, "paused": true}));
    rig.update("activator", |live| live["spec"]["replicas"] = json!(3));
    rig.apply("controller", &deployment(&json!({"minReadySeconds": 1})), true).unwrap();
    // The one who made it owns what the other gave up.
    assert_eq!(rig.live["spec"], json!({"replicas": 3, "paused": true, "minReadySeconds": 1}));
    rig.apply("controller", &deployment(&json!({})), true).unwrap();
    assert_eq!(rig.live["spec"], json!({"replicas": 3, "paused": true}));
}

#[test]
fn what_others_own_otherwise_is_a_conflict_unless_forced() {
    let mut rig = Rig::created("kubectl", deployment(&json!({"replicas": 1})));
    rig.apply("first", &deployment(&json!({"minReadySeconds": 1})), false).unwrap();
    rig.apply("second", &deployment(&json!({"minReadySeconds": 1})), false).unwrap();
    let conflicts = rig.apply("second", &deployment(&json!({"minReadySeconds": 2})), false);
    let conflicts = conflicts.unwrap_err();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].manager, manager("first", true));
    assert_eq!(conflicts[0].fields.paths(), [".spec.minReadySeconds"]);
    rig.apply("second", &deployment(&json!({"minReadySeconds": 2})), true).unwrap();
    // It is the second's now, and so goes with it.
    rig.apply("first", &deployment(&json!({})), false).unwrap();
    assert_eq!(rig.live["spec"]["minReadySeconds"], 2);
    rig.apply("second", &deployment(&json!({})), false).unwrap();
    assert_eq!(rig.live["spec"], json!({"replicas": 1}));
}

#[test]
fn members_of_lists_are_known_by_their_keys() {
    let env = |names: &[(&str, &str)]| {
        let env: Vec<_> =
            names.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        json!({"template": {"spec": {"containers": [{"name": "c", "env": env}]}}})
    };
    let mut rig = Rig::created("nobody", deployment(&json!({})));
    rig.apply("one", &deployment(&env(&[("A", "1"), ("B", "1")])), false).unwrap();
    rig.apply("other", &deployment(&env(&[("C", "2")])), false).unwrap();
    let names = |live: &Value| -> Vec<String> {
        let env = live.pointer("/spec/template/spec/containers/0/env").unwrap();
        env.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(names(&rig.live), ["C", "A", "B"]);
    rig.apply("one", &deployment(&env(&[("B", "1")])), false).unwrap();
    assert_eq!(names(&rig.live), ["B", "C"]);
    rig.apply("other", &deployment(&json!({})), false).unwrap();
    assert_eq!(names(&rig.live), ["B"]);
    rig.apply("one", &deployment(&json!({})), false).unwrap();
    assert_eq!(rig.live.get("spec"), Some(&json!({})));
}

#[test]
fn lists_of_custom_resources_are_what_their_schema_says() {
    let kinds = Kinds::new(&crds()).unwrap();
    let kind = kinds.find("rouse.dev", "v1alpha1", "functions").unwrap();
    let node = Node::root(kind);
    let live = json!({"status": {"conditions": [{"type": "A", "status": "True"}]}});
    let said = json!({"status": {"conditions": [{"type": "B", "status": "False"}]}});
    let mut owned = Owned::default();
    owned.note(manager("one", false), node, (None, &live));
    let merged = owned.apply(manager("two", true), node, (&live, &said), false).unwrap();
    let types: Vec<_> =
        merged["status"]["conditions"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert_eq!(types, ["B", "A"]);
}
