//! What a source `s3` is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rouse_core::function::{Invalid, parse_duration};
use rouse_core::s3::Scope;
use rouse_crds::v1alpha1::{S3Credentials, S3Event, S3Start, S3Trigger, SourceTls};

use crate::address::Policy;

/// What a source `s3` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// Which objects are meant.
    pub scope: Scope,
    /// What is told of them.
    pub events: BTreeSet<S3Event>,
    /// Which are told of at first.
    pub start: S3Start,
    /// How long after the beginning of a list the next one begins.
    pub interval: Duration,
    /// Bucket that keeps the ledger.
    pub ledger_bucket: String,
    /// Name of the ledger: the UID of the Trigger.
    pub own: String,
}

/// A server, and how to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its URL.
    pub endpoint: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Access key; none where requests are not signed.
    pub credentials: Option<S3Credentials>,
    /// Certificates.
    pub tls: Option<SourceTls>,
    /// Where sources may connect.
    pub policy: Arc<Policy>,
}

impl Settings {
    /// What a Trigger says; `own` is its UID.
    pub fn of(trigger: &S3Trigger, own: &str, policy: Arc<Policy>) -> Result<Self, Invalid> {
        let S3Trigger {
            endpoint,
            region,
            bucket,
            prefix,
            suffix,
            events,
            start,
            interval,
            notifications: _,
            ledger_bucket,
            credentials,
            tls,
        } = trigger.clone();
        Ok(Self {
            server: Server { endpoint, region, credentials, tls, policy },
            ledger_bucket: ledger_bucket.unwrap_or_else(|| bucket.clone()),
            scope: Scope { bucket, prefix, suffix },
            events: events.into_iter().collect(),
            start,
            interval: parse_duration("spec.s3.interval", &interval)?,
            own: own.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_becomes_settings() {
        let trigger = serde_json::json!({"endpoint": "http://minio:9000", "bucket": "pictures"});
        let trigger: S3Trigger = serde_json::from_value(trigger).unwrap();
        let settings = Settings::of(&trigger, "u", Arc::default()).unwrap();
        assert_eq!((settings.start, settings.interval), (S3Start::Latest, Duration::from_mins(5)));
        assert_eq!(settings.events, BTreeSet::from([S3Event::Created]));
        assert_eq!((settings.ledger_bucket.as_str(), settings.own.as_str()), ("pictures", "u"));
        let other = S3Trigger { ledger_bucket: Some("ledgers".into()), ..trigger };
        assert_eq!(Settings::of(&other, "u", Arc::default()).unwrap().ledger_bucket, "ledgers");
    }
}
