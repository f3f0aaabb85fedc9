//! The contracts with the vendors' own clients, unmodified. `cargo xtask test` installs them and
//! tells where each language is (`ROUSE_CONTRACTS_PYTHON` and so on).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod functions;
mod lambda;
#[path = "../shim/rig.rs"]
#[allow(dead_code, reason = "the other tests use the rest of it")]
mod rig;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;

use rig::Shim;

/// Where the clients of a language are.
fn clients(language: &str) -> PathBuf {
    let variable = format!("ROUSE_CONTRACTS_{}", language.to_uppercase());
    let folder = std::env::var_os(&variable).map(PathBuf::from);
    folder.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`"))
}

/// A zip of files below the sources of a language, or elsewhere.
fn zipped(language: &str, files: &[&str]) -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/contracts").join(language);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        let name = Path::new(file).strip_prefix("/").map_or(*file, |path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name == "lambda" { "bootstrap" } else { name }
        });
        let options = SimpleFileOptions::default().unix_permissions(0o755);
        zip.start_file(name, options).unwrap();
        zip.write_all(&std::fs::read(sources.join(file)).unwrap()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Starts the program with code, and waits until it serves.
async fn serving(code: Vec<u8>, command: &[&str], variables: &[(&str, &str)]) -> (Shim, u16) {
    let mut all = vec![("ROUSE_CODE_MAX_PUSHED", "30000000")];
    all.extend(variables);
    Shim::serving_code(code, command, &all).await
}
