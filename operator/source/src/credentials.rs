//! Reads Secrets as the kubelet mounts them: a folder for each, a file for each key. What is not
//! there stops the Trigger that names it, and no other.

use std::fs;
use std::path::{Path, PathBuf};

use rouse_crds::v1alpha1::SecretKey;

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
    fn text(&self) -> Result<&str, Failure> {
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

    fn path(&self, SecretKey { name, key }: &SecretKey) -> Result<PathBuf, Failure> {
        let is_name = |name: &str| {
            Path::new(name).components().count() == 1 && !name.contains(['/', '\0']) && name != ".."
        };
        if !is_name(name) || !is_name(key) {
            return Err(Failure::Invalid(format!("{name}/{key} is not a key of a Secret")));
        }
        Ok(self.folder.join(name).join(key))
    }

    /// Reads the key of a Secret. It blocks: the kubelet keeps Secrets in memory, and handing a read
    /// of that to another thread takes longer than it.
    pub fn fetch(&self, of: &SecretKey) -> Result<Secret, Failure> {
        let read = fs::read(self.path(of)?);
        read.map(Secret).map_err(|_| {
            let SecretKey { name, key } = of.clone();
            Failure::Credentials { secret: name, key }
        })
    }

    /// Reads the key of a Secret as text, without the line's end that editors leave.
    pub fn fetch_text(&self, of: &SecretKey) -> Result<String, Failure> {
        Ok(self.fetch(of)?.text()?.to_owned())
    }
}
