//! The files of the folder: which are manifests, which folders are code, and what tells that
//! something changed. Reads names and dates, and no file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use ignore::WalkBuilder;

use crate::role::deploy::MANIFEST;

/// What nobody means by a manifest or by code.
const NEVER: [&str; 5] = ["node_modules", "target", "venv", "__pycache__", "vendor"];
/// Names files that are left out, as `.gitignore` does.
const IGNORED: &str = ".rouseignore";
/// Files that are looked at over and over.
const MOST: usize = 20_000;

/// What is in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files that may hold manifests, in order.
    pub manifests: Vec<PathBuf>,
    /// Folders that are code.
    pub codes: Vec<PathBuf>,
    /// What each file looks like: two that are alike say that nothing changed.
    stamps: Vec<(PathBuf, u64, Option<SystemTime>)>,
}

impl Found {
    /// Looks through `folder`; names that begin with a dot are left out.
    pub fn look(folder: &Path) -> anyhow::Result<Self> {
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        let mut walk = WalkBuilder::new(folder);
        walk.standard_filters(false).hidden(true).follow_links(false);
        walk.add_custom_ignore_filename(IGNORED);
        walk.sort_by_file_path(Path::cmp);
        walk.filter_entry(|entry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0 || !NEVER.contains(&&*name)
        });
        let mut found = Self::default();
        let mut yaml = Vec::new();
        for entry in walk.build() {
            let entry = entry.with_context(|| format!("looking through {}", folder.display()))?;
            if entry.file_type().is_none_or(|kind| !kind.is_file()) {
                continue;
            }
            // It may be gone since.
            let Ok(about) = entry.metadata() else { continue };
            let path = entry.into_path();
            found.stamps.push((path.clone(), about.len(), about.modified().ok()));
            let most = || {
                format!(
                    "{} has more than {MOST} files: choose a smaller folder, or leave some out by \
                     a file {IGNORED}",
                    folder.display()
                )
            };
            ensure!(found.stamps.len() <= MOST, most());
            if path.file_name().is_some_and(|name| name == MANIFEST) {
                found.codes.extend(path.parent().map(Path::to_path_buf));
            } else if path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml") {
                yaml.push(path);
            }
        }
        let is_code = |path: &PathBuf| found.codes.iter().any(|folder| path.starts_with(folder));
        found.manifests = yaml.into_iter().filter(|path| !is_code(path)).collect();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_and_code_are_told_apart_and_changes_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |place: &str, text: &str| {
            let path = root.join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for place in [
            "a.yaml",
            "sub/b.yml",
            "sub/code/function.yaml",
            "sub/code/app.py",
            "sub/code/data.yaml",
            ".rouse/x.yaml",
            "node_modules/y.yaml",
            "README.md",
        ] {
            write(place, "");
        }
        let found = Found::look(root).unwrap();
        assert_eq!(found.manifests, [root.join("a.yaml"), root.join("sub/b.yml")]);
        assert_eq!(found.codes, [root.join("sub/code")]);
        assert_eq!(Found::look(root).unwrap(), found);
        write("sub/code/app.py", "print()");
        assert_ne!(Found::look(root).unwrap(), found);
        assert!(Found::look(&root.join("gone")).is_err());
    }
}
