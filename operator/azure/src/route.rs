//! Routes of requests: parts of a path, of which some are parameters. Pure.

use std::cmp::Reverse;

use serde_json::{Map, Value};

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Word(String),
    One { name: String, kind: Type, optional: bool },
    Rest(String),
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Any,
    Int,
    Letters,
    Bool,
    Guid,
}

impl Type {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" => Self::Any,
            "int" | "long" => Self::Int,
            "alpha" => Self::Letters,
            "bool" => Self::Bool,
            "guid" => Self::Guid,
            _ => return None,
        })
    }

    fn takes(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Int => text.parse::<i64>().is_ok(),
            Self::Letters => text.chars().all(|c| c.is_ascii_alphabetic()),
            Self::Bool => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
            Self::Guid => {
                text.len() == 36 && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
            }
        }
    }
}

impl Route {
    /// Reads `api/items/{id:int}/{*rest}`; none if there is something else in it.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = text.split('/').filter(|part| !part.is_empty());
        let parts: Option<Vec<Part>> = parts
            .map(|part| {
                let Some(inner) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'))
                else {
                    let plain = !part.contains(['{', '}']);
                    return plain.then(|| Part::Word(part.to_owned()));
                };
                if let Some(name) = inner.strip_prefix('*') {
                    return Some(Part::Rest(name.trim_start_matches('*').to_owned()));
                }
                let (inner, optional) =
                    inner.strip_suffix('?').map_or((inner, false), |inner| (inner, true));
                let (name, kind) = inner.split_once(':').unwrap_or((inner, ""));
                Some(Part::One { name: name.to_owned(), kind: Type::parse(kind)?, optional })
            })
            .collect();
        parts.map(Self)
    }

    /// The parameters of a path that is of this route.
    pub fn parameters(&self, path: &str) -> Option<Map<String, Value>> {
        let mut given = path.split('/').filter(|part| !part.is_empty());
        let mut parameters = Map::new();
        for part in &self.0 {
            match part {
                Part::Word(word) => {
                    given.next().filter(|given| given.eq_ignore_ascii_case(word))?;
                }
                Part::One { name, kind, optional } => match given.next() {
                    Some(value) if kind.takes(value) => {
                        parameters.insert(name.clone(), value.into());
                    }
                    None if *optional => {}
                    _ => return None,
                },
                Part::Rest(name) => {
                    let rest: Vec<&str> = given.by_ref().collect();
                    parameters.insert(name.clone(), rest.join("/").into());
                }
            }
        }
        given.next().is_none().then_some(parameters)
    }

    /// How particular it is: a word is more than a parameter, and that more than the rest.
    pub fn rank(&self) -> Vec<Reverse<u8>> {
        let rank = |part: &Part| match part {
            Part::Word(_) => 3,
            Part::One { kind: Type::Any, .. } => 1,
            Part::One { .. } => 2,
            Part::Rest(_) => 0,
        };
        self.0.iter().map(|part| Reverse(rank(part))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_words_parameters_and_a_rest() {
        let of = |route: &str, path: &str| {
            let parameters = Route::parse(route).unwrap().parameters(path);
            parameters.map(|parameters| Value::Object(parameters).to_string())
        };
        assert_eq!(of("api/hello", "/api/HELLO/").as_deref(), Some("{}"));
        assert_eq!(of("api/hello", "/api/hello/x"), None);
        assert_eq!(of("i/{id:int}", "/i/7").as_deref(), Some(r#"{"id":"7"}"#));
        assert_eq!(of("i/{id:int}", "/i/x"), None);
        assert_eq!(of("i/{id?}", "/i").as_deref(), Some("{}"));
        assert_eq!(of("i/{*all}", "/i/a/b").as_deref(), Some(r#"{"all":"a/b"}"#));
        assert_eq!(Route::parse("i/{id:date}"), None);
        assert_eq!(Route::parse("i/x{id}"), None);
    }

    #[test]
    fn the_most_particular_route_comes_first() {
        let mut routes: Vec<_> = ["a/{*x}", "a/{x}", "a/b", "a/{x:int}"].map(Route::parse).to_vec();
        routes.sort_by_key(|route| route.as_ref().unwrap().rank());
        let expected = ["a/b", "a/{x:int}", "a/{x}", "a/{*x}"].map(Route::parse);
        assert_eq!(routes, expected);
    }
}
