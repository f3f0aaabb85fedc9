//! Turns a Trigger whose source speaks to a server, or is called by one, into one whose values are
//! parsed. Pure.

mod health;
mod secrets;

use std::sync::Arc;

use jiff::Timestamp;
use rouse_crds::v1alpha1::{
    Address, CloudEventsTrigger, NatsTrigger, PostgresTrigger, S3Trigger, Trigger, WebhookTrigger,
};

use crate::delivery::Settings;
use crate::filter::{Filter, Mistake};
use crate::function::FunctionKey;
use crate::trigger::TriggerKey;

pub use health::{SourceHealth, SourcePod, trouble_of_source};
pub use secrets::secrets_of;

/// A Trigger whose source is parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedSource {
    /// The Trigger.
    pub key: TriggerKey,
    /// UID of the Trigger.
    pub uid: Arc<str>,
    /// The Function that it calls.
    pub function: FunctionKey,
    /// Which events the Function gets; none where it gets all.
    pub filter: Option<Filter>,
    /// What holds for deliveries.
    pub settings: Settings,
    /// Where the events come from.
    pub kind: SourceKind,
    /// How far the source was, as its status tells; none where it never was connected.
    pub checkpoint: Option<String>,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the sources")]
pub enum SourceKind {
    Nats(NatsTrigger),
    S3(S3Trigger),
    Postgres(PostgresTrigger),
    Webhook(WebhookTrigger),
    CloudEvents(CloudEventsTrigger),
}

impl SourceKind {
    /// The name of its field in a Trigger.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nats(_) => "nats",
            Self::S3(_) => "s3",
            Self::Postgres(_) => "postgres",
            Self::Webhook(_) => "webhook",
            Self::CloudEvents(_) => "cloudEvents",
        }
    }

    /// What it reads of NATS: its events, or what tells of them.
    pub fn nats(&self) -> Option<&NatsTrigger> {
        match self {
            Self::Nats(nats) => Some(nats),
            Self::S3(s3) => s3.notifications.as_ref()?.nats.as_deref(),
            Self::Postgres(_) | Self::Webhook(_) | Self::CloudEvents(_) => None,
        }
    }
}

/// The host and path at which `trigger` is called by senders of events; none where it is not.
pub fn door_of(trigger: &Trigger) -> Option<&Address> {
    let spec = &trigger.spec;
    let webhook = spec.webhook.as_ref().map(|webhook| &webhook.at);
    let entrance = || {
        let notifications = spec.s3.as_ref().and_then(|s3| s3.notifications.as_ref());
        let notifications = notifications.and_then(|told| told.http.as_ref());
        spec.cloud_events.as_ref().map(|events| &events.at).or(notifications)
    };
    webhook.or_else(|| entrance().map(|entrance| &entrance.at))
}

/// Why a source can't be used as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The filter is none.
    #[error("spec.filter: {0}")]
    Filter(#[from] Mistake),
    /// The start is none.
    #[error("{0} is no time at which to start: write one such as 2026-11-01T00:00:00Z")]
    Start(String),
    /// A duration that does not parse.
    #[error(transparent)]
    Value(#[from] crate::function::Invalid),
}

impl ValidatedSource {
    /// The source of `trigger`; none where it has none, or is not from the API server.
    pub fn of(trigger: &Trigger) -> Option<Result<Self, Invalid>> {
        let kind = kind_of(trigger)?;
        let meta = &trigger.metadata;
        let key = TriggerKey { namespace: meta.namespace.clone()?, name: meta.name.clone()? };
        let uid = meta.uid.as_deref()?.into();
        let parse = || {
            if let Some(NatsTrigger { jet_stream: Some(stream), .. }) = kind.nats() {
                Start::parse(&stream.start)?;
            }
            let delivery = trigger.spec.delivery.clone().unwrap_or_default();
            let told = trigger.status.as_ref().and_then(|status| status.source.as_ref());
            Ok(Self {
                function: FunctionKey::new(&key.namespace, &trigger.spec.function),
                filter: trigger.spec.filter.as_deref().map(Filter::parse).transpose()?,
                settings: Settings::of(&key.namespace, &delivery)?,
                key,
                uid,
                kind,
                checkpoint: told.and_then(|told| told.checkpoint.clone()),
            })
        };
        Some(parse())
    }
}

/// Where the events of `trigger` come from; none where it has no source.
pub fn kind_of(trigger: &Trigger) -> Option<SourceKind> {
    let spec = &trigger.spec;
    None.or_else(|| spec.nats.clone().map(SourceKind::Nats))
        .or_else(|| spec.s3.clone().map(SourceKind::S3))
        .or_else(|| spec.postgres.clone().map(SourceKind::Postgres))
        .or_else(|| spec.webhook.clone().map(SourceKind::Webhook))
        .or_else(|| spec.cloud_events.clone().map(SourceKind::CloudEvents))
}

/// Where a source begins that has no progress yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With all that the server has.
    Earliest,
    /// With what comes from then on.
    Latest,
    /// With what came from this time on.
    At(Timestamp),
}

impl Start {
    /// Reads `earliest`, `latest` or a time.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            time => time.parse().map(Self::At).map_err(|_| Invalid::Start(time.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(more: &serde_json::Value) -> Result<ValidatedSource, Invalid> {
        let mut spec = json!({"function": "f", "nats": {
            "servers": ["nats://n"], "jetStream": {"stream": "S", "start": "2026-02-28T00:00:00Z"},
        }});
        for (name, value) in more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let trigger = serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1",
            "kind": "Trigger",
            "metadata": {"namespace": "a", "name": "t", "uid": "u"},
            "spec": spec,
        }));
        ValidatedSource::of(&trigger.unwrap()).unwrap()
    }

    #[test]
    fn a_source_is_parsed() {
        let source = parse(&json!({"filter": "data.total > 1.0"})).unwrap();
        assert_eq!(source.kind.name(), "nats");
        assert_eq!(source.filter.unwrap().text(), "data.total > 1.0");
    }

    #[test]
    fn mistakes_name_their_field() {
        let error = parse(&json!({"filter": "data.total >"})).unwrap_err().to_string();
        assert!(error.starts_with("spec.filter: "), "{error}");
    }

    #[test]
    fn a_day_that_never_was_is_no_start() {
        let nats = json!({"servers": ["nats://n"],
            "jetStream": {"stream": "S", "start": "2026-02-30T00:00:00Z"}});
        assert!(matches!(parse(&json!({"nats": nats})), Err(Invalid::Start(_))));
        let s3 = json!({"endpoint": "http://minio:9000", "bucket": "pictures",
            "notifications": {"nats": nats}});
        assert!(matches!(parse(&json!({"nats": null, "s3": s3})), Err(Invalid::Start(_))));
    }
}
