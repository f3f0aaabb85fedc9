//! The folder for what is kept while Functions run here, and deleted by whoever likes to: where their
//! files lie, how programs reach the API, and whose folder it is.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Name of the folder in that of the Functions.
const NAME: &str = ".rouse";

/// The folder, for one process alone.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Held by this process; the kernel lets go of it with the process.
    _lock: File,
}

impl State {
    /// Opens the folder that was asked for, or that in `functions`, and empties it of what others left.
    pub fn open(asked: Option<PathBuf>, functions: &Path) -> anyhow::Result<Self> {
        let folder = asked.unwrap_or_else(|| functions.join(NAME));
        let making =
            || format!("making the folder {}: choose another one by --state", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(making)?;
        let folder = folder.canonicalize().with_context(making)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(folder.join("lock"));
        let lock = lock.with_context(making)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another `rouse dev` uses the folder {}: end it, or choose another one by --state",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error).with_context(making),
        }
        let state = Self { folder, _lock: lock };
        // No repository shall have it.
        state.write(".gitignore", "*\n")?;
        let pods = state.pods();
        if pods.exists() {
            std::fs::remove_dir_all(&pods)
                .with_context(|| format!("emptying {}", pods.display()))?;
        }
        Ok(state)
    }

    /// Where the folders of pods are.
    pub fn pods(&self) -> PathBuf {
        self.folder.join("pods")
    }

    /// Where the kubeconfig is.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Writes a file that nobody else may read, and gives where it is.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        let writing = || format!("writing {}", path.display());
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(&path);
        let mut file = file.with_context(writing)?;
        file.write_all(text.as_bytes()).with_context(writing)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_for_one_at_a_time_and_empty_at_the_start() {
        let functions = tempfile::tempdir().unwrap();
        let state = State::open(None, functions.path()).unwrap();
        std::fs::create_dir_all(state.pods().join("left")).unwrap();
        let error = State::open(None, functions.path()).unwrap_err().to_string();
        assert!(error.contains("--state"), "{error}");
        drop(state);
        let state = State::open(None, functions.path()).unwrap();
        assert!(!state.pods().exists());
        let ignored = functions.path().join(NAME).join(".gitignore");
        assert_eq!(std::fs::read_to_string(ignored).unwrap(), "*\n");
    }
}
