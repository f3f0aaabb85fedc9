//! Sets of fields of objects, and how the members of lists are told apart. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kinds::{Kind, Shape};

/// How a list is merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// Members are known by these fields.
    Map(Vec<String>),
    /// Members are known by themselves.
    Set,
    /// As a whole.
    Atomic,
}

/// Where in an object one is: what is known of the value there.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    /// Of a definition.
    Schema(&'a Value),
    /// Of Kubernetes' own, by the kind and the name of the field.
    BuiltIn { kind: &'a str, field: &'a str },
}

/// Lists of Kubernetes' own kinds whose members are known by some of their fields.
const MAPS: [(&str, &[&str]); 16] = [
    ("conditions", &["type"]),
    ("containerStatuses", &["name"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ownerReferences", &["uid"]),
    ("podIPs", &["ip"]),
    ("ports", &["containerPort", "protocol"]),
    ("resourceClaims", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// Objects of Kubernetes' own kinds that are written as a whole.
const WHOLE: [&str; 6] =
    ["configMapKeyRef", "fieldRef", "nodeSelector", "resourceFieldRef", "secretKeyRef", "selector"];

impl<'a> Node<'a> {
    /// An object of `kind` as a whole.
    pub(super) fn root(kind: &'a Kind) -> Self {
        match &kind.shape {
            Shape::Custom(definition) => Self::Schema(definition.schema()),
            Shape::Typed(_) => Self::BuiltIn { kind: &kind.name, field: "" },
        }
    }

    /// What is in the field `name`.
    pub(super) fn field(self, name: &'a str) -> Self {
        match self {
            Self::Schema(schema) => {
                let known = schema.get("properties").and_then(|fields| fields.get(name));
                match known.or_else(|| schema.get("additionalProperties")) {
                    Some(below) => Self::Schema(below),
                    None => Self::BuiltIn { kind: "", field: name },
                }
            }
            Self::BuiltIn { kind, .. } => Self::BuiltIn { kind, field: name },
        }
    }

    /// What the members of a list are.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Schema(schema) => schema.get("items").map_or(self, Self::Schema),
            Self::BuiltIn { kind, .. } => Self::BuiltIn { kind, field: "" },
        }
    }

    /// How a list is merged.
    pub(super) fn lists(self) -> Lists {
        match self {
            Self::Schema(schema) => {
                match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                    Some("set") => Lists::Set,
                    Some("map") => {
                        let keys =
                            schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                        let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                        Lists::Map(keys.map(str::to_owned).collect())
                    }
                    _ => Lists::Atomic,
                }
            }
            Self::BuiltIn { field: "finalizers", .. } => Lists::Set,
            Self::BuiltIn { kind: "Service", field: "ports" } => {
                Lists::Map(["port", "protocol"].map(str::to_owned).to_vec())
            }
            // Those of a custom resource are merged as a whole, unless they are every object's.
            Self::BuiltIn { kind: "", field } if field != "ownerReferences" => Lists::Atomic,
            Self::BuiltIn { field, .. } => match MAPS.iter().find(|(name, _)| *name == field) {
                Some((_, keys)) => Lists::Map(keys.iter().map(|key| (*key).to_owned()).collect()),
                None => Lists::Atomic,
            },
        }
    }

    /// Whether an object is written as a whole.
    pub(super) fn is_whole(self) -> bool {
        match self {
            Self::Schema(schema) => {
                schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic")
            }
            Self::BuiltIn { kind: "ControllerRevision", field: "data" } => true,
            Self::BuiltIn { field, .. } => WHOLE.contains(&field),
        }
    }
}

/// By what a member of a list is known; none where it has nothing of that.
pub(super) fn key_of(lists: &Lists, item: &Value) -> Option<Step> {
    match lists {
        Lists::Map(keys) => {
            let values: Vec<String> = keys
                .iter()
                .map(|key| match item.get(key) {
                    Some(value) => value.to_string(),
                    // The default of all that have a protocol.
                    None if key == "protocol" => "\"TCP\"".to_owned(),
                    None => "null".to_owned(),
                })
                .collect();
            let known = values.iter().any(|value| value != "null");
            known.then(|| {
                let named = keys.iter().zip(values).map(|(key, value)| format!("{key}={value}"));
                Step::Item(named.collect::<Vec<_>>().join(","))
            })
        }
        Lists::Set => Some(Step::Value(item.to_string())),
        Lists::Atomic => None,
    }
}

/// One step of the path of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Field(String),
    /// The member of a list with these fields.
    Item(String),
    /// The member of a list that is this.
    Value(String),
}

