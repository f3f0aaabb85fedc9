//! Digests and how they are written. Must not know of what.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a string can't fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The first digits of a digest: enough to tell apart what one machine holds.
pub fn short(bytes: &[u8]) -> String {
    let mut hex = sha256(bytes);
    hex.truncate(12);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest() {
        assert!(sha256(b"abc").starts_with("ba7816bf8f01cfea"));
        assert_eq!(short(b"abc"), "ba7816bf8f01");
    }
}
