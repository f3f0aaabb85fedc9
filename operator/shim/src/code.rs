//! The code of a Function: bytes that are of the digest, and nothing else, become files. What is
//! wrong with them is wrong for good, so it is remembered and said, and nothing is tried again.

pub mod fetch;
mod names;
mod unpack;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::settings::{CodeLimits, Digest};

pub use unpack::Bad;

/// How many may bring code at once. Whoever reaches the port may, so that one who is slow must not
/// keep out who has it.
const BRINGING: usize = 8;

/// Why code is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is other code.
    #[error(
        "the code has the SHA-256 {got}, and {wanted} was asked for: it was changed on the way, or \
         it is of another revision"
    )]
    Digest {
        /// What came.
        got: Digest,
        /// What should have.
        wanted: Digest,
    },
    /// There is too much of it.
    #[error("the code has more than {0} bytes, which is what it may have here")]
    Large(u64),
    /// It is the right code, and can't be used.
    #[error(transparent)]
    Bad(#[from] Bad),
    /// Others are bringing something already.
    #[error("{BRINGING} are bringing code already: ask again in a moment")]
    Busy,
    /// Who brings it takes too long.
    #[error("the code was not there after {0:?}")]
    Slow(Duration),
    /// Who brought it left in the middle.
    #[error("reading the code: {0}")]
    Broken(String),
    /// There is no place for it.
    #[error("writing the code")]
    Io(#[from] io::Error),
}

impl Refused {
    /// Whether the same code will be refused again.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Digest { .. } | Self::Large(_) | Self::Bad(_))
    }
}

/// Where the code comes to lie.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    digest: Digest,
    limits: CodeLimits,
    bringing: Semaphore,
    /// Whether it lies there. Held while it is unpacked.
    is_there: Mutex<bool>,
}

impl Store {
    /// A store for the code of `digest`.
    pub const fn new(folder: PathBuf, digest: Digest, limits: CodeLimits) -> Self {
        let bringing = Semaphore::const_new(BRINGING);
        Self { folder, digest, limits, bringing, is_there: Mutex::const_new(false) }
    }

    /// Takes the code that `body` is, of at most `most` bytes that come in `patience`, and makes it
    /// files; tells whether it was not there before.
    pub async fn take<B>(&self, body: B, most: u64, patience: Duration) -> Result<bool, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let _bringing = self.bringing.try_acquire().map_err(|_| Refused::Busy)?;
        let received = timeout(patience, self.receive(body, most)).await;
        let archive = received.map_err(|_| Refused::Slow(patience))??;
        let mut is_there = self.is_there.lock().await;
        if *is_there {
            return Ok(false);
        }
        let (folder, limits) = (self.folder.clone(), self.limits);
        let unpack = move || unpack::unpack(archive, &folder, limits);
        let unpacked = tokio::task::spawn_blocking(unpack).await.map_err(io::Error::other)?;
        if unpacked.is_err() {
            // Nobody runs what is there in part; it is only in the way.
            clear(&self.folder);
        }
        unpacked?;
        *is_there = true;
        Ok(true)
    }

    /// Writes down what comes, and gives it if it is of the digest. The file has no name, so it is
    /// gone with whoever holds it.
    async fn receive<B>(&self, body: B, most: u64) -> Result<File, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let mut file = nameless()?;
        let mut body = std::pin::pin!(body);
        let mut hash = Sha256::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refused::Broken(error.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            length += piece.len() as u64;
            if length > most {
                return Err(Refused::Large(most));
            }
            hash.update(&piece);
            file.write_all(&piece)?;
        }
        let got = Digest(hash.finalize().into());
        if got != self.digest {
            return Err(Refused::Digest { got, wanted: self.digest });
        }
        file.rewind()?;
        Ok(file)
    }
}

/// A file in the folder for temporary ones, without a name.
fn nameless() -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let folder = std::env::temp_dir();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".rouse-code-{}-{number}", std::process::id()));
    // One that ended in the middle had the same id, as the first process of a pod has.
    let _ = std::fs::remove_file(&path);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Empties a folder that the image gave, and that can't be removed itself.
fn clear(folder: &Path) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

#[cfg(test)]
mod tests;
