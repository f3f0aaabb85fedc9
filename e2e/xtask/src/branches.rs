//! How often each branch of a program is taken, as it is kept for the optimiser: gzipped, as it names
//! what never ran too. Left out, that would be code of which nothing is known, and neither be built small
//! nor lie apart. Must not know what is counted.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Keeps the profile `counted` at `kept`.
pub fn keep(counted: &Path, kept: &Path) -> Result<()> {
    let profile = fs::read(counted).with_context(|| format!("reading {}", counted.display()))?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&profile)?;
    fs::write(kept, packed.finish()?).with_context(|| format!("writing {}", kept.display()))
}

/// Unpacks the profile `kept` for the compiler into `folder`; gives its path there.
pub fn unpack(kept: &Path, folder: &Path) -> Result<PathBuf> {
    let packed = fs::read(kept).with_context(|| format!("reading {}", kept.display()))?;
    let mut profile = Vec::new();
    let unpacked = GzDecoder::new(packed.as_slice()).read_to_end(&mut profile);
    unpacked.with_context(|| format!("unpacking {}", kept.display()))?;
    let file = folder.join(kept.file_stem().context("a profile has a name")?);
    // One that is written anew would have all built anew.
    if fs::read(&file).ok().as_ref() != Some(&profile) {
        fs::create_dir_all(folder)?;
        fs::write(&file, profile).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_kept_is_unpacked_as_it_was_and_only_when_it_is_news() {
        let folder = tempfile::tempdir().unwrap();
        let [counted, kept] = ["counted", "some.profdata.gz"].map(|name| folder.path().join(name));
        let unpacked = folder.path().join("unpacked");
        fs::write(&counted, "one").unwrap();
        keep(&counted, &kept).unwrap();
        let file = unpack(&kept, &unpacked).unwrap();
        assert_eq!(file, unpacked.join("some.profdata"));
        assert_eq!(fs::read(&file).unwrap(), b"one");

        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
        unpack(&kept, &unpacked).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), long_ago);
        fs::write(&counted, "two").unwrap();
        keep(&counted, &kept).unwrap();
        unpack(&kept, &unpacked).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");

        fs::write(&kept, "torn").unwrap();
        let error = unpack(&kept, &unpacked).unwrap_err().to_string();
        assert!(error.starts_with("unpacking ") && error.contains("some.profdata.gz"), "{error}");
    }
}
