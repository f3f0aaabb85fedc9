//! Files of Debian's packages: what `apt-get` chooses and checks becomes a tree of files. Installs
//! nothing and runs no script of a package.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tar::EntryType;

use crate::{command, folders};

/// The release that the packages are of.
const RELEASE: &str = "bookworm";
/// Only Debian's own packages, whatever else this machine gets.
const PREFERENCES: &str = "Package: *\nPin: release o=Debian\nPin-Priority: 1001\n";
/// What packages need to be installed, and no program of them to run.
const NEVER: [&str; 4] = ["debconf", "dpkg", "mawk", "perl-base"];
/// What nobody reads in an image; licences stay.
const LEFT_OUT: [&str; 7] = [
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zsh",
];
const DOCUMENTS: &str = "usr/share/doc";
/// Folders that lie below `usr` since all of Debian is there.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// A package of a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    name: String,
    version: String,
    /// The name that `apt-get download` gives its file.
    file: String,
}

impl Package {
    /// Name and version, as `apt-get` takes them.
    pub fn pinned(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

/// The packages that `names` stand for with all that they depend on, but for `without`.
pub fn closure(names: &[&str], without: &[&str]) -> Result<Vec<Package>> {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ensure!(
        system.lines().any(|line| line == format!("VERSION_CODENAME={RELEASE}")),
        "the runtimes' images are made of packages of Debian 12, and this machine has other ones: \
         build the Dockerfiles in operator/runtimes with Docker"
    );
    let preferences = folders::cache()?.join("debian/preferences");
    fs::create_dir_all(preferences.parent().context("a file is in a folder")?)?;
    fs::write(&preferences, PREFERENCES)?;
    let mut apt = Command::new("apt-get");
    apt.args(["-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=false"]);
    apt.arg("-o").arg(format!("Dir::Etc::Preferences={}", preferences.display()));
    apt.args(["-o", "Debug::NoLocking=1", "--yes", "--quiet=2", "--print-uris", "install"]);
    let told = command::output(apt.args(names)).context(
        "could not ask apt-get for the packages of a runtime: `apt-get update` may be needed",
    )?;
    let packages = told.lines().map(package).collect::<Option<Vec<_>>>();
    let mut packages =
        packages.with_context(|| format!("apt-get said what is not understood:\n{told}"))?;
    packages
        .retain(|package| !NEVER.contains(&&*package.name) && !without.contains(&&*package.name));
    packages.sort();
    Ok(packages)
}

/// Of a line as `'ADDRESS' FILE SIZE DIGEST`.
fn package(line: &str) -> Option<Package> {
    let file = line.split_whitespace().nth(1)?;
    let mut parts = file.splitn(3, '_');
    let (name, version) = (parts.next()?.to_owned(), parts.next()?.replace("%3a", ":"));
    Some(Package { name, version, file: file.to_owned() })
}

/// Gets what the cache lacks, and makes the files of all of them below `root`, with the record of
/// each where those look for it who look for packages in images.
pub fn extract(packages: &[Package], root: &Path, log: &Path) -> Result<()> {
    let cache = folders::cache()?.join("debian");
    let missing = packages.iter().filter(|package| !cache.join(&package.file).is_file());
    let missing: Vec<String> = missing.map(Package::pinned).collect();
    if !missing.is_empty() {
        // Checks what it gets by the signed lists.
        let mut apt = Command::new("apt-get");
        apt.current_dir(&cache).args(["--quiet=2", "-o", "Debug::NoLocking=1", "download"]);
        command::logged(apt.args(missing), log)?;
    }
    let records = root.join("var/lib/dpkg/status.d");
    fs::create_dir_all(&records)?;
    for package in packages {
        let file = cache.join(&package.file);
        unpack(&file, root).with_context(|| format!("unpacking {}", file.display()))?;
        let record = command::output(Command::new("dpkg-deb").arg("--field").arg(&file))?;
        fs::write(records.join(&package.name), record + "\n")?;
    }
    for folder in MERGED {
        let below = Path::new("usr").join(folder);
        if root.join(&below).is_dir() {
            std::os::unix::fs::symlink(below, root.join(folder))?;
        }
    }
    Ok(())
}

fn unpack(file: &Path, root: &Path) -> Result<()> {
    let mut deb = Command::new("dpkg-deb");
    let mut deb = deb.arg("--fsys-tarfile").arg(file).stdout(Stdio::piped()).spawn()?;
    let output = deb.stdout.take().context("dpkg-deb has no output")?;
    let mut archive = tar::Archive::new(BufReader::new(output));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(place) = place(&entry.path()?)? else { continue };
        let path = root.join(&place);
        fs::create_dir_all(path.parent().context("the root is no entry")?)?;
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&path)?,
            EntryType::Link => {
                let target = entry.link_name()?.context("a link leads somewhere")?;
                let target = self::place(&target)?.context("a link leads to what is left out")?;
                fs::hard_link(root.join(target), &path)?;
            }
            _ => {
                entry.unpack(&path)?;
            }
        }
    }
    let mut rest = archive.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink())?;
    let status = deb.wait()?;
    ensure!(status.success(), "dpkg-deb failed ({status})");
    Ok(())
}

