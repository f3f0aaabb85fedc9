//! Turns a Function as it was written into one whose values are parsed and in bounds. The API
//! server has refused most mistakes already; what is left is answered here, never assumed.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use rouse_crds::v1alpha1::{
    self as api, EnvFromSource, EnvVar, Exposure, Function, FunctionSource, FunctionSpec,
    IdlePolicy, Protocol, Resources,
};
use serde::Serialize;
use serde_json::Value;

use super::code::{CodeError, SourceWorkload, named};
use super::names::FunctionKey;
use crate::scaling::idle::Idle;
use crate::scaling::idle::economy::{Economy, Stakes};

/// Why a Function can't be used as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The object came without a field that the API server always sets.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// A duration that does not parse.
    #[error("{field}: {value:?} is not a duration such as 250ms, 90s or 1h30m")]
    Duration {
        /// Path of the field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// A quantity of bytes that does not parse.
    #[error("{field}: {value:?} is not a number of bytes such as 64Mi")]
    Bytes {
        /// Path of the field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// A number outside its bounds.
    #[error("{field}: {value} must be {rule}")]
    Range {
        /// Path of the field.
        field: &'static str,
        /// What stands there.
        value: u64,
        /// What it must be.
        rule: &'static str,
    },
    /// There is nothing to run, or more than one thing.
    #[error("exactly one of spec.image and spec.source must be given")]
    NotOne,
    /// The code can't be used.
    #[error(transparent)]
    Code(CodeError),
}

/// A Function whose values are parsed and in bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedFunction {
    /// Namespace and name.
    pub key: FunctionKey,
    /// UID of the object.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// What shapes the pods: a change of it is a new revision.
    pub workload: Workload,
    /// Requests per pod.
    pub concurrency: Concurrency,
    /// Pods.
    pub scaling: ScalingBounds,
    /// When the last pod goes.
    pub idle: Idle,
    /// How long each part of a request may take.
    pub timeouts: Timeouts,
    /// What may wait.
    pub buffer: BufferBounds,
    /// What holds for each request.
    pub rules: RequestRules,
    /// Path that a ready pod answers; none where an accepted connection is enough.
    pub readiness_path: Option<String>,
    /// Who may call it by its hosts.
    pub exposure: Exposure,
}

/// The user's fields that shape a pod. The hash of this, as JSON, names the revision: a new field
/// must be skipped while it has its default, or an upgrade of Rouse would restart every Function.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Container image; none where there is a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The code instead of an image, by its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceWorkload>,
    /// Port on which the container listens.
    pub port: u16,
    /// Protocol on that port.
    pub protocol: Protocol,
    /// Environment variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Sources of environment variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFromSource>,
    /// Entry point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Requests and limits.
    pub resources: Resources,
    /// The user's pod template.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub template: BTreeMap<String, Value>,
    /// Seconds that a stopping pod gets for what it still serves: the request timeout.
    pub grace_seconds: u64,
}

/// Requests that a pod serves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// What the scaler aims at; never above `limit`.
    pub target: NonZeroU32,
    /// What a pod never exceeds; none without a bound.
    pub limit: Option<NonZeroU32>,
}

/// How many pods run, and when they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalingBounds {
    /// Pods that always run.
    pub min: u32,
    /// Pods that may run; at least 1 and at least `min`.
    pub max: u32,
    /// Time without requests after which the Function sleeps.
    pub idle_after: Duration,
    /// Time for which the load must be lower before surplus pods go.
    pub stable_window: Duration,
}

/// How long each part of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Waiting for a pod.
    pub activation: Duration,
    /// From the pod's receiving the request to the last byte of the answer.
    pub request: Duration,
    /// To the first byte of the answer; never above `request`.
    pub first_byte: Duration,
    /// Between two bytes of the answer; none without a bound of its own.
    pub idle: Option<Duration>,
}

/// What may wait for a Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferBounds {
    /// Requests.
    pub requests: u32,
    /// Bytes of memory.
    pub bytes: u64,
}

/// What holds for each request of a Function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    /// Bytes that a body may have; none without a bound.
    pub body_limit: Option<u64>,
    /// Whether each request is logged.
    pub access_log: bool,
}

