//! YAML with the line of each part, so that a mistake can be shown where it stands. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A document, and where it stands in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// The line on which it begins.
    pub line: u64,
    /// The line of each part, by its path as the API server writes it: `spec.env[0].name`.
    lines: BTreeMap<String, u64>,
}

/// A text that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoYaml {
    /// The line where that is seen.
    pub line: u64,
    /// Why.
    pub message: String,
}

impl Document {
    /// The documents of a text; empty ones are none.
    pub fn read_all(text: &str) -> Result<Vec<Self>, NoYaml> {
        let parts: Vec<Spanned<Part>> =
            serde_saphyr::from_multiple(text).map_err(|error| NoYaml {
                line: error.location().map_or(1, |location| location.line()),
                message: first_line(&error.to_string()),
            })?;
        let document = |part: Spanned<Part>| {
            let (line, mut lines) = (part.referenced.line(), BTreeMap::new());
            let value = part.value.into_value("", &mut lines);
            Self { value, line, lines }
        };
        let all = parts.into_iter().map(document);
        Ok(all.filter(|document| !document.value.is_null()).collect())
    }

    /// The members of a list of objects, as `kubectl get -o yaml` writes one; of what is none, itself.
    pub fn unfold(self) -> Vec<Self> {
        let kind = self.value.get("kind").and_then(Value::as_str);
        let items = self.value.get("items").and_then(Value::as_array);
        let Some(items) = items.filter(|_| kind.is_some_and(|kind| kind.ends_with("List"))) else {
            return vec![self];
        };
        let member = |(at, item): (usize, &Value)| {
            let place = format!("items[{at}]");
            let below = |(path, line): (&String, &u64)| {
                let path = path.strip_prefix(&place)?.strip_prefix('.')?;
                Some((path.to_owned(), *line))
            };
            let lines = self.lines.iter().filter_map(below).collect();
            Self { value: item.clone(), line: self.line_of(&place), lines }
        };
        items.iter().enumerate().map(member).collect()
    }

    /// The line of a field, or of the nearest part around it that is there.
    pub fn line_of(&self, field: &str) -> u64 {
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            let Some(end) = path.rfind(['.', '[']) else { return self.line };
            path = path.get(..end).unwrap_or_default();
        }
    }
}

/// What is wrong. Snippets come with the file, and where it is, is told beside it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let placed = line.strip_prefix("error: ").unwrap_or(line);
    let rest = placed.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    rest.map_or(placed, |(_, message)| message).to_owned()
}

/// A part of a document.
#[derive(Debug)]
enum Part {
    Leaf(Value),
    List(Vec<Spanned<Part>>),
    Map(Vec<(String, Spanned<Part>)>),
}

impl Part {
    fn into_value(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        let mut below = |path: String, part: Spanned<Self>| {
            lines.insert(path.clone(), part.referenced.line());
            part.value.into_value(&path, lines)
        };
        match self {
            Self::Leaf(value) => value,
            Self::List(parts) => {
                let all = parts.into_iter().enumerate();
                all.map(|(at, part)| below(format!("{path}[{at}]"), part)).collect()
            }
            Self::Map(parts) => {
                let dot = if path.is_empty() { "" } else { "." };
                let member = |(name, part): (String, Spanned<Self>)| {
                    let value = below(format!("{path}{dot}{name}"), part);
                    (name, value)
                };
                Value::Object(parts.into_iter().map(member).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Part, E> {
        Ok(Part::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Part, E> {
        Ok(Part::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Part, E> {
        Ok(Part::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Part, E> {
        Ok(Part::Leaf(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Part, E> {
        Ok(Part::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Part, E> {
        Ok(Part::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part, D::Error> {
        Part::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Part, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element()? {
            parts.push(part);
        }
        Ok(Part::List(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let mut parts = Vec::new();
        while let Some(entry) = map.next_entry()? {
            parts.push(entry);
        }
        Ok(Part::Map(parts))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_part_is_found_by_its_line() {
        let text = "# first\nkind: Function\nspec:\n  env:\n    - name: A\n      value: '1'\n    - {name: B}\n  port: 80\n---\n---\nkind: Trigger\n";
        let all = Document::read_all(text).unwrap();
        assert_eq!(all.len(), 2);
        let expected = json!({"kind": "Function", "spec": {
            "env": [{"name": "A", "value": "1"}, {"name": "B"}], "port": 80}});
        assert_eq!(all[0].value, expected);
        for (field, line) in [
            ("kind", 2),
            ("spec.env[0].value", 6),
            ("spec.env[1].name", 7),
            ("spec.env[1].other", 7),
            ("spec.port", 8),
        ] {
            assert_eq!(all[0].line_of(field), line, "{field}");
        }
        assert_eq!((all[0].line, all[1].line), (2, 11));
        assert_eq!(all[0].line_of("metadata.name"), 2);
    }

    #[test]
    fn a_list_is_what_is_in_it() {
        let text = "kind: List\nitems:\n- kind: A\n  spec:\n    port: 1\n- kind: B\n---\nkind: C\n";
        let all = Document::read_all(text).unwrap();
        let all: Vec<Document> = all.into_iter().flat_map(Document::unfold).collect();
        let kinds: Vec<&Value> = all.iter().map(|one| &one.value["kind"]).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert_eq!((all[0].line, all[0].line_of("spec.port"), all[1].line), (3, 5, 6));
    }

    #[test]
    fn what_is_no_yaml_is_told_by_its_line() {
        let error = Document::read_all("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.line >= 2 && !error.message.is_empty(), "{error:?}");
        assert!(!error.message.contains("line "), "{error:?}");
    }
}
