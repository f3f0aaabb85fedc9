//! Turns a Trigger with a schedule into one whose values are parsed, and its ticks into events.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rouse_crds::v1alpha1::{CatchUp, ConcurrencyPolicy, EventFormat, Trigger};
use serde_json::json;

use super::{Invalid, Overlap, Rules, Schedule, tick_id};
use crate::delivery::Settings;
use crate::event::{self, CloudEvent, Data, Message, to_binary, to_event_bridge, to_structured};
use crate::function::{FunctionKey, parse_duration};
use crate::letter::letter_of;
use crate::trigger::TriggerKey;

/// A Trigger whose schedule is parsed.
#[derive(Clone, Debug)]
pub struct ValidatedSchedule {
    /// The Trigger.
    pub key: TriggerKey,
    /// UID of the Trigger.
    pub uid: Arc<str>,
    /// The Function that it calls.
    pub function: FunctionKey,
    /// When.
    pub schedule: Schedule,
    /// The pattern and its time zone as text: with another, progress means nothing.
    pub pattern: String,
    /// What holds for its ticks.
    pub rules: Rules,
    /// What holds for their deliveries.
    pub settings: Settings,
    /// When the Trigger was made: there are no ticks before.
    pub made: Timestamp,
}

impl ValidatedSchedule {
    /// The schedule of `trigger`; none where it has none, or is not from the API server.
    pub fn of(trigger: &Trigger) -> Option<Result<Self, Invalid>> {
        let spec = trigger.spec.schedule.as_ref()?;
        let meta = &trigger.metadata;
        let key = TriggerKey { namespace: meta.namespace.clone()?, name: meta.name.clone()? };
        let uid = meta.uid.as_deref()?.into();
        let made = meta.creation_timestamp.as_ref()?.0;
        let parse = || {
            let deadline =
                parse_duration("spec.schedule.startingDeadline", &spec.starting_deadline)?;
            let delivery = trigger.spec.delivery.clone().unwrap_or_default();
            Ok(Self {
                function: FunctionKey::new(&key.namespace, &trigger.spec.function),
                schedule: Schedule::parse(&spec.cron, &spec.time_zone, made)?,
                pattern: format!("{} {}", spec.cron, spec.time_zone),
                rules: Rules {
                    overlap: match spec.concurrency_policy {
                        ConcurrencyPolicy::Allow => Overlap::Allow,
                        ConcurrencyPolicy::Forbid => Overlap::Forbid,
                        ConcurrencyPolicy::Replace => Overlap::Replace,
                    },
                    deadline: (!deadline.is_zero()).then_some(deadline),
                    latest_only: spec.catch_up == CatchUp::Latest,
                },
                settings: Settings::of(&key.namespace, &delivery)?,
                key,
                uid,
                made,
            })
        };
        Some(parse())
    }

    /// The id of the tick that is scheduled for `at`.
    pub fn id(&self, at: Timestamp) -> String {
        tick_id(&self.uid, at)
    }

    /// The tick that is scheduled for `at`, as the Function gets it.
    pub fn message(&self, at: Timestamp) -> Result<Message, event::Invalid> {
        let event = self.event(at);
        match self.settings.format {
            EventFormat::CloudEvents => to_binary(&event),
            EventFormat::CloudEventsStructured => to_structured(&event),
            EventFormat::Lambda => to_event_bridge(&event, &self.key.to_string()),
        }
    }

    /// The same as a dead letter.
    pub fn dead_letter(
        &self,
        at: Timestamp,
        reason: &str,
        attempts: u32,
    ) -> Result<Message, event::Invalid> {
        to_binary(&letter_of(self.event(at), reason, attempts))
    }

    fn event(&self, at: Timestamp) -> CloudEvent {
        let TriggerKey { namespace, name } = &self.key;
        CloudEvent {
            id: self.id(at),
            source: format!("/namespaces/{namespace}/triggers/{name}"),
            kind: event::TICK.into(),
            time: at,
            subject: None,
            extensions: BTreeMap::new(),
            data: Data::Json(json!({"scheduledTime": at.to_string()})),
        }
    }
}
