//! The files of the folder: which are manifests, which folders are code, and what tells that
//! something changed. Reads names and dates, and no file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use ignore::WalkBuilder;

use crate::role::deploy::{IGNORED, MANIFEST, PACKAGES, walk_code};

/// What nobody means by a manifest.
const NEVER: [&str; 5] = [PACKAGES, "target", "venv", "__pycache__", "vendor"];
/// Files that are looked at over and over.
const MOST: usize = 20_000;

/// What is in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files that may hold manifests, in order.
    pub manifests: Vec<PathBuf>,
    /// Folders that are code.
    pub codes: Vec<PathBuf>,
    /// What each file that is read looks like, in order: two that are alike say that nothing changed.
    /// Others may be written all the time.
    stamps: Vec<Stamp>,
}

/// What a file looks like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    path: PathBuf,
    bytes: u64,
    changed: Option<SystemTime>,
    mode: u32,
}

impl Found {
    /// Looks through `folder`. Of manifests, names that begin with a dot are left out; of code, what
    /// is packed counts.
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
        let (mut found, mut yaml, mut count) = (Self::default(), Vec::new(), 0);
        for path in files(walk.build(), false) {
            let path = path.with_context(|| format!("looking through {}", folder.display()))?;
            count += 1;
            check(folder, count)?;
            if path.file_name().is_some_and(|name| name == MANIFEST) {
                found.codes.extend(path.parent().map(Path::to_path_buf));
            } else if path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml") {
                yaml.push(path);
            }
        }
        let is_code = |path: &PathBuf| found.codes.iter().any(|folder| path.starts_with(folder));
        found.manifests = yaml.into_iter().filter(|path| !is_code(path)).collect();
        found.stamp(folder)?;
        Ok(found)
    }

    /// Notes what the files look like that are read.
    fn stamp(&mut self, folder: &Path) -> anyhow::Result<()> {
        let mut stamps: Vec<Stamp> =
            self.manifests.iter().filter_map(|path| Stamp::of(path)).collect();
        for code in &self.codes {
            // That there are packages is told, and not which: they are found where they are.
            stamps.extend(Stamp::of(&code.join(MANIFEST)));
            let packages = code.join(PACKAGES);
            if packages.is_dir() {
                stamps.push(Stamp { path: packages, bytes: 0, changed: None, mode: 0 });
            }
            let is_below = |other: &PathBuf| other != code && code.starts_with(other);
            if self.codes.iter().any(is_below) {
                // It is code of that one too.
                continue;
            }
            for path in files(walk_code(code), true) {
                let path = path.with_context(|| format!("looking through {}", code.display()))?;
                stamps.extend(Stamp::of(&path));
                check(folder, stamps.len())?;
            }
        }
        stamps.sort_unstable();
        self.stamps = stamps;
        Ok(())
    }
}

impl Stamp {
    /// That of a file, or of a link itself; it may be gone since it was seen.
    fn of(path: &Path) -> Option<Self> {
        let about = path.symlink_metadata().ok()?;
        let (bytes, changed) = (about.len(), about.modified().ok());
        Some(Self { path: path.to_owned(), bytes, changed, mode: about.permissions().mode() })
    }
}

/// The files of a walk, and its links if they count. What can't be read is nobody's, unless it is all.
fn files(walk: ignore::Walk, links: bool) -> impl Iterator<Item = Result<PathBuf, ignore::Error>> {
    walk.filter_map(move |entry| match entry {
        Ok(entry) => {
            let counts =
                entry.file_type().is_some_and(|it| it.is_file() || (links && it.is_symlink()));
            counts.then(|| Ok(entry.into_path()))
        }
        Err(error) => (error.depth() == Some(0)).then_some(Err(error)),
    })
}

fn check(folder: &Path, count: usize) -> anyhow::Result<()> {
    ensure!(
        count <= MOST,
        "{} has more than {MOST} files: choose a smaller folder, or leave some out by a file {IGNORED}",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, place: &str, text: &str) {
        let path = root.join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn manifests_and_code_are_told_apart_and_changes_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |place: &str, text: &str| write(root, place, text);
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

    #[test]
    fn what_is_packed_is_looked_at_and_nothing_that_is_only_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |place: &str, text: &str| write(root, place, text);
        write("a.yaml", "");
        write("code/function.yaml", "");
        write("code/bootstrap", "");
        let look = || Found::look(root).unwrap();
        for (place, counts) in [
            ("access.log", false),
            ("state/kubeconfig", false),
            ("code/node_modules/a/index.js", true),
            ("code/node_modules/b/index.js", false),
            ("code/.env", true),
            ("code/vendor/words.go", true),
        ] {
            let before = look();
            write(place, "1");
            assert_eq!(look() != before, counts, "{place}");
        }
        let before = look();
        let runs = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.join("code/bootstrap"), runs).unwrap();
        assert_ne!(look(), before, "that it may be run is something new");
    }

    #[test]
    fn what_can_not_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (root, shut) = (folder.path(), folder.path().join("shut"));
        std::fs::write(root.join("a.yaml"), "").unwrap();
        std::fs::create_dir(&shut).unwrap();
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o000)).unwrap();
        let found = Found::look(root);
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(found.unwrap().manifests, [root.join("a.yaml")]);
    }
}
