//! What two states of a Function's spec differ in, field by field, for people.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

/// Longest value that is shown, in characters.
const LONGEST: usize = 40;
/// What a revision is made of; the rest of a spec is the same before and after.
const SHAPING: [&str; 11] = [
    "image",
    "source",
    "port",
    "protocol",
    "env",
    "envFrom",
    "command",
    "args",
    "resources",
    "template",
    "timeouts",
];

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Path of the field below `spec`.
    pub field: String,
    /// What stands there now; none where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// What will stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
}

/// What differs between two whole objects, in the order of the fields.
pub fn changes(now: &Value, then: &Value) -> Vec<Change> {
    let (now, then) = (leaves_of(now), leaves_of(then));
    let fields: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
    let differs = |field: &&&String| now.get(**field) != then.get(**field);
    fields
        .iter()
        .filter(differs)
        .map(|field| {
            let (now, then) = (now.get(*field), then.get(*field));
            Change {
                field: (**field).clone(),
                now: now.map(Leaf::show),
                then: then.map(|then| {
                    then.show() + &now.map_or_else(String::new, |now| then.beside(now))
                }),
            }
        })
        .collect()
}

#[derive(Debug, PartialEq)]
enum Leaf {
    Value(Value),
    /// A text of the code.
    File(String),
}

impl Leaf {
    /// How much of a text is new beside another.
    fn beside(&self, other: &Self) -> String {
        let (Self::File(text), Self::File(other)) = (self, other) else { return String::new() };
        let known: BTreeSet<&str> = other.lines().collect();
        match text.lines().filter(|line| !known.contains(line)).count() {
            0 => String::new(),
            new => format!(", {new} of them new"),
        }
    }

    fn show(&self) -> String {
        let text = match self {
            Self::Value(Value::String(text)) => text.clone(),
            Self::Value(value) => value.to_string(),
            Self::File(text) => {
                return match text.lines().count() {
                    1 => "1 line".to_owned(),
                    many => format!("{many} lines"),
                };
            }
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
            None => text,
        }
    }
}

fn leaves_of(function: &Value) -> BTreeMap<String, Leaf> {
    let mut leaves = BTreeMap::new();
    for name in SHAPING {
        if let Some(value) = function.get("spec").and_then(|spec| spec.get(name)) {
            gather(name.to_owned(), value, &mut leaves);
        }
    }
    leaves
}

fn gather(path: String, value: &Value, leaves: &mut BTreeMap<String, Leaf>) {
    match value {
        Value::Object(members) if path == "source.files" => {
            for (name, text) in members {
                let text = text.as_str().unwrap_or_default().to_owned();
                leaves.insert(format!("{path}[{name}]"), Leaf::File(text));
            }
        }
        Value::Object(members) => {
            // An archive is known by its digest.
            let is_named = path == "source.archive" && members.contains_key("sha256");
            for (name, member) in members.iter().filter(|(name, _)| !is_named || *name != "inline")
            {
                gather(format!("{path}.{name}"), member, leaves);
            }
        }
        Value::Array(items) if items.iter().all(|item| item.get("name").is_some()) => {
            for item in items {
                let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
                let value = item.get("value").unwrap_or(item);
                leaves.insert(format!("{path}[{name}]"), Leaf::Value(value.clone()));
            }
        }
        leaf => {
            leaves.insert(path, Leaf::Value(leaf.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_differ_are_named_with_both_values() {
        let now = json!({"spec": {
            "source": {"runtime": "r", "files": {"a.py": "1\n2\n", "b.py": "x"}},
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "scaling": {"max": 3}, "command": [],
        }});
        let then = json!({"spec": {
            "source": {"runtime": "r", "files": {"a.py": "1\n3\n4\n", "c.py": "x"}},
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}],
            "scaling": {"max": 9}, "command": [], "port": 9000,
        }});
        let all = changes(&now, &then);
        let told: Vec<_> = all
            .iter()
            .map(|it| {
                (&*it.field, it.now.as_deref().unwrap_or("-"), it.then.as_deref().unwrap_or("-"))
            })
            .collect();
        let expected = [
            ("env[B]", "2", "3"),
            ("port", "-", "9000"),
            ("source.files[a.py]", "2 lines", "3 lines, 2 of them new"),
            ("source.files[b.py]", "1 line", "-"),
            ("source.files[c.py]", "-", "1 line"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_archive_is_shown_by_its_digest() {
        let spec = |inline: &str, digest: &str| json!({"spec": {"source": {"archive": {"inline": inline, "sha256": digest}}}});
        let all = changes(&spec("AAAA", "1"), &spec("BBBB", "2"));
        assert_eq!((all.len(), all[0].field.as_str()), (1, "source.archive.sha256"));
    }

    #[test]
    fn long_values_are_cut() {
        let spec = |text: &str| json!({"spec": {"image": text}});
        let all = changes(&spec(&"\u{e9}".repeat(50)), &spec("x"));
        assert_eq!(all[0].now.as_deref(), Some(&*format!("{}...", "\u{e9}".repeat(40))));
    }
}
