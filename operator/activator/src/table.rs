//! The table of routes, built from what the index knows. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rouse_core::function::FunctionKey;
use rouse_core::routing::{Destination, RouteTable};
use rouse_core::trigger::{HostPolicy, decide_claims};

use crate::function::FunctionHandle;
use crate::observe::index::Index;

/// A table of routes to Functions.
pub type Table = RouteTable<Arc<FunctionHandle>>;

/// The table in force.
pub type SharedTable = Arc<ArcSwap<Table>>;

/// Builds the table of all Functions that have a handle, by `handle_of` their UID.
pub fn build_table(
    index: &Index,
    policy: &HostPolicy,
    handle_of: impl Fn(&str) -> Option<Arc<FunctionHandle>>,
) -> Table {
    let claims = index.claims();
    let keys: BTreeSet<FunctionKey> = if claims.is_empty() {
        BTreeSet::new()
    } else {
        index.functions().map(|function| function.key.clone()).collect()
    };
    let verdicts = decide_claims(&claims, &keys, policy);
    let destinations = index.functions().filter_map(|function| {
        let destination =
            Destination { public: function.settings.public, target: handle_of(&function.uid)? };
        Some((function.key.clone(), destination))
    });
    let mut table = RouteTable::build(destinations, &verdicts.grants, policy);
    table.hang(&verdicts.doors, |namespace| index.doors(namespace));
    table
}
