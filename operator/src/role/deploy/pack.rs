//! Makes of files what a Function carries: texts as they are, or an archive that has the same bytes
//! for the same files, on any machine and any day.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use rouse_core::function::code::Code;
use tar::{Builder, EntryType, Header};

use super::folder::{Entry, Tree};

/// Files, and bytes of them together, that are readable in the object as they are.
const MOST_TEXTS: usize = 50;
const MOST_TEXT: u64 = 64 << 10;

/// The texts of a small folder; none where it has anything else.
pub fn texts(tree: &Tree) -> Option<BTreeMap<String, String>> {
    if tree.0.len() > MOST_TEXTS || tree.bytes() > MOST_TEXT {
        return None;
    }
    let text = |(place, entry): (&String, &Entry)| {
        let Entry::File { path, runs, .. } = entry else { return None };
        let text = std::fs::read_to_string(path).ok()?;
        // A text is run if it says by what.
        (!runs || text.starts_with("#!")).then(|| (place.clone(), text))
    };
    tree.0.iter().map(text).collect()
}

/// Everything as a tar in gzip.
pub fn archive(tree: &Tree) -> anyhow::Result<Code> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for (place, entry) in &tree.0 {
        match entry {
            Entry::File { path, runs, .. } => {
                let bytes =
                    std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                let mode = if *runs { 0o755 } else { 0o644 };
                let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
                tar.append_data(&mut header, place, bytes.as_slice())
            }
            Entry::Link(target) => {
                tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), place, target)
            }
        }
        .with_context(|| format!("packing {place}"))?;
    }
    let mut gzip = tar.into_inner().context("packing the code")?;
    gzip.flush().context("packing the code")?;
    Ok(Code::of_bytes(gzip.finish().context("packing the code")?))
}

/// Of nobody, and without a date.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use flate2::read::GzDecoder;

    use super::*;

    fn tree(reversed: bool) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        let mut files = vec![("a.py", "1"), ("lib/b.py", "2"), ("run", "#!/bin/sh\n")];
        if reversed {
            files.reverse();
        }
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        for (place, text) in files {
            std::fs::write(folder.path().join(place), text).unwrap();
        }
        let run = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder.path().join("run"), run).unwrap();
        let tree = Tree::of(folder.path(), &[]).unwrap();
        (folder, tree)
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let ((_one, first), (_other, second)) = (tree(false), tree(true));
        assert_eq!(archive(&first).unwrap(), archive(&second).unwrap());
    }

    #[test]
    fn an_archive_holds_files_and_links_without_owner_and_date() {
        let (folder, _) = tree(false);
        std::os::unix::fs::symlink("a.py", folder.path().join("link")).unwrap();
        let packed = archive(&Tree::of(folder.path(), &[]).unwrap()).unwrap();
        let mut read = tar::Archive::new(GzDecoder::new(packed.bytes.as_slice()));
        let entries = read.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
            (entry.path().unwrap().display().to_string(), header.mode().unwrap(), text)
        });
        let expected = [
            ("a.py", 0o644, "1"),
            ("lib/b.py", 0o644, "2"),
            ("link", 0o777, ""),
            ("run", 0o755, "#!/bin/sh\n"),
        ];
        let expected =
            expected.map(|(place, mode, text)| (place.to_owned(), mode, text.to_owned()));
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn small_folders_of_texts_stay_readable() {
        let (folder, small) = tree(false);
        assert_eq!(texts(&small).unwrap()["lib/b.py"], "2");
        std::fs::write(folder.path().join("picture"), [0xff, 0xfe]).unwrap();
        assert_eq!(texts(&Tree::of(folder.path(), &[]).unwrap()), None);
        std::fs::write(folder.path().join("picture"), "x".repeat(100_000)).unwrap();
        assert_eq!(texts(&Tree::of(folder.path(), &[]).unwrap()), None);
    }
}
