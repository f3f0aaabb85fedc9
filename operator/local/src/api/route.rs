//! What a request asks for, by its path and query. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Uri;
use percent_encoding::percent_decode_str;

use super::answer::Refusal;
use super::kinds::{Kind, Kinds};

/// What a path names.
#[derive(Clone)]
pub(super) enum Route {
    /// Which versions there are of the kinds without a group.
    CoreVersions,
    /// Which groups there are.
    Groups,
    /// One of them.
    Group(String),
    /// The kinds of a group and version.
    Kinds(String, String),
    /// What the server is.
    Version,
    /// Whether it serves.
    Health,
    /// Which descriptions there are.
    Descriptions,
    /// What can be done with the kinds of a group and version.
    Description(String, String),
    /// Whose token it is.
    TokenReview,
    /// Whether something may be done.
    AccessReview,
    /// Objects.
    Objects(Target),
}

/// The objects of a kind, or one of them.
#[derive(Clone)]
pub(super) struct Target {
    pub kind: Arc<Kind>,
    pub namespace: Option<String>,
    /// Empty for all of them.
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
}

/// The query of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// A parameter; empty where it is missing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }
}

/// What `path` names.
pub(super) fn parse(kinds: &Kinds, path: &str) -> Result<Route, Refusal> {
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(match parts.as_slice() {
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["version"] => Route::Version,
        ["healthz" | "livez" | "readyz", ..] => Route::Health,
        ["openapi", "v3"] => Route::Descriptions,
        ["openapi", "v3", "api", version] => Route::Description(String::new(), (*version).into()),
        ["openapi", "v3", "apis", group, version] => {
            Route::Description((*group).into(), (*version).into())
        }
        ["api", version, rest @ ..] => objects(kinds, "", version, rest)?,
        ["apis", group, version, rest @ ..] => objects(kinds, group, version, rest)?,
        _ => return Err(Refusal::no_such_path()),
    })
}

fn objects(kinds: &Kinds, group: &str, version: &str, rest: &[&str]) -> Result<Route, Refusal> {
    if rest.is_empty() {
        return Ok(Route::Kinds(group.to_owned(), version.to_owned()));
    }
    match (group, rest) {
        ("authentication.k8s.io", ["tokenreviews"]) => return Ok(Route::TokenReview),
        (
            "authorization.k8s.io",
            ["selfsubjectaccessreviews"] | ["namespaces", _, "localsubjectaccessreviews"],
        ) => return Ok(Route::AccessReview),
        _ => {}
    }
    let find = |plural: &str| kinds.find(group, version, plural).ok_or_else(Refusal::no_such_path);
    let (namespace, kind, rest) = match rest {
        // A namespace itself, and what is below its name but no kind.
        ["namespaces", _, "status" | "finalize"] | ["namespaces"] | ["namespaces", _] => {
            (None, find("namespaces")?, rest.get(1..))
        }
        ["namespaces", namespace, plural, ..] => {
            (Some((*namespace).to_owned()), find(plural)?, rest.get(3..))
        }
        [plural, ..] => (None, find(plural)?, rest.get(1..)),
        [] => return Err(Refusal::no_such_path()),
    };
    let (name, subresource) = match rest.unwrap_or_default() {
        [] => ("", ""),
        [name] => (*name, ""),
        [name, subresource] => (*name, *subresource),
        _ => return Err(Refusal::no_such_path()),
    };
    if namespace.is_some() != kind.namespaced && !(name.is_empty() && namespace.is_none()) {
        return Err(Refusal::no_such_path());
    }
    Ok(Route::Objects(Target {
        kind: Arc::clone(kind),
        namespace,
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    }))
}
