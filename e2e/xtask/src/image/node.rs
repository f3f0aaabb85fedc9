//! The clients of AWS and Google for Node.js, as they are tested: what of them is run, without what
//! they were built of. Must not install them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{command, contracts};

const AWS: &str = "node_modules/aws-lambda-ric";
const GOOGLE: &str = "node_modules/@google-cloud/functions-framework";
/// What AWS's client was built of.
const BUILT_OF: [&str; 4] = ["build", "deps", "node-addon-api", "src"];

/// Adds them to a tree.
pub fn finish(root: &Path, _: &Path) -> Result<()> {
    let from = contracts::folder("node")?;
    let lock: Value = serde_json::from_slice(&fs::read(from.join("package-lock.json"))?)?;
    let packages = lock.get("packages").context("the lock names no packages")?;
    let mut needed = BTreeSet::from([AWS.to_owned()]);
    reach(packages, GOOGLE, &mut needed);
    for package in needed {
        let to = root.join("var/runtime").join(&package);
        fs::create_dir_all(to.parent().context("a package is in a folder")?)?;
        // A package that lies in another is copied with it.
        if !to.exists() {
            let mut copy = Command::new("cp");
            command::run(copy.arg("-r").arg(from.join(&package)).arg(&to))?;
        }
    }
    let aws = root.join("var/runtime").join(AWS);
    for part in BUILT_OF.map(|part| aws.join(part)) {
        if part.exists() {
            fs::remove_dir_all(part)?;
        }
    }
    Ok(())
}

/// Collects a package of the lock and what it depends on.
fn reach(packages: &Value, package: &str, found: &mut BTreeSet<String>) {
    if !found.insert(package.to_owned()) {
        return;
    }
    let needs = packages.get(package).and_then(|package| package.get("dependencies"));
    for name in needs.and_then(Value::as_object).into_iter().flat_map(|needs| needs.keys()) {
        if let Some(place) = resolve(packages, package, name) {
            reach(packages, &place, found);
        }
    }
}

/// Where `name` is found from `package`: in it, or beside one of those that it lies in.
fn resolve(packages: &Value, package: &str, name: &str) -> Option<String> {
    let mut inside = package;
    loop {
        let place = format!("{inside}/node_modules/{name}");
        let place = place.trim_start_matches('/');
        if packages.get(place).is_some() {
            return Some(place.to_owned());
        }
        if inside.is_empty() {
            return None;
        }
        inside = inside.rfind("/node_modules/").and_then(|at| inside.get(..at)).unwrap_or("");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_reached_is_found_as_node_finds_it() {
        let packages = json!({
            "": {},
            "node_modules/a": {"dependencies": {"b": "1", "@s/c": "1"}},
            "node_modules/a/node_modules/b": {"dependencies": {"d": "1"}},
            "node_modules/b": {"dependencies": {"e": "1"}},
            "node_modules/@s/c": {"dependencies": {"a": "1", "gone": "1"}},
            "node_modules/d": {},
            "node_modules/e": {},
        });
        let mut found = BTreeSet::new();
        reach(&packages, "node_modules/a", &mut found);
        let expected = [
            "node_modules/@s/c",
            "node_modules/a",
            "node_modules/a/node_modules/b",
            "node_modules/d",
        ];
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}
