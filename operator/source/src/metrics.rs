//! The metrics of sources. The one label that users choose is the name of a Trigger of this
//! namespace; its series go with it.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub(crate) enum Fate {
    delivered,
    retried,
    dead_lettered,
    dropped,
}

const FATES: [Fate; 4] = [Fate::delivered, Fate::retried, Fate::dead_lettered, Fate::dropped];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTrigger {
    trigger: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Events {
    trigger: String,
    outcome: Fate,
}

/// What a filter says, where that is not just that the Function gets the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub(crate) enum Said {
    differs,
    unclear,
    too_large,
}

const SAID: [Said; 3] = [Said::differs, Said::unclear, Said::too_large];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Filtered {
    trigger: String,
    verdict: Said,
}

/// Handles to all metrics of sources. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    connected: Family<OfTrigger, Gauge>,
    lag: Family<OfTrigger, Gauge>,
    in_flight: Family<OfTrigger, Gauge>,
    acknowledged_at: Family<OfTrigger, Gauge>,
    events: Family<Events, Counter>,
    filtered: Family<Filtered, Counter>,
}

impl Metrics {
    /// Registers the metrics with `registry`, under names that begin with `rouse_source_`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("rouse_source");
        let metrics = Self::default();
        let m = &metrics;
        registry.register("connected", "1 while the server is there", m.connected.clone());
        let help =
            "What the server has and the Function is not done with: events, or bytes of a log";
        registry.register("lag", help, m.lag.clone());
        registry.register("in_flight", "Deliveries that are under way", m.in_flight.clone());
        let help = "When something was last acknowledged to the server, in seconds since 1970";
        registry.register("acknowledged_timestamp_seconds", help, m.acknowledged_at.clone());
        registry.register("events", "Events by what became of them", m.events.clone());
        let help = "Events that the filter kept back (differs; unclear, for want of a field), and \
                    those that were too large to be looked at and therefore delivered";
        registry.register("filtered", help, m.filtered.clone());
        metrics
    }

    /// The metrics of one Trigger.
    pub fn of(&self, trigger: &str) -> TriggerMetrics {
        let labels = OfTrigger { trigger: trigger.to_owned() };
        let fate = |outcome| {
            let labels = Events { trigger: trigger.to_owned(), outcome };
            self.events.get_or_create_owned(&labels)
        };
        let said = |verdict| {
            let labels = Filtered { trigger: trigger.to_owned(), verdict };
            self.filtered.get_or_create_owned(&labels)
        };
        TriggerMetrics {
            connected: self.connected.get_or_create_owned(&labels),
            lag: self.lag.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            acknowledged_at: self.acknowledged_at.get_or_create_owned(&labels),
            delivered: fate(Fate::delivered),
            retried: fate(Fate::retried),
            dead_lettered: fate(Fate::dead_lettered),
            dropped: fate(Fate::dropped),
            differing: said(Said::differs),
            unclear: said(Said::unclear),
            too_large: said(Said::too_large),
        }
    }

    /// Forgets a Trigger that is gone.
    pub fn forget(&self, trigger: &str) {
        let labels = OfTrigger { trigger: trigger.to_owned() };
        for family in [&self.connected, &self.lag, &self.in_flight, &self.acknowledged_at] {
            family.remove(&labels);
        }
        for outcome in FATES {
            self.events.remove(&Events { trigger: trigger.to_owned(), outcome });
        }
        for verdict in SAID {
            self.filtered.remove(&Filtered { trigger: trigger.to_owned(), verdict });
        }
    }
}

/// The metrics of one Trigger; the status tells the same numbers.
#[derive(Clone, Debug, Default)]
pub struct TriggerMetrics {
    pub(crate) connected: Gauge,
    pub(crate) lag: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) acknowledged_at: Gauge,
    pub(crate) delivered: Counter,
    pub(crate) retried: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) dropped: Counter,
    pub(crate) differing: Counter,
    pub(crate) unclear: Counter,
    pub(crate) too_large: Counter,
}
