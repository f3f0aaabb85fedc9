//! What an object waits for between being right and being ready: that every activator has a route
//! for it, so that whoever is told that it is ready may call it at once, wherever the call goes.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rouse_core::function::FunctionKey;
use rouse_core::function::status::Trouble;
use rouse_core::reach::Reach;
use rouse_crds::v1alpha1::{ConditionType, Function};
use tokio::time::Instant;

use crate::context::Context;
use crate::reports::routes::UNHEARD_GRACE;

/// A wait that is shorter is not told: activators mostly know an object before its children are
/// written, and a status for each step would double the writes.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// A wait that goes on.
#[derive(Debug)]
pub(crate) struct Wait {
    pub trouble: Trouble,
    /// Until when it is not told.
    quiet_until: Instant,
}

impl Wait {
    /// What an object of this kind waits for since `since`; none when it is reached everywhere.
    pub fn of(reach: &Reach, kind: &str, since: Instant) -> Option<Self> {
        let trouble = reach.trouble(kind)?;
        Some(Self { trouble, quiet_until: since + QUIET })
    }

    /// Whether a status with these conditions is not worth writing yet: it says nothing but that
    /// the object waits.
    pub fn holds(&self, conditions: &[Condition]) -> bool {
        let reason = self.trouble.reason;
        Instant::now() < self.quiet_until && ready(conditions).is_some_and(|c| c.reason == reason)
    }

    /// When to look again, though nobody says that anything changed: a silent activator is not
    /// waited for any longer then.
    pub fn again(&self) -> Instant {
        let now = Instant::now();
        if now < self.quiet_until { self.quiet_until } else { now + UNHEARD_GRACE }
    }
}

/// What `function` waits for. Once it was reached everywhere, or ready, it waits no more until its
/// spec changes: who comes later lists everything before it takes requests.
pub(crate) fn await_routes(
    context: &Context,
    function: &Function,
    key: &FunctionKey,
) -> Option<Wait> {
    let conditions = function.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if is_ready(conditions, function.metadata.generation) {
        return None;
    }
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let sighting = context.memory.sight(function);
    if sighting.routed {
        return None;
    }
    let names = (&key.namespace, &key.name);
    let reach = context.reports.routes.await_function(uid, sighting.version, names);
    let wait = Wait::of(&reach, "Function", sighting.at);
    if wait.is_none() {
        context.memory.note_routed(uid);
    }
    wait
}

/// Whether `conditions` say of this generation that it is ready.
pub(crate) fn is_ready(conditions: &[Condition], generation: Option<i64>) -> bool {
    ready(conditions).is_some_and(|c| c.status == "True" && c.observed_generation == generation)
}

fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str())
}
