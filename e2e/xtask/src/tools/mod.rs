//! The programs that the chores run but Rust doesn't give: where they are and how to get them.
//! Must not know what the chores do with them.

mod build;
pub mod catalog;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
pub use build::ensure;

use crate::folders;
use catalog::Recipe;

/// Path of `program`, which comes from `recipe`. It is there after [`ensure`].
pub fn path(recipe: &Recipe, program: &str) -> Result<PathBuf> {
    Ok(recipe.folder(&folders::cache()?).join(program))
}

/// A search path with the programs of `recipes` before the system's.
pub fn search_path(recipes: &[&Recipe]) -> Result<OsString> {
    let cache = folders::cache()?;
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let own = recipes.iter().map(|recipe| recipe.folder(&cache));
    Ok(std::env::join_paths(own.chain(system.map(PathBuf::from)))?)
}
