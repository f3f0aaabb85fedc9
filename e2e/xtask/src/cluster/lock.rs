//! Claims the root folder: that it is a cluster's, and that one command at a time works on it.
//! Must not look at what else is in it.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::layout::Layout;

/// Says that a folder holds a cluster, so that `down --purge` can't delete another by mistake.
const MARK: &str = "rouse-cluster";
const MARK_TEXT: &str = "`cargo xtask cluster` keeps a local Kubernetes in this folder.\n";

/// Held as long as a command works on the cluster; the kernel gives it back when we end.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Makes the folder a cluster's, unless something else is in it, and locks it.
pub fn claim(layout: &Layout) -> Result<Lock> {
    let root = layout.root();
    std::fs::create_dir_all(root)
        .with_context(|| format!("could not make the cluster's folder {}", root.display()))?;
    if !is_claimed(root) {
        if root.read_dir()?.next().is_some() {
            bail!("{} holds something else: give an empty folder by --root", root.display());
        }
        std::fs::write(root.join(MARK), MARK_TEXT)?;
    }
    lock(root)
}

/// Locks a folder that is a cluster's already; none if there is no cluster.
pub fn existing(layout: &Layout) -> Result<Option<Lock>> {
    let root = layout.root();
    if !root.exists() {
        return Ok(None);
    }
    if !is_claimed(root) {
        bail!("{} is not a cluster's folder: there is no file {MARK} in it", root.display());
    }
    lock(root).map(Some)
}

fn is_claimed(root: &Path) -> bool {
    root.join(MARK).is_file()
}

fn lock(root: &Path) -> Result<Lock> {
    let file = File::open(root.join(MARK))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => bail!(
            "another `cargo xtask` works on the cluster in {} at this moment; wait for it",
            root.display()
        ),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_only_folders_that_are_free() {
        let root = std::env::temp_dir().join(format!("xtask-lock-{}", std::process::id()));
        let layout = Layout::new(&root.join("cluster")).unwrap();
        assert!(existing(&layout).unwrap().is_none());
        let lock = claim(&layout).unwrap();
        let second = claim(&layout).unwrap_err().to_string();
        drop(lock);
        let again = existing(&layout).unwrap();
        let foreign = Layout::new(&root).unwrap();
        let refused = (claim(&foreign).is_err(), existing(&foreign).is_err());
        std::fs::remove_dir_all(&root).unwrap();
        assert!(second.contains("another"), "{second}");
        assert!(again.is_some());
        assert_eq!(refused, (true, true));
    }
}
