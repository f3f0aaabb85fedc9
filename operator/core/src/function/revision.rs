//! The name of a revision: a hash of what the user wrote and of nothing that Rouse adds, so that an
//! upgrade of Rouse never makes a new revision.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Workload;

/// Hex digits of a revision's name: 40 bits, so that of a thousand revisions of one Function two
/// have the same name with a chance below one in a million.
const DIGITS: usize = 10;

/// The name of the revision that `workload` makes: ten hex digits of the SHA-256 of its JSON with
/// sorted keys and without white space.
pub fn revision_hash(workload: &Workload) -> String {
    let json = serde_json::to_value(workload).unwrap_or_default();
    let mut canonical = String::new();
    write_canonical(&json, &mut canonical);
    let digest = Sha256::digest(canonical.as_bytes());
    let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    nibbles.take(DIGITS).filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}

/// Sorts keys itself: whether `serde_json` does depends on which crates are built along.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => write_all(out, '[', items, ']', |item, out| {
            write_canonical(item, out);
        }),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            write_all(out, '{', &members, '}', |(key, member), out| {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(member, out);
            });
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

fn write_all<T>(
    out: &mut String,
    open: char,
    items: &[T],
    close: char,
    write: impl Fn(&T, &mut String),
) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use rouse_crds::v1alpha1::{EnvVar, Protocol, Resources};
    use serde_json::json;

    use super::*;
    use crate::function::validate;

    fn workload() -> Workload {
        Workload {
            image: Some("registry.example/hello:1".into()),
            source: None,
            port: 8080,
            protocol: Protocol::Http1,
            env: vec![],
            env_from: vec![],
            command: vec![],
            args: vec![],
            resources: Resources::default(),
            template: BTreeMap::new(),
            grace_seconds: 300,
        }
    }

    /// These never change: a new value here restarts every Function of everybody who upgrades.
    #[test]
    fn the_names_of_revisions_are_for_ever() {
        assert_eq!(revision_hash(&workload()), "4b041d9049");
        let full = Workload {
            port: 9000,
            protocol: Protocol::H2c,
            env: vec![EnvVar { name: "A".into(), value: Some("1".into()), value_from: None }],
            command: vec!["/bin/app".into()],
            args: vec!["--verbose".into()],
            resources: Resources {
                requests: BTreeMap::from([("cpu".into(), Quantity("100m".into()))]),
                limits: BTreeMap::new(),
            },
            template: BTreeMap::from([(
                "spec".into(),
                json!({"nodeSelector": {"disk": "ssd"}, "priority": 1.5, "a": null}),
            )]),
            ..workload()
        };
        assert_eq!(revision_hash(&full), "f54ba3af0d");
    }

    #[test]
    fn code_is_named_by_what_the_user_wrote_and_its_digest() {
        let source = |more: serde_json::Value| {
            let mut source = json!({"runtime": "python3.11", "files": {"app.py": "x"}});
            source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let object = json!({
                "metadata": {"name": "f", "namespace": "n", "uid": "u"},
                "spec": {"source": source},
            });
            revision_hash(&validate(&serde_json::from_value(object).unwrap()).unwrap().workload)
        };
        let first = source(json!({}));
        assert_eq!(first, "d619f5e3ec", "for ever, too");
        for more in [
            json!({"files": {"app.py": "y"}}),
            json!({"files": {"b.py": "x"}}),
            json!({"handler": "app.handler"}),
            json!({"contract": "Lambda"}),
            json!({"processes": 2}),
            json!({"runtime": "python3.12"}),
        ] {
            assert_ne!(source(more.clone()), first, "{more}");
        }
    }

    #[test]
    fn the_order_of_keys_does_not_matter_and_every_field_does() {
        let with =
            |text: &str| Workload { template: serde_json::from_str(text).unwrap(), ..workload() };
        let one = with(r#"{"spec": {"a": 1, "b": {"c": [1, 2], "d": "x"}}}"#);
        let same = with(r#"{"spec": {"b": {"d": "x", "c": [1, 2]}, "a": 1}}"#);
        let other = with(r#"{"spec": {"b": {"d": "x", "c": [2, 1]}, "a": 1}}"#);
        assert_eq!(revision_hash(&one), revision_hash(&same));
        assert_ne!(revision_hash(&one), revision_hash(&other));
        assert_ne!(
            revision_hash(&workload()),
            revision_hash(&Workload { grace_seconds: 301, ..workload() })
        );
    }
}
