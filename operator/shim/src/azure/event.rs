//! An event as its headers say what it is, and which function it is for. Pure.

use std::collections::BTreeMap;

use http::HeaderMap;
use jiff::Timestamp;
use rouse_azure::{Function, Kind, trigger_name};
use rouse_event::TICK;
use serde_json::{Map, Value, json};

/// What the headers of an event say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    id: Option<String>,
    kind: Option<String>,
    source: Option<String>,
    subject: Option<String>,
    time: Option<Timestamp>,
}

impl Event {
    /// What the headers of a request say.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.map(ToOwned::to_owned)
        };
        Self {
            id: text("ce-id"),
            kind: text("ce-type"),
            source: text("ce-source"),
            subject: text("ce-subject"),
            time: text("ce-time").and_then(|time| time.parse().ok()),
        }
    }

    /// When a tick was due; none where this is none.
    pub fn due(&self) -> Option<Timestamp> {
        self.time.filter(|_| self.is_tick())
    }

    /// What it is known by, the same however often it is sent; none where it does not say.
    pub fn origin(&self) -> Option<String> {
        Some(format!("{} {}", self.source.as_ref()?, self.id.as_ref()?))
    }

    /// What is known of it beside what it says, as of a message of a queue.
    pub fn metadata(&self, text: &Value) -> Map<String, Value> {
        let mut known = Map::from_iter([("QueueTrigger".to_owned(), text.clone())]);
        known.extend(self.id.as_ref().map(|id| ("Id".to_owned(), json!(id))));
        known.extend(self.time.map(|time| ("InsertionTime".to_owned(), json!(time))));
        known
    }

    /// The one of `functions` of the app `app` that it is for: the only one of its kind, or the one that
    /// its Trigger is named after, or whose queue it comes from.
    pub fn receiver<'a>(
        &self,
        app: &str,
        functions: &'a BTreeMap<String, Function>,
    ) -> Option<(&'a String, &'a Function)> {
        let takes_events = |function: &Function| !matches!(function.kind, Kind::Http { .. });
        let all: Vec<_> = functions.iter().filter(|(_, it)| takes_events(it)).collect();
        let of_kind = |function: &Function| match function.kind {
            Kind::Timer(_) => self.is_tick(),
            Kind::Queue(_) => !self.is_tick(),
            Kind::Http { .. } => false,
        };
        let fit: Vec<_> = all.iter().copied().filter(|(_, it)| of_kind(it)).collect();
        match (all.as_slice(), fit.as_slice()) {
            ([only], _) | (_, [only]) => Some(*only),
            _ => fit.into_iter().find(|(name, function)| self.is_for(app, name, function)),
        }
    }

    fn is_tick(&self) -> bool {
        self.kind.as_deref() == Some(TICK)
    }

    fn is_for(&self, app: &str, name: &str, function: &Function) -> bool {
        if let Kind::Queue(queue) = &function.kind {
            return queue.name.is_some() && queue.name == self.subject;
        }
        let source = self.source.as_deref().unwrap_or_default();
        let (_, trigger) = source.rsplit_once('/').unwrap_or_default();
        trigger_name(app, name).is_some_and(|name| name == trigger)
    }
}

#[cfg(test)]
mod tests {
    use rouse_azure::App;

    use super::*;

    fn functions() -> BTreeMap<String, Function> {
        let host = json!({"customHandler": {"description": {"defaultExecutablePath": "x"}}});
        let queue = |name: &str| {
            json!({"bindings": [
                {"type": "queueTrigger", "name": "m", "direction": "in", "queueName": name},
            ]})
        };
        let timer = json!({"bindings": [
            {"type": "timerTrigger", "name": "t", "direction": "in", "schedule": "0 * * * * *"},
        ]});
        let all = [
            ("Take", queue("orders")),
            ("Tell", queue("news")),
            ("Each_Minute", timer.clone()),
            ("Nightly", timer),
        ];
        let all = all.map(|(name, text)| (name.to_owned(), text.to_string().into_bytes()));
        App::parse(host.to_string().as_bytes(), all).unwrap().functions
    }

    fn event(headers: &[(&'static str, &str)]) -> Event {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        Event::of(&headers.collect())
    }

    #[test]
    fn an_event_finds_its_function_by_its_trigger_or_its_queue() {
        let functions = functions();
        let found = |headers: &[(&'static str, &str)]| {
            let found = event(headers).receiver("shop", &functions);
            found.map(|(name, _)| name.as_str())
        };
        let tick = ("ce-type", TICK);
        let source = ("ce-source", "/namespaces/a/triggers/shop-each-minute");
        assert_eq!(found(&[tick, source]), Some("Each_Minute"));
        assert_eq!(found(&[tick, ("ce-source", "/namespaces/a/triggers/other")]), None);
        let message = ("ce-type", "dev.rouse.nats.message");
        assert_eq!(found(&[message, ("ce-subject", "news")]), Some("Tell"));
        assert_eq!(found(&[message, ("ce-subject", "other")]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn the_only_function_of_its_kind_needs_no_name() {
        let mut functions = functions();
        functions.remove("Tell");
        let found = event(&[("ce-subject", "other")]).receiver("shop", &functions).unwrap();
        assert_eq!(found.0, "Take");
        functions.retain(|name, _| name == "Nightly");
        assert_eq!(Event::default().receiver("shop", &functions).unwrap().0, "Nightly");
    }
}
