//! Tests that explore a world by seeds: that it holds for each, and that it would notice what is left
//! out. A failing seed is named.

use std::fmt::Debug;

/// Runs `world` with `seeds` seeds, or as many as `ROUSE_SEEDS` says.
///
/// # Panics
/// Where one says what does not hold.
pub(crate) fn holds(seeds: u64, world: impl Fn(u64) -> Result<(), String>) {
    let told = std::env::var("ROUSE_SEEDS").ok();
    for seed in 0..told.and_then(|told| told.parse().ok()).unwrap_or(seeds) {
        if let Err(what) = world(seed) {
            panic!("seed {seed}: {what}");
        }
    }
}

/// Looks for a seed among `seeds` with which each of the `flaws` shows.
///
/// # Panics
/// Where there is none.
pub(crate) fn notices<F: Copy + Debug, T>(
    seeds: u64,
    flaws: impl IntoIterator<Item = F>,
    world: impl Fn(u64, Option<F>) -> Result<T, String>,
) {
    for flaw in flaws {
        let found = (0..seeds).find(|&seed| world(seed, Some(flaw)).is_err());
        assert!(found.is_some(), "{flaw:?} is not noticed");
    }
}
