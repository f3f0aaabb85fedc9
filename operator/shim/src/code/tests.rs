//! What archives become, and which are refused.

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use zip::write::SimpleFileOptions;

use super::*;

const LIMITS: CodeLimits = CodeLimits { pushed: 1 << 20, bytes: 1 << 20, entries: 100 };

/// A folder of a test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rouse-shim-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn take(code: &[u8]) -> (Folder, Result<(), String>) {
    let folder = Folder::new();
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(folder.0.with_extension("archive"))
        .unwrap();
    std::fs::remove_file(folder.0.with_extension("archive")).unwrap();
    file.write_all(code).unwrap();
    file.rewind().unwrap();
    let taken = unpack::unpack(file, &folder.0, LIMITS).map_err(|error| error.to_string());
    (folder, taken)
}

fn zipped(make: impl FnOnce(&mut zip::ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    make(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn tarred(make: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    make(&mut tar);
    tar.into_inner().unwrap().finish().unwrap()
}

/// A header with a name that `tar` itself would refuse.
fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o777);
    header.set_cksum();
    header
}

#[test]
fn a_zip_becomes_files_with_their_modes_and_links() {
    let code = zipped(|zip| {
        let options = SimpleFileOptions::default();
        zip.add_directory("lib", options).unwrap();
        zip.start_file("lib/cli.js", options.unix_permissions(0o600)).unwrap();
        zip.write_all(b"cli").unwrap();
        zip.start_file("bootstrap", options.unix_permissions(0o4775)).unwrap();
        zip.write_all(b"#!/bin/sh").unwrap();
        zip.add_symlink("bin/cli", "../lib/cli.js", options).unwrap();
    });
    let (folder, taken) = take(&code);
    taken.unwrap();
    let mode = |name: &str| folder.0.join(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("bootstrap"), mode("lib/cli.js")), (0o755, 0o644));
    assert_eq!(std::fs::read(folder.0.join("bin/cli")).unwrap(), b"cli");
}

#[test]
fn a_tar_becomes_files_too_with_names_of_any_length() {
    let long = format!("{}/x.py", "deep/".repeat(40));
    let code = tarred(|tar| {
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, &long, &b"hi"[..]).unwrap();
    });
    let (folder, taken) = take(&code);
    taken.unwrap();
    assert_eq!(std::fs::read(folder.0.join(long)).unwrap(), b"hi");
}

#[test]
fn what_leads_out_of_the_folder_is_refused_by_name() {
    let file = tar::EntryType::Regular;
    for (name, said) in [
        ("../x", "leads out"),
        ("/etc/x", "absolute"),
        ("a/../../x", "leads out"),
        ("a\\..\\x", "backslash"),
    ] {
        let code = tarred(|tar| tar.append(&header(name, file, 1), &b"x"[..]).unwrap());
        let error = take(&code).1.unwrap_err();
        assert!(error.contains(said) && error.contains(&format!("{name:?}")), "{error}");
        let code = zipped(|zip| {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
        });
        take(&code).1.unwrap_err();
    }
}

#[test]
fn links_can_not_be_used_to_write_elsewhere() {
    let link = |to: &str| {
        let mut link = header("a", tar::EntryType::Symlink, 0);
        link.set_link_name_literal(to).unwrap();
        link.set_cksum();
        link
    };
    for to in ["/tmp", "..", "b/../../..", "../../x"] {
        let code = tarred(|tar| tar.append(&link(to), &b""[..]).unwrap());
        assert!(take(&code).1.is_err(), "{to}");
    }
    let code = tarred(|tar| {
        tar.append(&link("."), &b""[..]).unwrap();
        tar.append(&header("a/x", tar::EntryType::Regular, 1), &b"x"[..]).unwrap();
    });
    let (folder, taken) = take(&code);
    assert!(taken.unwrap_err().contains("twice, or beneath a file"));
    assert!(!folder.0.join("x").exists());
    for kind in [tar::EntryType::Link, tar::EntryType::Char, tar::EntryType::Fifo] {
        let code = tarred(|tar| tar.append(&header("dev", kind, 0), &b""[..]).unwrap());
        assert!(take(&code).1.unwrap_err().contains("neither a file"), "{kind:?}");
    }
}

#[test]
fn bombs_end_at_the_limits_whatever_they_say_of_themselves() {
    let code = zipped(|zip| {
        zip.start_file("zeros", SimpleFileOptions::default()).unwrap();
        zip.write_all(&vec![0; 5 << 20]).unwrap();
    });
    assert!(code.len() < 64 << 10);
    assert!(take(&code).1.unwrap_err().contains("once it is unpacked"));
    let code = zipped(|zip| {
        for number in 0..=LIMITS.entries {
            zip.start_file(number.to_string(), SimpleFileOptions::default()).unwrap();
        }
    });
    assert!(take(&code).1.unwrap_err().contains("more than 100 files"));
    let mut zeros = GzEncoder::new(Vec::new(), Compression::default());
    zeros.write_all(&vec![0; 50 << 20]).unwrap();
    // A tar of nothing but its end is an empty one, however long.
    take(&zeros.finish().unwrap()).1.unwrap();
}

#[test]
fn what_is_no_archive_or_a_damaged_one_is_refused() {
    for code in [&b"print('hi')"[..], b"", b"PK\x03\x04 and so on", b"\x1f\x8b\x08 and so on", b"{"]
    {
        assert!(take(code).1.is_err(), "{code:?}");
    }
    let code = zipped(|zip| {
        zip.start_file("a", SimpleFileOptions::default()).unwrap();
        zip.write_all(b"some text that is here").unwrap();
    });
    for end in 0..code.len() {
        assert!(take(&code[..end]).1.is_err(), "cut at {end}");
    }
}

#[test]
fn an_entry_that_is_there_twice_is_refused() {
    let code = tarred(|tar| {
        for _ in 0..2 {
            tar.append(&header("a", tar::EntryType::Regular, 1), &b"x"[..]).unwrap();
        }
    });
    assert!(take(&code).1.unwrap_err().contains("twice"));
}

#[tokio::test]
async fn nothing_is_left_of_code_that_is_refused() {
    let folder = Folder::new();
    let code = br#"{"a": "x", "b/../../c": "y"}"#.to_vec();
    let digest = Digest(Sha256::digest(&code).into());
    let store = Store::new(folder.0.clone(), digest, LIMITS);
    let minute = Duration::from_mins(1);
    store.take(Full::new(Bytes::from(code)), 1 << 20, minute).await.unwrap_err();
    assert_eq!(folder.0.read_dir().unwrap().count(), 0);
    assert_eq!(store.bringing.available_permits(), BRINGING);
}
