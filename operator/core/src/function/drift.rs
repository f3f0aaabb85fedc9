//! Whether an object in the cluster still has everything that we would apply to it. What others
//! added is theirs and no drift: a server-side apply would not take it away either.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Booleans and numbers whose absence means something else than `false` or 0. Of all others the
/// API server drops the zero value, so that it comes back as absent.
const MEANINGFUL_ZEROES: &[&str] = &[
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "backoffLimit",
    "enableServiceLinks",
    "fsGroup",
    "hostUsers",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsUser",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
];

/// Fields whose members, or which themselves, are resource quantities.
const QUANTITY_MAPS: &[&str] = &["limits", "overhead", "requests"];
const QUANTITIES: &[&str] = &["divisor", "sizeLimit"];

/// Whether `observed` has all that `desired` says. Maps may hold more, and so may lists whose
/// elements have a key (containers, variables, ...); other lists must be of the same length. Empty
/// and absent are the same, and quantities are compared by value.
pub fn covers(observed: &Value, desired: &Value) -> bool {
    covers_field("", Some(observed), desired)
}

fn covers_field(field: &str, observed: Option<&Value>, desired: &Value) -> bool {
    match (observed, desired) {
        (None | Some(Value::Null), desired) => is_absence(field, desired),
        (Some(Value::Object(observed)), Value::Object(desired)) => {
            let quantities = QUANTITY_MAPS.contains(&field);
            desired.iter().all(|(key, value)| match observed.get(key) {
                Some(seen) if quantities => same_quantity(seen, value),
                seen => covers_field(key, seen, value),
            })
        }
        (Some(Value::Array(observed)), Value::Array(desired)) => {
            covers_list(field, observed, desired)
        }
        (Some(observed), desired) if QUANTITIES.contains(&field) => {
            same_quantity(observed, desired)
        }
        (Some(observed), desired) => {
            observed == desired || (is_absence(field, observed) && is_absence(field, desired))
        }
    }
}

/// Whether the API server would not keep this value of `field`, or reads it as if it were absent.
fn is_absence(field: &str, value: &Value) -> bool {
    let zero_is_absent = || !MEANINGFUL_ZEROES.contains(&field);
    match value {
        Value::Null => true,
        Value::Bool(value) => !value && zero_is_absent(),
        Value::Number(number) => number.as_f64() == Some(0.0) && zero_is_absent(),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.iter().all(|(key, member)| is_absence(key, member)),
    }
}

fn covers_list(field: &str, observed: &[Value], desired: &[Value]) -> bool {
    let keys = merge_keys(field, desired);
    if keys.is_empty() {
        return observed.len() == desired.len()
            && observed
                .iter()
                .zip(desired)
                .all(|(observed, desired)| covers_field("", Some(observed), desired));
    }
    desired.iter().all(|desired| {
        observed.iter().any(|observed| {
            keys.iter().all(|key| key_of(observed, key) == key_of(desired, key))
                && covers_field("", Some(observed), desired)
        })
    })
}

/// What tells the elements of a list apart, for the lists that a server-side apply merges.
fn merge_keys(field: &str, desired: &[Value]) -> &'static [&'static str] {
    match field {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets"
        | "resourceClaims" => &["name"],
        "ports" if has_member(desired, "containerPort") => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "hostAliases" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "ownerReferences" => &["uid"],
        _ => &[],
    }
}

fn has_member(items: &[Value], key: &str) -> bool {
    items.iter().any(|item| item.get(key).is_some())
}

/// The value of a key; a protocol that is not given is TCP.
fn key_of<'a>(item: &'a Value, key: &str) -> Cow<'a, Value> {
    match item.get(key) {
        None if key == "protocol" => Cow::Owned(Value::from("TCP")),
        None => Cow::Owned(Value::Null),
        Some(value) => Cow::Borrowed(value),
    }
}

fn same_quantity(one: &Value, other: &Value) -> bool {
    one == other || matches!((nanos(one), nanos(other)), (Some(one), Some(other)) if one == other)
}

/// A quantity in billionths, the finest that Kubernetes knows; none for what is no quantity or too
/// great to tell.
fn nanos(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(number) => Cow::Owned(number.to_string()),
        _ => return None,
    };
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (ten, two) = exponents(unit)?;
    let ten = ten.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = digits.checked_mul(1i128.checked_shl(two).filter(|_| two < 100)?)?;
    let power = 10i128.checked_pow(ten.unsigned_abs())?;
    // Kubernetes rounds up what is finer than a billionth.
    let value = if ten < 0 {
        scaled.checked_add(power - 1)?.checked_div(power)?
    } else {
        scaled.checked_mul(power)?
    };
    Some(sign * value)
}

