//! The files of a folder that are code, and those that are none. Must not know what they mean.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ignore::{Walk, WalkBuilder};

/// The Function that belongs to the code, and what names files that don't.
pub const MANIFEST: &str = "function.yaml";
/// What npm installs.
#[cfg(feature = "dev")]
pub const PACKAGES: &str = "node_modules";
/// Names files that are left out, as `.gitignore` does.
pub const IGNORED: &str = ".rouseignore";
/// What nobody means by code, in any folder.
const NEVER: [&str; 14] = [
    // What `rouse dev` keeps, with what lets one in.
    ".rouse",
    // What lets one in elsewhere.
    ".aws",
    ".npmrc",
    ".ssh",
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".DS_Store",
    IGNORED,
];

/// What shims take.
const MOST_FILES: usize = 50_000;
const MOST_BYTES: u64 = 256 << 20;

/// A file or a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file: where it is on this machine, its bytes, and whether it is run.
    File {
        /// Where it is.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
        /// Whether it is run.
        runs: bool,
    },
    /// A symbolic link, and where it leads.
    Link(String),
}

/// Goes through what is code in `folder`, and the folders of it; `without` is left out.
pub fn walk(folder: &Path, without: &[&str]) -> Walk {
    let left_out: Vec<PathBuf> = without.iter().map(|name| folder.join(name)).collect();
    let mut walk = WalkBuilder::new(folder);
    walk.standard_filters(false).follow_links(false).add_custom_ignore_filename(IGNORED);
    walk.filter_entry(move |entry| {
        let name = entry.file_name().to_string_lossy();
        let is_none = NEVER.contains(&&*name) || name.ends_with(".pyc");
        !is_none && !left_out.iter().any(|path| path == entry.path())
    });
    walk.build()
}

/// Files and links by their places below the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Entry>);

impl Tree {
    /// What is code in `folder`; `without` is left out of it.
    pub fn of(folder: &Path, without: &[&str]) -> anyhow::Result<Self> {
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        let mut tree = Self::default();
        for entry in walk(folder, without) {
            let entry = entry.context("looking for the code")?;
            if entry.file_type().is_some_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            let place = path.strip_prefix(folder).unwrap_or(path);
            let place = place.to_str().with_context(|| {
                format!("the name of {} is no UTF-8: give it another", path.display())
            })?;
            tree.0.insert(place.to_owned(), read(path)?);
        }
        Ok(tree)
    }

    /// Adds what another has; what both have stays as it is here.
    pub fn add(&mut self, other: Self) {
        for (place, entry) in other.0 {
            self.0.entry(place).or_insert(entry);
        }
    }

    /// Whether a file is there.
    pub fn has(&self, place: &str) -> bool {
        self.0.contains_key(place)
    }

    /// The text of a file, if there is one.
    pub fn text(&self, place: &str) -> Option<String> {
        match self.0.get(place)? {
            Entry::File { path, .. } => std::fs::read_to_string(path).ok(),
            Entry::Link(_) => None,
        }
    }

    /// The files that lie in no folder.
    pub fn top(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|place| !place.contains('/'))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let bytes = |entry: &Entry| if let Entry::File { bytes, .. } = entry { *bytes } else { 0 };
        self.0.values().map(bytes).sum()
    }

    /// Whether a pod would take it.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.0.is_empty(), "there is no file to deploy in the folder");
        let (files, bytes) = (self.0.len(), self.bytes());
        ensure!(
            files <= MOST_FILES && bytes <= MOST_BYTES,
            "the code has {files} files and {bytes} bytes, and a pod takes {MOST_FILES} and \
             {MOST_BYTES}: leave out by a file {IGNORED} what is not needed. {}",
            self.largest()
        );
        Ok(())
    }

    /// Says which parts of it have most bytes.
    pub fn largest(&self) -> String {
        let mut parts: BTreeMap<String, u64> = BTreeMap::new();
        for (place, entry) in &self.0 {
            let Entry::File { bytes, .. } = entry else { continue };
            let depth = if place.starts_with("node_modules/") { 2 } else { 1 };
            let part: Vec<&str> = place.split('/').take(depth).collect();
            *parts.entry(part.join("/")).or_default() += bytes;
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let part =
            |(place, bytes): &(String, u64)| format!("{place} ({} KiB)", bytes.div_ceil(1024));
        let first: Vec<String> = parts.iter().take(3).map(part).collect();
        format!("The largest parts are {}", first.join(", "))
    }
}

fn read(path: &Path) -> anyhow::Result<Entry> {
    let reading = || format!("reading {}", path.display());
    let about = path.symlink_metadata().with_context(reading)?;
    if about.is_symlink() {
        let target = std::fs::read_link(path).with_context(reading)?;
        return Ok(Entry::Link(target.to_string_lossy().into_owned()));
    }
    ensure!(about.is_file(), "{} is neither a file nor a link", path.display());
    let runs = about.permissions().mode() & 0o111 != 0;
    Ok(Entry::File { path: path.to_owned(), bytes: about.len(), runs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (place, text) in files {
            let path = folder.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_no_code_is_left_out() {
        let folder = folder(&[
            ("app.py", ""),
            (".env", ""),
            ("lib/words.py", ""),
            ("lib/__pycache__/words.pyc", ""),
            (".git/config", ""),
            (".rouse/kubeconfig", ""),
            (".npmrc", "token"),
            (".aws/credentials", "key"),
            ("function.yaml", ""),
            ("lib/function.yaml", ""),
            (".rouseignore", "*.md\n/tests/\n"),
            ("README.md", ""),
            ("tests/test.py", ""),
        ]);
        std::os::unix::fs::symlink("app.py", folder.path().join("main.py")).unwrap();
        let tree = Tree::of(folder.path(), &[MANIFEST]).unwrap();
        let places: Vec<&str> = tree.0.keys().map(String::as_str).collect();
        assert_eq!(places, [".env", "app.py", "lib/function.yaml", "lib/words.py", "main.py"]);
        assert_eq!(tree.0["main.py"], Entry::Link("app.py".into()));
        assert_eq!(tree.top().collect::<Vec<_>>(), [".env", "app.py", "main.py"]);
    }

    #[test]
    fn what_is_large_is_named() {
        let long = "x".repeat(3000);
        let folder =
            folder(&[("node_modules/a/b/c.js", &long), ("node_modules/d/e.js", "1"), ("f", "")]);
        let tree = Tree::of(folder.path(), &[]).unwrap();
        assert!(tree.largest().contains("are node_modules/a (3 KiB), node_modules/d (1 KiB)"));
        assert!(Tree::of(&folder.path().join("gone"), &[]).is_err());
        assert!(Tree::default().check().is_err());
    }
}