/// A set of fields: a tree of their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Whether the field itself is in the set.
    own: bool,
    below: BTreeMap<Step, Fields>,
}

impl Fields {
    /// All fields of a value.
    pub(super) fn of(node: Node<'_>, value: &Value) -> Self {
        let mut fields = Self::default();
        match value {
            Value::Object(members) if !members.is_empty() && !node.is_whole() => {
                for (name, member) in members {
                    let below = Self::of(node.field(name), member);
                    fields.below.insert(Step::Field(name.clone()), below);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                let lists = node.lists();
                for item in items {
                    let Some(key) = key_of(&lists, item) else { continue };
                    let mut below = match &lists {
                        Lists::Map(_) => Self::of(node.item(), item),
                        _ => Self::default(),
                    };
                    below.own = true;
                    fields.below.insert(key, below);
                }
                fields.own = fields.below.is_empty();
            }
            _ => fields.own = true,
        }
        fields
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }

    /// Whether the field itself is in the set.
    pub(super) const fn has_own(&self) -> bool {
        self.own
    }

    pub(super) fn below(&self, step: &Step) -> Option<&Self> {
        self.below.get(step)
    }

    /// The steps that lead on.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Step, &Self)> {
        self.below.iter()
    }

    /// Puts what is in `other` into this set.
    pub(super) fn add(&mut self, other: &Self) {
        self.own |= other.own;
        for (step, below) in &other.below {
            self.below.entry(step.clone()).or_default().add(below);
        }
    }

    /// Takes what is in `other` out of this set.
    pub(super) fn take(&mut self, other: &Self) {
        self.own &= !other.own;
        self.below.retain(|step, below| {
            if let Some(other) = other.below.get(step) {
                below.take(other);
            }
            !below.is_empty()
        });
    }

    /// Leaves what is in `other` too.
    pub(super) fn keep(&mut self, other: &Self) {
        self.own &= other.own;
        self.below.retain(|step, below| {
            let Some(other) = other.below.get(step) else { return false };
            below.keep(other);
            !below.is_empty()
        });
    }

    /// Paths as errors tell them.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, path: &str, paths: &mut Vec<String>) {
        if self.own {
            paths.push(path.to_owned());
        }
        for (step, below) in &self.below {
            let path = match step {
                Step::Field(name) => format!("{path}.{name}"),
                Step::Item(key) => format!("{path}[{key}]"),
                Step::Value(value) => format!("{path}[={value}]"),
            };
            below.collect_paths(&path, paths);
        }
    }
}

/// The fields of `after` that `before` has not, or otherwise.
pub(super) fn changed(node: Node<'_>, before: Option<&Value>, after: &Value) -> Fields {
    let mut fields = Fields::default();
    let Some(before) = before else { return Fields::of(node, after) };
    if before == after {
        return fields;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if !new.is_empty() && !node.is_whole() => {
            for (name, member) in new {
                let below = changed(node.field(name), old.get(name), member);
                if !below.is_empty() {
                    fields.below.insert(Step::Field(name.clone()), below);
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if node.lists() != Lists::Atomic => {
            let lists = node.lists();
            for item in new {
                let Some(key) = key_of(&lists, item) else { continue };
                let there = old.iter().find(|other| key_of(&lists, other).as_ref() == Some(&key));
                let below = if let Some(there) = there {
                    changed(node.item(), Some(there), item)
                } else {
                    let mut below = match lists {
                        Lists::Map(_) => Fields::of(node.item(), item),
                        _ => Fields::default(),
                    };
                    below.own = true;
                    below
                };
                if !below.is_empty() {
                    fields.below.insert(key, below);
                }
            }
        }
        _ => return Fields::of(node, after),
    }
    fields
}
