//! The token by which this activator proves itself to others: a file that the kubelet renews.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use tokio::time::Instant;

/// How long a token that was read is used before the file is looked at again. The kubelet renews it
/// when a fifth of its life is left, which is minutes.
const FRESH: Duration = Duration::from_secs(10);

/// The token in a file.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(HeaderValue, Instant)>>,
}

impl TokenFile {
    pub const fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::new(None) }
    }

    /// The token as it stands in the file, or stood there moments ago.
    pub async fn read(&self) -> io::Result<HeaderValue> {
        let fresh = self.slot().clone().filter(|(_, at)| at.elapsed() < FRESH);
        if let Some((token, _)) = fresh {
            return Ok(token);
        }
        let text = tokio::fs::read_to_string(&self.path).await?;
        let mut token = HeaderValue::from_str(text.trim()).map_err(io::Error::other)?;
        token.set_sensitive(true);
        *self.slot() = Some((token.clone(), Instant::now()));
        Ok(token)
    }

    /// Reads the file again the next time: the token was not accepted.
    pub fn forget(&self) {
        *self.slot() = None;
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<(HeaderValue, Instant)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
