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
    pub fn read(&self) -> io::Result<HeaderValue> {
        let fresh = self.slot().clone().filter(|(_, at)| at.elapsed() < FRESH);
        if let Some((token, _)) = fresh {
            return Ok(token);
        }
        // A kilobyte in memory: projected volumes are a tmpfs.
        let text = std::fs::read_to_string(&self.path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_renewed_is_read_again() {
        let path = std::env::temp_dir().join(format!("rouse-renewed-{}", std::process::id()));
        std::fs::write(&path, "one\n").unwrap();
        let file = TokenFile::new(path.clone());
        assert_eq!(file.read().unwrap(), "one");
        assert!(file.read().unwrap().is_sensitive());
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(file.read().unwrap(), "one");
        tokio::time::advance(FRESH).await;
        assert_eq!(file.read().unwrap(), "two");
        std::fs::write(&path, "three\n").unwrap();
        file.forget();
        assert_eq!(file.read().unwrap(), "three");
        std::fs::remove_file(&path).unwrap();
        file.forget();
        assert!(file.read().is_err());
    }
}
