//! Counts what the process allocates, in builds with the feature `count-allocations`: the benchmark
//! holds a request to a budget. What is released is built without it.

use std::alloc::System;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Shows the counts among the metrics.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Allocations));
}

#[derive(Debug)]
struct Allocations;

impl Collector for Allocations {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stats = ALLOCATOR.stats();
        let made = stats.allocations.saturating_add(stats.reallocations);
        for (name, help, count) in [
            ("rouse_allocations", "Allocations and reallocations", made),
            ("rouse_allocated_bytes", "Bytes that were allocated", stats.bytes_allocated),
        ] {
            let counter = ConstCounter::new(u64::try_from(count).unwrap_or(u64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
