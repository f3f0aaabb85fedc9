//! Knows the folders that the chores use. Must not create them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout.
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    }
}

/// What can be built or fetched again, outside the checkout.
pub fn cache() -> Result<PathBuf> {
    Ok(base("XDG_CACHE_HOME", ".cache")?.join("rouse"))
}

/// The root folder of the local cluster, unless another was asked for.
pub fn cluster() -> Result<PathBuf> {
    Ok(base("XDG_STATE_HOME", ".local/state")?.join("rouse/cluster"))
}

fn base(variable: &str, below_home: &str) -> Result<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    match given {
        Some(folder) => Ok(folder),
        None => Ok(std::env::home_dir()
            .with_context(|| format!("neither {variable} nor HOME is set"))?
            .join(below_home)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_where_the_root_manifest_is() {
        let manifest = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }
}
