//! Counts of proofs.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What became of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub(crate) enum Outcome {
    /// The key is the activator's.
    proved,
    /// It is not: somebody else is there.
    wrong,
    /// Nobody could tell now.
    untold,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// How often activators proved themselves, or did not. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ProofMetrics {
    proofs: Family<Labels, Counter>,
}

impl ProofMetrics {
    /// Shows the counts in `registry`, whose prefix should tell the role.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Activators whose key was asked for, once for each key";
        registry.register("peer_proofs", help, metrics.proofs.clone());
        metrics
    }

    pub(crate) fn note(&self, outcome: Outcome) {
        self.proofs.get_or_create(&Labels { outcome }).inc();
    }

    #[cfg(test)]
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.proofs.get_or_create(&Labels { outcome }).get()
    }
}
