//! Reads Secrets as the kubelet mounts them: a folder for each, a file for each key. What is not
//! there stops the Trigger that names it, and no other.

use std::path::{Path, PathBuf};

use tokio::fs;

use crate::failure::Failure;

/// Where the Secrets of a namespace are mounted.
#[derive(Clone, Debug)]
pub struct Secrets {
    folder: PathBuf,
}

/// Bytes of a key, which are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, without the line's end that editors leave.
    pub fn text(&self) -> Result<&str, Failure> {
        let text = std::str::from_utf8(&self.0);
        let text = text.map_err(|_| Failure::Invalid("a key of a Secret is no text".into()))?;
        Ok(text.trim_end_matches(['\r', '\n']))
    }
}

impl Secrets {
    /// The Secrets below `folder`.
    pub fn below(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where a key of a Secret is, for libraries that read files.
    pub fn path(&self, secret: &str, key: &str) -> Result<PathBuf, Failure> {
        let is_name = |name: &str| {
            Path::new(name).components().count() == 1 && !name.contains(['/', '\0']) && name != ".."
        };
        if !is_name(secret) || !is_name(key) {
            return Err(Failure::Invalid(format!("{secret}/{key} is not a key of a Secret")));
        }
        Ok(self.folder.join(secret).join(key))
    }

    /// Reads the key of a Secret.
    pub async fn fetch(&self, secret: &str, key: &str) -> Result<Secret, Failure> {
        let path = self.path(secret, key)?;
        fs::read(path)
            .await
            .map(Secret)
            .map_err(|_| Failure::Credentials { secret: secret.to_owned(), key: key.to_owned() })
    }
}
