//! Why a source can't go on.

use std::time::Duration;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a source can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server can't be reached, or the connection broke off.
    #[error("{doing}")]
    Away {
        /// What was tried, as a participle.
        doing: &'static str,
        /// What came of it.
        #[source]
        cause: Cause,
    },
    /// The server knows the credentials not, or lets them not do what is needed.
    #[error("{doing}: access denied")]
    Denied {
        /// What was tried, as a participle.
        doing: &'static str,
        /// What the server says.
        #[source]
        cause: Cause,
    },
    /// What the Trigger names is not there: a stream, a slot, a table, a bucket.
    #[error("there is no {what} {name}")]
    Missing {
        /// What sort of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What came since the last acknowledgement is gone at the server. Nobody skips it in silence:
    /// somebody must say how to go on.
    #[error("{0}")]
    Lost(String),
    /// Somebody else reads what only one may read.
    #[error("{0}")]
    InUse(String),
    /// A Secret, or a key of it, is not there.
    #[error("there is no key {key} in a Secret {secret}: create it")]
    Credentials {
        /// Name of the Secret.
        secret: String,
        /// Name of the key.
        key: String,
    },
    /// The administrator does not allow to connect there.
    #[error("{0}")]
    Forbidden(String),
    /// This build has no such source.
    #[error(
        "this build of Rouse has no source spec.{0}: take one with `--features full`, as images have"
    )]
    NotSupported(&'static str),
    /// What the Trigger or a Secret says can't be used.
    #[error("{0}")]
    Invalid(String),
}

impl Failure {
    /// The server is away, or went.
    pub fn away(doing: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Away { doing, cause: cause.into() }
    }

    /// The server denies access.
    pub fn denied(doing: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Denied { doing, cause: cause.into() }
    }

    /// One word for conditions, events and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Away { .. } => "ServerAway",
            Self::Denied { .. } => "AccessDenied",
            Self::Missing { .. } => "SourceMissing",
            Self::Lost(_) => "PositionLost",
            Self::InUse(_) => "SourceInUse",
            Self::Credentials { .. } => "SecretMissing",
            Self::Forbidden(_) => "AddressForbidden",
            Self::NotSupported(_) => "SourceNotSupported",
            Self::Invalid(_) => "SourceInvalid",
        }
    }

    /// Longest pause before the next try: what somebody must mend is looked at less often.
    pub const fn longest_pause(&self) -> Duration {
        match self {
            Self::Away { .. } | Self::Credentials { .. } | Self::InUse(_) => {
                Duration::from_secs(15)
            }
            _ => Duration::from_mins(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use rouse_core::source::{SourceHealth, SourcePod, trouble_of_source};

    use super::*;

    #[test]
    fn conditions_know_every_reason() {
        for failure in [
            Failure::away("a", "b"),
            Failure::denied("a", "b"),
            Failure::Missing { what: "stream", name: "S".into() },
            Failure::Lost("l".into()),
            Failure::InUse("u".into()),
            Failure::Credentials { secret: "s".into(), key: "k".into() },
            Failure::Forbidden("f".into()),
            Failure::NotSupported("kafka"),
            Failure::Invalid("i".into()),
        ] {
            let error = Some((failure.reason().to_owned(), failure.to_string()));
            let health = SourceHealth { generation: None, connected: false, error };
            let trouble = trouble_of_source(Some(&health), None, &SourcePod::There).unwrap();
            assert_eq!(trouble.reason, failure.reason());
        }
    }
}
