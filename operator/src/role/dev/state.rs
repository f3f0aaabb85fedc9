//! The folder for what is kept while Functions run here, and deleted by whoever likes to: where their
//! files lie, how programs reach the API, and whose folder it is.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::role::deploy::IGNORED;

/// Name of the folder in that of the Functions.
const NAME: &str = ".rouse";
/// The file by which it is known as ours, and for one alone.
const LOCK: &str = "lock";

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
        let place = folder.join(LOCK);
        if !place.is_file() && folder.read_dir().with_context(making)?.next().is_some() {
            bail!(
                "the folder {} has files of others in it: choose an empty or a new one by --state",
                folder.display()
            );
        }
        // It may have been made by somebody who lets others look into it.
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).with_context(making)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(place);
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
        // No repository shall have it, and what is in it is neither manifest nor code, wherever it is.
        for name in [".gitignore", IGNORED] {
            state.write(name, "*\n")?;
        }
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
        // A new one each time: one that is there may be open to others, or lead elsewhere.
        let part = self.folder.join(format!("{name}.part"));
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(writing);
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options.create_new(true).write(true).mode(0o600).open(&part);
        let mut file = file.with_context(writing)?;
        file.write_all(text.as_bytes()).with_context(writing)?;
        std::fs::rename(&part, &path).with_context(writing)?;
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

    #[test]
    fn what_others_have_there_stays_and_what_is_written_is_the_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("pods/precious");
        std::fs::create_dir_all(&theirs).unwrap();
        let asked = Some(folder.path().to_owned());
        let error = State::open(asked.clone(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("--state") && theirs.is_dir(), "{error}");
        std::fs::remove_dir_all(folder.path().join("pods")).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let state = State::open(asked, folder.path()).unwrap();
        assert_eq!(mode(folder.path()), 0o700);
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, state.kubeconfig()).unwrap();
        let path = state.write("kubeconfig", "secret").unwrap();
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "theirs");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(mode(&path), 0o600);
    }
}