/// Validates `function`.
pub fn validate(function: &Function) -> Result<ValidatedFunction, Invalid> {
    let meta = &function.metadata;
    let name = meta.name.as_deref().ok_or(Invalid::Incomplete("metadata.name"))?;
    let namespace = meta.namespace.as_deref().ok_or(Invalid::Incomplete("metadata.namespace"))?;
    let uid = meta.uid.clone().ok_or(Invalid::Incomplete("metadata.uid"))?;
    let spec = &function.spec;
    let timeouts = validate_timeouts(spec)?;
    let workload = build_workload(spec, &timeouts)?;
    let capacity = workload.source.as_ref().and_then(SourceWorkload::capacity);
    Ok(ValidatedFunction {
        key: FunctionKey::new(namespace, name),
        uid,
        generation: meta.generation.unwrap_or_default(),
        workload,
        concurrency: validate_concurrency(spec, capacity)?,
        scaling: validate_scaling(spec)?,
        idle: idle_of(spec),
        timeouts,
        buffer: BufferBounds {
            requests: spec.buffer.requests,
            bytes: parse_bytes("spec.buffer.bytes", &spec.buffer.bytes)?,
        },
        rules: RequestRules {
            body_limit: Some(parse_bytes("spec.bodyLimit", &spec.body_limit)?).filter(|b| *b > 0),
            access_log: spec.access_log,
        },
        readiness_path: spec.readiness.http.clone(),
        exposure: spec.exposure,
    })
}

fn build_workload(spec: &FunctionSpec, timeouts: &Timeouts) -> Result<Workload, Invalid> {
    if spec.image.is_some() == spec.source.is_some() {
        return Err(Invalid::NotOne);
    }
    let source = spec.source.as_ref().map(|source| build_source(source, timeouts)).transpose()?;
    let seconds = timeouts.request.as_millis().div_ceil(1000);
    Ok(Workload {
        image: spec.image.clone(),
        source,
        port: spec.port,
        protocol: spec.protocol,
        env: spec.env.clone(),
        env_from: spec.env_from.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        resources: spec.resources.clone(),
        template: spec.template.clone(),
        grace_seconds: seconds.try_into().unwrap_or(u64::MAX),
    })
}

fn build_source(source: &FunctionSource, timeouts: &Timeouts) -> Result<SourceWorkload, Invalid> {
    let (code, url) = named(source).map_err(Invalid::Code)?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(SourceWorkload {
        runtime: source.runtime.clone(),
        handler: source.handler.clone(),
        contract: source.contract,
        signature: source.signature,
        code,
        url,
        processes: source.processes,
        process_concurrency: source.process_concurrency,
        request_millis: millis(timeouts.request),
        init_millis: millis(timeouts.activation),
    })
}

/// `capacity` is what a pod takes at once, where its contract says so: more would only wait there.
fn validate_concurrency(
    spec: &FunctionSpec,
    capacity: Option<u32>,
) -> Result<Concurrency, Invalid> {
    let limit = NonZeroU32::new(spec.concurrency.limit);
    let target = NonZeroU32::new(spec.concurrency.target).ok_or(Invalid::Range {
        field: "spec.concurrency.target",
        value: 0,
        rule: "at least 1",
    })?;
    let bounds = [limit, capacity.and_then(NonZeroU32::new)];
    Ok(Concurrency { target: bounds.into_iter().flatten().fold(target, Ord::min), limit })
}

fn validate_scaling(spec: &FunctionSpec) -> Result<ScalingBounds, Invalid> {
    let scaling = &spec.scaling;
    if scaling.max == 0 || scaling.min > scaling.max {
        return Err(Invalid::Range {
            field: "spec.scaling.max",
            value: scaling.max.into(),
            rule: "at least 1 and at least spec.scaling.min",
        });
    }
    Ok(ScalingBounds {
        min: scaling.min,
        max: scaling.max,
        idle_after: parse_duration("spec.scaling.idle.after", &scaling.idle.after)?,
        stable_window: parse_duration("spec.scaling.stableWindow", &scaling.stable_window)?,
    })
}

/// All Functions count for as much memory: what is usual for others is not known here.
const fn idle_of(spec: &FunctionSpec) -> Idle {
    let idle = &spec.scaling.idle;
    let economy = match idle.economy {
        api::Economy::Cheap => Economy::Cheap,
        api::Economy::Balanced => Economy::Balanced,
        api::Economy::Warm => Economy::Warm,
    };
    match idle.policy {
        IdlePolicy::Fixed => Idle::Fixed,
        IdlePolicy::Learned => Idle::Learned(Stakes::usual(economy)),
    }
}

