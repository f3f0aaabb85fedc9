//! Folders of the cache that are there whole or not at all. Must not know what is in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::folders;

/// Makes `folder`, which is not there, by `build`: in a folder beside it, which moves there at the end.
pub fn make(folder: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut name = folder.file_name().context("a folder has a name")?.to_owned();
    name.push(format!(".unfinished-{}", std::process::id()));
    let unfinished = folder.with_file_name(name);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    build(&unfinished)?;
    match fs::rename(&unfinished, folder) {
        // Another run was quicker and made the same.
        Err(_) if folder.is_dir() => fs::remove_dir_all(&unfinished)?,
        outcome => outcome?,
    }
    Ok(())
}

/// An empty log of that name.
pub fn log(name: &str) -> Result<PathBuf> {
    let folder = folders::cache()?.join("log");
    fs::create_dir_all(&folder)?;
    let log = folder.join(format!("{name}.log"));
    fs::write(&log, "")?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_not_there_and_what_is_there_stays() {
        let folder = std::env::temp_dir().join(format!("xtask-whole-{}", std::process::id()));
        let made = folder.join("a.1");
        assert!(make(&made, |_| anyhow::bail!("no")).is_err());
        assert!(!made.exists());
        make(&made, |path| Ok(fs::write(path.join("x"), "1")?)).unwrap();
        make(&made, |path| Ok(fs::write(path.join("x"), "2")?)).unwrap();
        assert_eq!(fs::read_to_string(made.join("x")).unwrap(), "1");
        assert_eq!(folder.read_dir().unwrap().count(), 1, "nothing unfinished is left");
        fs::remove_dir_all(folder).unwrap();
    }
}
