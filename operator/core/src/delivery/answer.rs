//! What an answer of a Function says about the events that it was sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::Outcome;

/// The name by which an answer is known to tell of single events, as handlers of AWS Lambda do.
const MARK: &[u8] = b"batchItemFailures";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failures {
    #[serde(default)]
    batch_item_failures: Option<Vec<Failure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    #[serde(default)]
    item_identifier: Option<Arc<str>>,
}

impl Outcome {
    /// What an answer with this status and body means. A body of
    /// `{"batchItemFailures": [{"itemIdentifier": ID}]}` names the events with which the Function is
    /// not done; a name that is none stands for no event, so that all count as failed.
    pub fn of_answer(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let whole = Self::of(status, retry_after);
        if whole != Self::Done || !body.windows(MARK.len()).any(|part| part == MARK) {
            return whole;
        }
        match serde_json::from_slice::<Failures>(body) {
            Ok(Failures { batch_item_failures: None }) => Self::Done,
            Ok(Failures { batch_item_failures: Some(failures) }) if failures.is_empty() => {
                Self::Done
            }
            Ok(Failures { batch_item_failures: Some(failures) }) => {
                let names = failures.into_iter().map(|failure| failure.item_identifier);
                Self::Partly(names.map(Option::unwrap_or_default).collect::<BTreeSet<_>>())
            }
            // It speaks of failures, and nobody knows of which.
            Err(_) => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_name_what_failed() {
        let of = |body: &str| Outcome::of_answer(200, None, body.as_bytes());
        let partly = |names: &[&str]| {
            Outcome::Partly(names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<_>>())
        };
        for (body, outcome) in [
            ("", Outcome::Done),
            ("{}", Outcome::Done),
            ("not json", Outcome::Done),
            (r#"{"batchItemFailures": []}"#, Outcome::Done),
            (r#"{"batchItemFailures": null}"#, Outcome::Done),
            (r#"{"batchItemFailures": [{"itemIdentifier": "a"}]}"#, partly(&["a"])),
            (
                r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}]}"#,
                partly(&["a", "b"]),
            ),
            (r#"{"batchItemFailures": [{"id": "a"}]}"#, partly(&[""])),
            (r#"{"batchItemFailures": ["a"]}"#, Outcome::Failed),
            (r#"{"batchItemFailures": "#, Outcome::Failed),
        ] {
            assert_eq!(of(body), outcome, "{body}");
        }
        let failures = br#"{"batchItemFailures": []}"#;
        assert_eq!(Outcome::of_answer(500, None, failures), Outcome::Failed);
    }
}