/// Where an entry comes to lie; none if nobody needs it.
fn place(path: &Path) -> Result<Option<PathBuf>> {
    let mut place = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir | Component::RootDir => {}
            Component::Normal(part) => place.push(part),
            _ => bail!("an entry lies outside: {}", path.display()),
        }
    }
    if MERGED.iter().any(|folder| place.starts_with(folder)) {
        place = Path::new("usr").join(place);
    }
    let is_document = place.starts_with(DOCUMENTS) && !place.ends_with("copyright");
    let is_left_out = LEFT_OUT.iter().any(|folder| place.starts_with(folder));
    let is_needed = !place.as_os_str().is_empty() && !is_document && !is_left_out;
    Ok(is_needed.then_some(place))
}

/// Writes the file of all authorities that programs trust, as a script of the package would.
pub fn trust(root: &Path) -> Result<()> {
    let certificates = root.join("etc/ssl/certs");
    fs::create_dir_all(&certificates)?;
    let mut all = String::new();
    for text in authorities(root)?.values() {
        all.push_str(text.trim_end());
        all.push('\n');
    }
    fs::write(certificates.join("ca-certificates.crt"), all)?;
    let openssl = root.join("usr/lib/ssl");
    fs::create_dir_all(&openssl)?;
    let file = openssl.join("cert.pem");
    // OpenSSL looks for this file, or for names that are digests, which another script makes.
    if !file.is_symlink() {
        std::os::unix::fs::symlink("/etc/ssl/certs/ca-certificates.crt", file)?;
    }
    Ok(())
}

/// The authorities by their names, as the package has them.
pub fn authorities(root: &Path) -> Result<BTreeMap<String, String>> {
    let folder = root.join("usr/share/ca-certificates/mozilla");
    let mut authorities = BTreeMap::new();
    for entry in folder.read_dir().context("there is no package ca-certificates")? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        authorities.insert(name, fs::read_to_string(path)?);
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_read_from_what_apt_get_says() {
        let line = "'http://host/pool/z/zlib1g_1.2-1_amd64.deb' zlib1g_1%3a1.2-1_amd64.deb 86684 \
                    SHA256:aa";
        let package = package(line).unwrap();
        assert_eq!(package.pinned(), "zlib1g=1:1.2-1");
        assert_eq!(package.file, "zlib1g_1%3a1.2-1_amd64.deb");
        assert!(super::package("Reading").is_none());
    }

    #[test]
    fn all_lies_below_usr_and_nobody_reads_manuals() {
        let of = |path| place(Path::new(path)).unwrap().map(|it| it.display().to_string());
        assert_eq!(
            of("./lib/x86_64-linux-gnu/libz.so").unwrap(),
            "usr/lib/x86_64-linux-gnu/libz.so"
        );
        assert_eq!(of("./bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(of("./etc/passwd").unwrap(), "etc/passwd");
        assert_eq!(of("./usr/share/doc/jq/copyright").unwrap(), "usr/share/doc/jq/copyright");
        for path in ["./", "./usr/share/man/man1/x", "./usr/share/doc/jq/changelog.gz"] {
            assert_eq!(of(path), None, "{path}");
        }
        assert!(place(Path::new("./../x")).is_err());
    }
}
