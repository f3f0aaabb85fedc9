//! What of a folder looks like secrets, and who could read them once they are deployed.

use std::path::Path;

use anyhow::bail;

use super::folder::Tree;
use crate::progress::say;

/// Endings of files that only show how such a file looks.
const SHOWN: [&str; 4] = ["dist", "example", "sample", "template"];

/// What looks like a secret in `code`, as it is before its dependencies are got.
pub fn of(code: &Tree) -> Vec<String> {
    let all = code.0.keys().filter(|place| !place.starts_with("node_modules/"));
    all.filter(|place| is_secret(code, place)).cloned().collect()
}

fn is_secret(code: &Tree, place: &str) -> bool {
    let name = place.rsplit('/').next().unwrap_or_default();
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    let is_of_environment = name == ".env" || name.starts_with(".env.");
    match ending {
        Some(ending) if is_of_environment && SHOWN.contains(&ending) => false,
        Some("key") => true,
        // A certificate is for all to see.
        Some("pem") => code.text(place).is_some_and(|text| text.contains("PRIVATE KEY")),
        _ => is_of_environment,
    }
}

/// Says that secrets go along, and who may read them.
pub fn tell(secrets: &[String]) {
    if !secrets.is_empty() {
        say(&format!(
            "{} goes along with the code, and whoever may read the Function may read it: a file \
             .rouseignore leaves it out, and spec.envFrom of function.yaml takes what a Secret has",
            secrets.join(", ")
        ));
    }
}

/// Refuses to put secrets where pods fetch them without a signature, unless the user insists.
pub fn check(secrets: &[String], force: bool) -> anyhow::Result<()> {
    if secrets.is_empty() || force {
        return Ok(());
    }
    bail!(
        "{} would go into the bucket with the code, and whoever learns its URL may read it: leave it \
         out by a file .rouseignore and take it from a Secret (spec.envFrom of function.yaml), or say \
         --force",
        secrets.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_named_and_kept_out_of_buckets() {
        let folder = tempfile::tempdir().unwrap();
        for (place, text) in [
            (".env", ""),
            (".env.example", ""),
            ("app/.env.production", ""),
            ("app/environment.py", ""),
            ("tls/ca.pem", "-----BEGIN CERTIFICATE-----"),
            ("tls/own.pem", "-----BEGIN PRIVATE KEY-----"),
            ("tls/server.key", ""),
            ("node_modules/x/test.key", ""),
        ] {
            let path = folder.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let secrets = of(&Tree::of(folder.path(), &[]).unwrap());
        assert_eq!(secrets, [".env", "app/.env.production", "tls/own.pem", "tls/server.key"]);
        let error = check(&secrets, false).unwrap_err().to_string();
        assert!(error.contains("tls/own.pem") && error.contains(".rouseignore"), "{error}");
        check(&secrets, true).unwrap();
        check(&[], false).unwrap();
    }
}