fn validate_timeouts(spec: &FunctionSpec) -> Result<Timeouts, Invalid> {
    let timeouts = &spec.timeouts;
    let request = parse_duration("spec.timeouts.request", &timeouts.request)?;
    let first_byte = parse_duration("spec.timeouts.firstByte", &timeouts.first_byte)?;
    let idle = parse_duration("spec.timeouts.idle", &timeouts.idle)?;
    Ok(Timeouts {
        activation: parse_duration("spec.timeouts.activation", &timeouts.activation)?,
        request,
        first_byte: if first_byte.is_zero() { request } else { first_byte.min(request) },
        idle: (!idle.is_zero()).then_some(idle),
    })
}

/// Parses a duration as the API writes it: numbers with the units `ms`, `s`, `m`, `h`, added up.
pub fn parse_duration(field: &'static str, text: &str) -> Result<Duration, Invalid> {
    let invalid = || Invalid::Duration { field, value: text.to_owned() };
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => None,
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
        rest = tail;
    }
    Ok(total)
}

/// Parses a quantity of bytes: a whole number with `k M G` (powers of 1000) or `Ki Mi Gi`
/// (powers of 1024), or bare.
pub fn parse_bytes(field: &'static str, text: &str) -> Result<u64, Invalid> {
    let invalid = || Invalid::Bytes { field, value: text.to_owned() };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let factor = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(invalid()),
    };
    number.checked_mul(factor).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_parts() {
        let parse = |text| parse_duration("f", text);
        assert_eq!(parse("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse("1s250ms"), Ok(Duration::from_millis(1250)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "5 s", "5d", "-5s", "1.5s", "99999999999999999999s"] {
            assert!(parse(wrong).is_err(), "{wrong:?} must be refused");
        }
    }

    #[test]
    fn a_pod_of_lambda_is_given_what_its_processes_take() {
        let target = |source: serde_json::Value, concurrency: serde_json::Value| {
            let object = serde_json::json!({
                "metadata": {"name": "f", "namespace": "n", "uid": "u"},
                "spec": {"source": source, "concurrency": concurrency},
            });
            let valid = validate(&serde_json::from_value(object).unwrap()).unwrap();
            (valid.concurrency.target.get(), valid.concurrency.limit.map(NonZeroU32::get))
        };
        let source = |more: serde_json::Value| {
            let mut source = serde_json::json!({"runtime": "r", "files": {"a": "b"}});
            source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            source
        };
        let lambda = source(serde_json::json!({"contract": "Lambda"}));
        assert_eq!(target(lambda.clone(), serde_json::json!({})), (1, None));
        let more =
            serde_json::json!({"contract": "Lambda", "processes": 3, "processConcurrency": 4});
        assert_eq!(target(source(more.clone()), serde_json::json!({})), (12, None));
        assert_eq!(target(source(more), serde_json::json!({"limit": 5})), (5, Some(5)));
        assert_eq!(target(source(serde_json::json!({})), serde_json::json!({})), (80, None));
    }

    #[test]
    fn there_is_one_thing_to_run() {
        for spec in [
            serde_json::json!({}),
            serde_json::json!({"image": "i", "source": {"runtime": "r", "files": {"a": "b"}}}),
        ] {
            let object = serde_json::json!({
                "metadata": {"name": "f", "namespace": "n", "uid": "u"}, "spec": spec,
            });
            let found = validate(&serde_json::from_value(object).unwrap());
            assert_eq!(found, Err(Invalid::NotOne));
        }
    }

    #[test]
    fn bytes_know_both_kinds_of_units() {
        let parse = |text| parse_bytes("f", text);
        assert_eq!(parse("64Mi"), Ok(64 << 20));
        assert_eq!(parse("5M"), Ok(5_000_000));
        assert_eq!(parse("17"), Ok(17));
        for wrong in ["", "Mi", "5 Mi", "5Ti", "-1", "99999999999Gi"] {
            assert!(parse(wrong).is_err(), "{wrong:?} must be refused");
        }
    }
}
