//! Triggers that call by the clock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Calls by the clock. Each time that the schedule names is a tick: one event, with one id, however
/// often it is sent. Ticks that were missed, while no controller ran or a Function failed, are
/// caught up.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleTrigger {
    /// When: minute, hour, day of month, month and day of week, such as `*/5 9-17 * * mon-fri`, with
    /// seconds before them if there are six; or `@hourly`, `@daily`, `@weekly`, `@monthly`,
    /// `@yearly`; or a period counted from the Trigger's creation, from 1s to 8784h, such as
    /// `@every 90s`. `L` is the last day of the month, `fri#2` its second Friday, `15W` the weekday
    /// nearest to the 15th. A time of day that the clock skips comes when the gap is over, one that
    /// comes twice counts once; what comes several times a day follows the clock as it is.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(
        "self.matches('^@(every +([0-9]{1,9}(ms|s|m|h)){1,4}|hourly|daily|midnight|weekly|monthly|yearly|annually)$') || self.matches('^[^@ ]+( +[^@ ]+){4,5}$')")
        .message("schedule.cron must have five or six fields, such as '*/5 * * * *', or be a period such as '@every 90s'"))]
    pub cron: String,
    /// Time zone of `cron` by its name in the tz database, such as `Europe/Berlin`. Default: UTC.
    #[serde(default = "default_zone")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")
    )]
    pub time_zone: String,
    /// What becomes of a tick while an earlier one is not done: `Allow` starts it beside it, up to a
    /// hundred; `Forbid` skips it; `Replace` gives the earlier one up and starts it in its stead.
    /// Default: Allow.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How late a tick may start, for example `10m`; later it is skipped. At most 8784h.
    /// Default: 0s, it is never too late.
    #[serde(default = "default_deadline")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('8784h')")
        .message("schedule.startingDeadline must be at most 8784h"))]
    pub starting_deadline: String,
    /// Which of several ticks that are due at once start: `All` of them, or the `Latest` only.
    /// Without the policy `Allow` it is always the latest. Default: All.
    #[serde(default)]
    pub catch_up: CatchUp,
}

fn default_zone() -> String {
    "UTC".into()
}

fn default_deadline() -> String {
    "0s".into()
}

/// What becomes of a tick while an earlier one is not done.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema,
)]
pub enum ConcurrencyPolicy {
    /// It starts beside it.
    #[default]
    Allow,
    /// It is skipped.
    Forbid,
    /// It starts in its stead.
    Replace,
}

/// Which of several ticks that are due at once start.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema,
)]
pub enum CatchUp {
    /// All.
    #[default]
    All,
    /// The latest.
    Latest,
}

/// How far a schedule is. Written seldom where ticks are frequent: whoever leads next sends again
/// what came since, with the same ids.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// The pattern and time zone that this speaks of: another begins anew.
    pub pattern: String,
    /// All ticks up to here are delivered, given up, or skipped.
    pub settled_until: Time,
    /// The time for which the last tick was scheduled that the Function took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered: Option<Time>,
}
