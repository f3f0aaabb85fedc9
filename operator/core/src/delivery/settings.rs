//! What a Trigger says about deliveries, parsed.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use rouse_crds::v1alpha1::{DeadLetter, Delivery, EventFormat, NatsDeadLetters};

use super::{Acks, Backoff, GivenUp, Policy};
use crate::function::{FunctionKey, Invalid, parse_duration};

/// Who gets dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heir {
    /// Another Function.
    Function(FunctionKey),
    /// A stream.
    Nats(Box<NatsDeadLetters>),
}

impl Heir {
    fn of(namespace: &str, letter: &DeadLetter) -> Option<Self> {
        let DeadLetter { function, nats } = letter;
        let function =
            function.as_ref().map(|name| Self::Function(FunctionKey::new(namespace, name)));
        function.or_else(|| nats.clone().map(Box::new).map(Self::Nats))
    }

    /// The Function; none where it is something else.
    pub const fn function(&self) -> Option<&FunctionKey> {
        match self {
            Self::Function(key) => Some(key),
            Self::Nats(_) => None,
        }
    }
}

/// What holds for the deliveries of a Trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When events are sent again, and given up.
    pub policy: Policy,
    /// How long an attempt may take; none where the Function's own timeouts are enough.
    pub timeout: Option<Duration>,
    /// Who gets dead letters.
    pub dead_letter: Option<Heir>,
    /// What the Function gets.
    pub format: EventFormat,
}

impl Settings {
    /// The settings of a Trigger in `namespace` whose source takes acknowledgements of single events
    /// and waits for them as long as it is told nothing.
    pub fn of(namespace: &str, delivery: &Delivery) -> Result<Self, Invalid> {
        let Delivery { attempts, backoff, timeout, max_age, dead_letter, format, batch } = delivery;
        let batch = batch.as_ref().and_then(|batch| usize::try_from(batch.size).ok());
        let positive = |field, text| {
            let parsed = parse_duration(field, text)?;
            Ok((!parsed.is_zero()).then_some(parsed))
        };
        let (min, max) = backoff.split_once("..").unwrap_or((backoff, backoff));
        let field = "spec.delivery.backoff";
        let dead_letter = dead_letter.as_ref().and_then(|letter| Heir::of(namespace, letter));
        Ok(Self {
            policy: Policy {
                attempts: NonZeroU32::new(*attempts).unwrap_or(NonZeroU32::MIN),
                backoff: Backoff {
                    min: parse_duration(field, min)?,
                    max: parse_duration(field, max)?,
                },
                max_age: positive("spec.delivery.maxAge", max_age)?,
                batch: batch.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN),
                patience: None,
                acks: Acks::Each,
                given_up: if dead_letter.is_some() { GivenUp::Stored } else { GivenUp::Dropped },
            },
            timeout: positive("spec.delivery.timeout", timeout)?,
            dead_letter,
            format: *format,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_parsed() {
        let settings = Settings::of("shop", &Delivery::default()).unwrap();
        let Policy { attempts, backoff, max_age, given_up, .. } = settings.policy;
        assert_eq!((attempts.get(), max_age, given_up), (5, None, GivenUp::Dropped));
        assert_eq!(backoff, Backoff { min: Duration::from_secs(1), max: Duration::from_mins(5) });
        assert_eq!((settings.timeout, settings.dead_letter), (None, None));
    }

    #[test]
    fn what_is_given_up_is_stored_where_there_is_a_place() {
        let delivery = serde_json::json!({"deadLetter": {"function": "undertaker"}});
        let delivery = serde_json::from_value(delivery).unwrap();
        let settings = Settings::of("shop", &delivery).unwrap();
        assert_eq!(settings.policy.given_up, GivenUp::Stored);
        assert_eq!(
            settings.dead_letter,
            Some(Heir::Function(FunctionKey::new("shop", "undertaker")))
        );
    }

    #[test]
    fn batches_are_as_large_as_they_may_be() {
        let delivery = serde_json::from_value(serde_json::json!({"batch": {"size": 50}})).unwrap();
        assert_eq!(Settings::of("shop", &delivery).unwrap().policy.batch.get(), 50);
    }

    #[test]
    fn mistakes_name_their_field() {
        let delivery = Delivery { backoff: "1s..soon".into(), ..Delivery::default() };
        let error = Settings::of("shop", &delivery).unwrap_err().to_string();
        assert!(error.starts_with("spec.delivery.backoff"), "{error}");
    }
}
