//! Which objects of a bucket a Trigger is about.

use serde::{Deserialize, Serialize};

/// Below this Rouse keeps its ledgers, in any bucket; nobody is told of them.
pub const OWN: &str = ".rouse/";

/// Which objects of a bucket a Trigger is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The bucket.
    pub bucket: String,
    /// How keys begin.
    pub prefix: String,
    /// How keys end.
    pub suffix: String,
}

impl Scope {
    /// Whether an object is meant.
    pub fn has(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && key.ends_with(&self.suffix) && !key.starts_with(OWN)
    }
}
