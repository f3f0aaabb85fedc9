//! Files that may be there or not. Must not know what they are for.

use std::io::{self, ErrorKind};
use std::path::Path;

/// Removes a file, or sees that there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