/// The powers of ten and of two that a unit stands for.
fn exponents(unit: &str) -> Option<(i32, u32)> {
    Some(match unit {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => (unit.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    })
}

/// Lays `over` over `under`: members of objects are merged, everything else is replaced.
pub(super) fn lay_over(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => lay_over(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_no_drift() {
        let desired = json!({"spec": {"containers": [{"name": "function", "image": "a"}]}});
        let observed = json!({"spec": {
            "containers": [
                {"name": "sidecar", "image": "s"},
                {"name": "function", "image": "a", "imagePullPolicy": "Always", "resources": {}},
            ],
            "dnsPolicy": "ClusterFirst",
        }});
        assert!(covers(&observed, &desired));
    }

    #[test]
    fn what_is_ours_is_missed() {
        let desired = json!({"env": [{"name": "A", "value": "1"}], "args": ["x", "y"]});
        let cases = [
            json!({"env": [{"name": "A", "value": "2"}], "args": ["x", "y"]}),
            json!({"env": [], "args": ["x", "y"]}),
            json!({"env": [{"name": "A", "value": "1"}], "args": ["x", "y", "z"]}),
            json!({"env": [{"name": "A", "value": "1"}], "args": ["y", "x"]}),
            json!({"env": [{"name": "A", "value": "1"}]}),
            json!(null),
        ];
        for observed in cases {
            assert!(!covers(&observed, &desired), "{observed}");
        }
    }

    #[test]
    fn empty_and_absent_are_the_same() {
        let desired = json!({
            "a": "", "b": [], "c": {}, "d": null, "hostNetwork": false, "e": {"f": {"g": []}},
            "initialDelaySeconds": 0,
        });
        assert!(covers(&json!({}), &desired));
        assert!(covers(&json!({"a": null, "b": null, "hostNetwork": null}), &desired));
        assert!(covers(&desired, &json!({"a": null, "c": {"x": ""}})));
    }

    #[test]
    fn a_zero_that_means_something_is_not_absent() {
        for desired in [
            json!({"automountServiceAccountToken": false}),
            json!({"runAsUser": 0}),
            json!({"hostUsers": false}),
        ] {
            assert!(!covers(&json!({}), &desired), "{desired}");
            assert!(covers(&desired, &desired), "{desired}");
        }
    }

    #[test]
    fn ports_are_told_apart_by_number_and_protocol() {
        let desired = json!({"ports": [{"containerPort": 80}]});
        assert!(covers(
            &json!({"ports": [
                {"containerPort": 80, "protocol": "UDP"},
                {"containerPort": 80, "protocol": "TCP"},
            ]}),
            &desired
        ));
        assert!(!covers(&json!({"ports": [{"containerPort": 80, "protocol": "UDP"}]}), &desired));
        let service = json!({"ports": [{"port": 80, "name": "http"}]});
        assert!(covers(
            &json!({"ports": [{"port": 80, "name": "http", "protocol": "TCP"}]}),
            &service
        ));
        assert!(!covers(&json!({"ports": [{"port": 81, "name": "http"}]}), &service));
    }

    #[test]
    fn quantities_are_compared_by_value() {
        for (one, other) in [
            (json!("1000m"), json!("1")),
            (json!("0.5"), json!("500m")),
            (json!(0.5), json!("500m")),
            (json!(2), json!("2")),
            (json!("1Gi"), json!("1024Mi")),
            (json!("1e3"), json!("1k")),
            (json!("1.5Gi"), json!("1536Mi")),
            (json!("0.1n"), json!("1n")),
            (json!("8Ei"), json!("8192Pi")),
        ] {
            let wrap = |q: &Value| json!({"resources": {"requests": {"cpu": q}}});
            assert!(covers(&wrap(&one), &wrap(&other)), "{one} {other}");
            assert!(covers(&json!({"sizeLimit": one}), &json!({"sizeLimit": other})));
        }
        for (one, other) in [("1", "1m"), ("1G", "1Gi"), ("x", "y"), ("1e", "1"), ("", "0")] {
            let wrap = |q: &str| json!({"limits": {"memory": q}});
            assert!(!covers(&wrap(one), &wrap(other)), "{one} {other}");
        }
        assert!(
            !covers(
                &json!({"env": [{"name": "A", "value": "1"}]}),
                &json!({"env": [{"name": "A", "value": "1000m"}]})
            ),
            "a variable is no quantity"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0i64..4).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("containers"),
            Just("env"),
            Just("name"),
            Just("requests"),
            Just("a"),
            Just("runAsUser"),
            Just("ports"),
            Just("args"),
            Just("sizeLimit"),
        ];
        leaf.prop_recursive(4, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..4).prop_map(|members| {
                    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                }),
            ]
        })
    }

    /// Every path to a leaf that is not an absence, with keyed lists left out.
    fn remove_one(value: &mut Value, pick: &mut usize) -> bool {
        let Value::Object(members) = value else { return false };
        let keys: Vec<String> = members.keys().cloned().collect();
        for key in keys {
            let Some(member) = members.get_mut(&key) else { continue };
            if remove_one(member, pick) {
                return true;
            }
            if !is_absence(&key, member) {
                if *pick == 0 {
                    members.remove(&key);
                    return true;
                }
                *pick -= 1;
            }
        }
        false
    }

    proptest! {
        #[test]
        fn everything_covers_itself_and_nothing(value in any_json()) {
            prop_assert!(covers(&value, &value));
            prop_assert_eq!(covers(&Value::Null, &value), is_absence("", &value));
        }

        #[test]
        fn additions_never_uncover(value in any_json(), extra in any_json()) {
            let (Value::Object(value), Value::Object(extra)) = (value, extra) else {
                return Ok(());
            };
            let mut both = extra;
            lay_over(&mut both, &value);
            prop_assert!(covers(&Value::Object(both), &Value::Object(value)));
        }

        #[test]
        fn every_removal_is_seen(value in any_json(), mut pick in 0usize..8) {
            let mut less = value.clone();
            if remove_one(&mut less, &mut pick) {
                prop_assert!(!covers(&less, &value), "{less} must not cover {value}");
            }
        }
    }
}
