//! The test programs of gRPC's own makers, as images: a Function of one calls a Function of the
//! other. Must not know what they are asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::oci::{self, Image};
use crate::tools::{self, catalog::GRPC};

/// The programs, and where each is in its image.
const PROGRAMS: [(&str, &str); 2] = [("client", "/client"), ("server", "/server")];

/// Builds the programs and their images, unless they are there; gives the paths of the archives.
pub fn build() -> Result<Vec<PathBuf>> {
    tools::ensure(&[&GRPC])?;
    let mut archives = Vec::new();
    for (name, entry) in PROGRAMS {
        let program = tools::path(&GRPC, name)?;
        // In the folder of the program: another version has another folder.
        let archive = program.with_file_name(format!("{name}.tar"));
        if !archive.is_file() {
            let image = format!("rouse.dev/grpc-interop-{name}:{}", GRPC.version);
            let (labels, files) = (BTreeMap::new(), BTreeMap::new());
            oci::write(&Image { name: image, program, entry, labels, files }, &archive)?;
        }
        archives.push(archive);
    }
    Ok(archives)
}
