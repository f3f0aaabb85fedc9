//! Makes files of code: a zip, a tar in gzip, or a JSON object of names and texts. What it writes is
//! counted, never what an archive says of itself.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use zip::ZipArchive;

use super::names;
use crate::settings::CodeLimits;

/// Longest target of a link.
const LONGEST_TARGET: u64 = 4096;

/// Why code can't be used, whoever brings it.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// It is no kind of archive.
    #[error(
        "the code is no zip, no tar in gzip and no object of files: send one of them, not the file \
         itself"
    )]
    Kind,
    /// It is damaged, or of a kind of its kind that is not read.
    #[error("reading the archive: {0}")]
    Archive(String),
    /// An entry has a name that it can't have.
    #[error("the archive has an entry {0:?}, which is not taken: {1}")]
    Name(String, &'static str),
    /// Two entries have one name.
    #[error("the archive has the entry {0:?} twice, or beneath a file")]
    Twice(String),
    /// It becomes too many bytes.
    #[error("the code has more than {0} bytes once it is unpacked, which is what it may have")]
    Large(u64),
    /// It becomes too many files.
    #[error("the code has more than {0} files and folders, which is what it may have")]
    Many(usize),
    /// There is no place for it.
    #[error("writing the code's files: {0}")]
    Io(#[from] io::Error),
}

/// Makes the files of `archive` in `folder`, which is empty or not there.
pub fn unpack(mut archive: File, folder: &Path, limits: CodeLimits) -> Result<(), Bad> {
    let mut start = [0; 4];
    let known = archive.read(&mut start)?;
    archive.rewind()?;
    fs::create_dir_all(folder)?;
    let mut tree = Tree { folder, limits, entries: 0, bytes: 0, links: Vec::new() };
    match start.get(..known).unwrap_or_default() {
        [b'P', b'K', 3 | 5, 4 | 6] => from_zip(archive, &mut tree)?,
        [0x1f, 0x8b, ..] => from_tar(archive, &mut tree)?,
        [b'{', ..] => from_json(archive, &mut tree)?,
        _ => return Err(Bad::Kind),
    }
    tree.link()
}

fn damaged(error: impl std::fmt::Display) -> Bad {
    Bad::Archive(error.to_string())
}

fn from_json(mut file: File, tree: &mut Tree<'_>) -> Result<(), Bad> {
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(damaged)?;
    let files: BTreeMap<String, String> = serde_json::from_str(&text).map_err(damaged)?;
    for (name, content) in files {
        let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
        tree.file(&name, mode, &mut content.as_bytes())?;
    }
    Ok(())
}

fn from_zip(file: File, tree: &mut Tree<'_>) -> Result<(), Bad> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        if entry.is_dir() {
            tree.folder(&name)?;
        } else if entry.is_symlink() {
            let mut target = String::new();
            (&mut entry).take(LONGEST_TARGET).read_to_string(&mut target).map_err(damaged)?;
            tree.remember(&name, target)?;
        } else {
            // Archives of Windows have no modes, and their `bootstrap` is to be run too.
            let mode = entry.unix_mode().filter(|mode| mode & 0o777 != 0).unwrap_or(0o755);
            tree.file(&name, mode, &mut entry)?;
        }
    }
    Ok(())
}

fn from_tar(file: File, tree: &mut Tree<'_>) -> Result<(), Bad> {
    let most = tree.limits.bytes;
    // Headers and padding are not counted as files are; a tar of nothing else ends by this.
    let whole = GzDecoder::new(BufReader::new(file)).take(most.saturating_mul(2));
    let mut archive = tar::Archive::new(whole);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            tree.folder(&name)?;
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            tree.remember(&name, target)?;
        } else if kind.is_file() || kind.is_contiguous() {
            let mode = entry.header().mode().map_err(damaged)?;
            tree.file(&name, mode, &mut entry)?;
        } else if !kind.is_pax_global_extensions() {
            return Err(Bad::Name(name, "it is neither a file, a folder nor a symbolic link"));
        }
    }
    Ok(())
}

/// The files that come to be.
struct Tree<'a> {
    folder: &'a Path,
    limits: CodeLimits,
    entries: usize,
    bytes: u64,
    /// Links are made last, so that nothing is written through one.
    links: Vec<(PathBuf, String)>,
}

impl Tree<'_> {
    fn place(&mut self, name: &str) -> Result<Option<PathBuf>, Bad> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Bad::Many(self.limits.entries));
        }
        names::place(name).map_err(|wrong| Bad::Name(name.to_owned(), wrong))
    }

    fn folder(&mut self, name: &str) -> Result<(), Bad> {
        let Some(place) = self.place(name)? else { return Ok(()) };
        fs::create_dir_all(self.folder.join(place)).map_err(|error| taken(name, error))
    }

    fn file(&mut self, name: &str, mode: u32, content: &mut dyn Read) -> Result<(), Bad> {
        let Some(place) = self.place(name)? else {
            return Err(Bad::Name(name.to_owned(), "it has no name"));
        };
        let path = self.folder.join(place);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| taken(name, error))?;
        }
        // Nobody else's rights, and no rights of owners that are not there.
        let mode = 0o644 | (mode & 0o111);
        let options = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        let mut file = options.map_err(|error| taken(name, error))?;
        let left = self.limits.bytes.saturating_sub(self.bytes);
        self.bytes += copy(content, &mut file, left + 1)?;
        if self.bytes > self.limits.bytes {
            return Err(Bad::Large(self.limits.bytes));
        }
        Ok(())
    }

    fn remember(&mut self, name: &str, target: String) -> Result<(), Bad> {
        let Some(place) = self.place(name)? else {
            return Err(Bad::Name(name.to_owned(), "it has no name"));
        };
        names::link(&place, &target).map_err(|wrong| Bad::Name(name.to_owned(), wrong))?;
        self.links.push((place, target));
        Ok(())
    }

    fn link(self) -> Result<(), Bad> {
        let places: HashSet<PathBuf> = self.links.iter().map(|(place, _)| place.clone()).collect();
        for (place, target) in &self.links {
            let name = place.to_string_lossy();
            if place.ancestors().skip(1).any(|above| places.contains(above)) {
                return Err(Bad::Name(name.into_owned(), "it lies beneath a link"));
            }
            let path = self.folder.join(place);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|error| taken(&name, error))?;
            }
            symlink(target, path).map_err(|error| taken(&name, error))?;
        }
        Ok(())
    }
}

/// Copies at most `most` bytes; tells a damaged archive from a full disk.
fn copy(content: &mut dyn Read, file: &mut File, most: u64) -> Result<u64, Bad> {
    let mut content = content.take(most);
    let mut buffer = [0; 16 << 10];
    let mut copied = 0;
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error)),
        };
        file.write_all(buffer.get(..count).unwrap_or_default())?;
        copied += count as u64;
    }
}

fn taken(name: &str, error: io::Error) -> Bad {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Bad::Twice(name.to_owned()),
        _ => Bad::Io(error),
    }
}
