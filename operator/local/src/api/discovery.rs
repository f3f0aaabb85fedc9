//! Says what is served, so that `kubectl` finds its way. Pure.

use std::collections::BTreeMap;

use rouse_crds::v1alpha1::crds;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::kinds::{Kind, Kinds};

/// What can be done with every kind.
const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/api`.
pub(super) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// The groups with their versions, in a stable order.
fn groups(kinds: &Kinds) -> BTreeMap<&str, &str> {
    let named = kinds.iter().filter(|kind| !kind.group.is_empty());
    let mut groups: BTreeMap<&str, &str> =
        named.map(|kind| (kind.group.as_str(), kind.version.as_str())).collect();
    groups.insert("authentication.k8s.io", "v1");
    groups.insert("authorization.k8s.io", "v1");
    groups
}

/// `/apis`.
pub(super) fn all_groups(kinds: &Kinds) -> Value {
    let groups: Vec<Value> =
        groups(kinds).into_iter().map(|(name, version)| group(name, version)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(super) fn one_group(kinds: &Kinds, name: &str) -> Result<Value, Refusal> {
    let groups = groups(kinds);
    let version = groups.get(name).ok_or_else(Refusal::no_such_path)?;
    let mut group = group(name, version);
    super::meta::set(&mut group, &["kind"], "APIGroup");
    super::meta::set(&mut group, &["apiVersion"], "v1");
    Ok(group)
}

fn group(name: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(super) fn resources(kinds: &Kinds, group: &str, version: &str) -> Result<Value, Refusal> {
    let mut resources: Vec<Value> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.name, "verbs": VERBS, "shortNames": kind.short_names,
            "categories": kind.categories,
        }));
        resources.extend(subresources(kind));
    }
    let review = |name: &str, kind: &str| {
        json!({
            "name": name, "singularName": "", "namespaced": false, "kind": kind,
            "verbs": ["create"],
        })
    };
    match group {
        "authentication.k8s.io" => resources.push(review("tokenreviews", "TokenReview")),
        "authorization.k8s.io" => {
            resources.push(review("selfsubjectaccessreviews", "SelfSubjectAccessReview"));
        }
        _ => {}
    }
    if resources.is_empty() {
        return Err(Refusal::no_such_path());
    }
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
        "resources": resources,
    }))
}

fn subresources(kind: &Kind) -> Vec<Value> {
    let entry = |name: &str, of: &str, verbs: &[&str]| {
        json!({
            "name": format!("{}/{name}", kind.plural), "singularName": "",
            "namespaced": kind.namespaced, "kind": of, "verbs": verbs,
        })
    };
    let mut all = Vec::new();
    let write = ["get", "patch", "update"];
    if kind.has_status {
        all.push(entry("status", &kind.name, &write));
    }
    if kind.has_scale {
        // `kubectl scale` looks for its kind by the group that is told here.
        let mut scale = entry("scale", "Scale", &write);
        super::meta::set(&mut scale, &["group"], "autoscaling");
        super::meta::set(&mut scale, &["version"], "v1");
        all.push(scale);
    }
    if kind.is("", "Pod") {
        all.push(entry("binding", "Binding", &["create"]));
        all.push(entry("log", "Pod", &["get"]));
    }
    if kind.is("", "ServiceAccount") {
        all.push(entry("token", "TokenRequest", &["create"]));
    }
    all
}

/// `/version`: the oldest Kubernetes that Rouse runs on.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": concat!("v1.33.0-rouse-dev.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "",
    })
}

/// `/openapi/v3`.
pub(super) fn descriptions(kinds: &Kinds) -> Value {
    let mut paths = serde_json::Map::new();
    paths.insert("api/v1".into(), json!({"serverRelativeURL": "/openapi/v3/api/v1"}));
    for (group, version) in groups(kinds) {
        let path = format!("apis/{group}/{version}");
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// What can be done with the kinds of a group: as much as `kubectl apply` needs to know that fields
/// are checked here; and what the fields of Rouse's own kinds are, for `kubectl explain`.
pub(super) fn description(kinds: &Kinds, group: &str, version: &str) -> Value {
    let mut paths = serde_json::Map::new();
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        let root = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let path = if kind.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}/{{name}}", kind.plural)
        } else {
            format!("{root}/{}/{{name}}", kind.plural)
        };
        let parameter = |name: &str| {
            json!({
                "name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true},
            })
        };
        let action = json!({
            "parameters": [parameter("fieldValidation"), parameter("dryRun")],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind":
                {"group": group, "version": version, "kind": kind.name},
        });
        paths.insert(path, json!({"patch": action}));
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "rouse dev", "version": version},
        "paths": paths, "components": {"schemas": schemas(group, version)},
    })
}

/// The schemas of Rouse's own kinds, with the words for people that are kept nowhere else: who asks
/// for them waits a little longer.
fn schemas(group: &str, version: &str) -> serde_json::Map<String, Value> {
    let mut schemas = serde_json::Map::new();
    for definition in crds().into_iter().filter(|definition| definition.spec.group == group) {
        let kind = &definition.spec.names.kind;
        let versions = definition.spec.versions.iter().filter(|it| it.name == version);
        for schema in versions.filter_map(|it| it.schema.as_ref()?.open_api_v3_schema.as_ref()) {
            let Ok(mut schema) = serde_json::to_value(schema) else { continue };
            let named = json!([{"group": group, "version": version, "kind": kind}]);
            super::meta::set(&mut schema, &["x-kubernetes-group-version-kind"], named);
            schemas.insert(format!("dev.rouse.{version}.{kind}"), schema);
        }
    }
    schemas
}
