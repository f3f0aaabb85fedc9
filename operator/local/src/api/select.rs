//! Which objects a request is about: by labels and by fields. Pure.

use serde_json::Value;

use super::answer::Refusal;
use super::meta::text;

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Is(String),
    IsNot(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    There,
    Missing,
}

/// A condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    /// As a JSON pointer.
    path: String,
    value: String,
    is: bool,
}

/// What an object must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    namespace: Option<String>,
    labels: Vec<(String, Term)>,
    fields: Vec<FieldTerm>,
}

impl Selector {
    /// What the parts of a request say.
    pub(super) fn parse(
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Refusal> {
        let labels = split(labels).into_iter().map(label_term).collect::<Result<_, _>>()?;
        let fields = split(fields).into_iter().map(field_term).collect::<Result<_, _>>()?;
        Ok(Self { namespace: namespace.map(str::to_owned), labels, fields })
    }

    /// Whether it selects `object`.
    pub(super) fn selects(&self, object: &Value) -> bool {
        let of_namespace =
            self.namespace.as_deref().is_none_or(|it| text(object, "/metadata/namespace") == it);
        of_namespace && self.selects_labels(object) && self.selects_fields(object)
    }

    fn selects_labels(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.labels.iter().all(|(name, term)| {
            let value = labels.and_then(|labels| labels.get(name)).and_then(Value::as_str);
            let among =
                |all: &[String]| value.is_some_and(|value| all.iter().any(|it| it == value));
            match term {
                Term::Is(wanted) => value == Some(wanted.as_str()),
                Term::IsNot(refused) => value != Some(refused.as_str()),
                Term::In(wanted) => among(wanted),
                Term::NotIn(refused) => !among(refused),
                Term::There => value.is_some(),
                Term::Missing => value.is_none(),
            }
        })
    }

    fn selects_fields(&self, object: &Value) -> bool {
        self.fields.iter().all(|term| {
            let found = match object.pointer(&term.path) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            (found == term.value) == term.is
        })
    }
}

/// Parts between commas that are not in brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let parts = text.split(|letter: char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn label_term(term: &str) -> Result<(String, Term), Refusal> {
    let unreadable = || Refusal::bad(format!("unable to parse requirement: {term:?}"));
    let own = |text: &str| text.trim().to_owned();
    if let Some((name, value)) = term.split_once("!=") {
        return Ok((own(name), Term::IsNot(own(value))));
    }
    if let Some((name, value)) = term.split_once('=') {
        return Ok((own(name), Term::Is(own(value.trim_start_matches('=')))));
    }
    if let Some(name) = term.strip_prefix('!') {
        return Ok((own(name), Term::Missing));
    }
    if let Some((head, values)) = term.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(unreadable)?;
        let values = values.split(',').map(own).collect();
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [name, "in"] => Ok((own(name), Term::In(values))),
            [name, "notin"] => Ok((own(name), Term::NotIn(values))),
            _ => Err(unreadable()),
        };
    }
    if term.contains(char::is_whitespace) {
        return Err(unreadable());
    }
    Ok((own(term), Term::There))
}

fn field_term(term: &str) -> Result<FieldTerm, Refusal> {
    let (path, value, is) = match (term.split_once("!="), term.split_once('=')) {
        (Some((path, value)), _) => (path, value, false),
        (None, Some((path, value))) => (path, value.trim_start_matches('='), true),
        (None, None) => {
            return Err(Refusal::bad(format!("invalid field selector: can't parse {term:?}")));
        }
    };
    let path = format!("/{}", path.trim().replace('.', "/"));
    Ok(FieldTerm { path, value: value.trim().to_owned(), is })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_selected_by_labels_and_fields() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": "x", "tier": "web"}},
            "spec": {"nodeName": "one"},
        });
        for (labels, fields, selected) in [
            ("", "", true),
            ("app=x", "", true),
            ("app==x,tier", "", true),
            ("app!=x", "", false),
            ("missing!=x", "", true),
            ("!app", "", false),
            ("!missing", "", true),
            ("tier in (web, db),app=x", "", true),
            ("tier notin (web,db)", "", false),
            ("missing notin (web)", "", true),
            ("", "metadata.name=a", true),
            ("", "metadata.name!=a", false),
            ("", "spec.nodeName=one,metadata.namespace=n", true),
            ("", "status.phase=", true),
        ] {
            let selector = Selector::parse(None, labels, fields).unwrap();
            assert_eq!(selector.selects(&pod), selected, "{labels} {fields}");
        }
        assert!(!Selector::parse(Some("other"), "", "").unwrap().selects(&pod));
        for bad in ["a b", "a in x", "a in (x", "a of (x)"] {
            assert!(Selector::parse(None, bad, "").is_err(), "{bad}");
        }
        assert!(Selector::parse(None, "", "metadata.name").is_err());
    }
}
