//! What a JVM has in an image: the client of AWS, and the authorities in the form that it reads.
//! Must not choose packages' versions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::debian;
use crate::{command, contracts};

/// What the packages depend on for screens, printers, sound and smart cards, and to be installed.
pub const WITHOUT: &[&str] = &[
    "ca-certificates-java",
    "fontconfig-config",
    "fonts-dejavu-core",
    "java-common",
    "libasound2",
    "libasound2-data",
    "libaudit-common",
    "libaudit1",
    "libavahi-client3",
    "libavahi-common-data",
    "libavahi-common3",
    "libblkid1",
    "libcap-ng0",
    "libcap2",
    "libcups2",
    "libdbus-1-3",
    "libgcrypt20",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libmount1",
    "libnettle8",
    "libnspr4",
    "libnss3",
    "libp11-kit0",
    "libpam0g",
    "libpcsclite1",
    "libselinux1",
    "libsmartcols1",
    "libsqlite3-0",
    "libsystemd0",
    "libtasn1-6",
    "libtinfo6",
    "libudev1",
    "libunistring2",
    "openssl",
    "util-linux",
    "util-linux-extra",
];

/// Adds both to a tree.
pub fn finish(root: &Path, log: &Path) -> Result<()> {
    let machines = root.join("usr/lib/jvm");
    let mut names = machines.read_dir()?.flatten().map(|entry| entry.file_name());
    let name = names.find(|name| name.to_string_lossy().starts_with("java-17-openjdk-"));
    symlink(name.context("the tree has no JVM")?, machines.join("java"))?;
    share(&machines.join("java"), log)?;
    let clients = root.join("var/runtime/lib");
    fs::create_dir_all(&clients)?;
    for entry in contracts::folder("java")?.join("target/jars").read_dir()? {
        let entry = entry?;
        fs::copy(entry.path(), clients.join(entry.file_name()))?;
    }
    let store = root.join("etc/ssl/certs/java");
    fs::create_dir_all(&store)?;
    let mut certificates = Vec::new();
    for (name, text) in debian::authorities(root)? {
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        certificates.push((name.to_lowercase(), STANDARD.decode(body)?));
    }
    fs::write(store.join("cacerts"), key_store(&certificates)?)?;
    Ok(())
}

/// Classes that every start reads, ready to be mapped: a script of the package would do that. The JVM
/// uses them only if the file that they are of has the date that it had then, and in an image nothing
/// has one.
fn share(machine: &Path, log: &Path) -> Result<()> {
    let modules = fs::File::options().write(true).open(machine.join("lib/modules"))?;
    modules.set_modified(SystemTime::UNIX_EPOCH)?;
    command::logged(Command::new(machine.join("bin/java")).arg("-Xshare:dump"), log)
}

/// A key store of Java's first kind, which every JVM reads. Java's own tool would write the date.
fn key_store(certificates: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    const VERSION: u32 = 2;
    const TRUSTED: u32 = 2;
    let mut store = 0xfeed_feed_u32.to_be_bytes().to_vec();
    store.extend(VERSION.to_be_bytes());
    store.extend(u32::try_from(certificates.len())?.to_be_bytes());
    for (name, certificate) in certificates {
        // Java writes these in a way of its own.
        let is_usual = !name.chars().any(|c| c == '\0' || u32::from(c) > 0xffff);
        ensure!(is_usual, "the name {name:?} would have to be written otherwise");
        store.extend(TRUSTED.to_be_bytes());
        text(&mut store, name)?;
        store.extend([0; 8]);
        text(&mut store, "X.509")?;
        store.extend(u32::try_from(certificate.len())?.to_be_bytes());
        store.extend(certificate);
    }
    let mut digest = Sha1::new();
    // The password that all of them have: it keeps nothing secret.
    digest.update("changeit".bytes().flat_map(|byte| [0, byte]).collect::<Vec<_>>());
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    store.extend(digest.finalize());
    Ok(store)
}

fn text(store: &mut Vec<u8>, text: &str) -> Result<()> {
    store.extend(u16::try_from(text.len())?.to_be_bytes());
    store.extend(text.bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_store_says_what_it_holds() {
        let store = key_store(&[("ca".to_owned(), vec![1, 2, 3])]).unwrap();
        let head = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 2, b'c', b'a'];
        assert!(store.starts_with(&head));
        assert_eq!(store.len(), head.len() + 8 + 2 + 5 + 4 + 3 + 20);
        assert!(key_store(&[("\u{e9}".to_owned(), Vec::new())]).is_ok());
        assert!(key_store(&[("\u{1f600}".to_owned(), Vec::new())]).is_err());
    }
}
