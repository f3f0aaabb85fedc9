//! Going back to a revision: its record says what the user wrote then. What shapes no pod (scaling,
//! concurrency, most timeouts) belongs to no revision and stays as it is.

mod changes;

use k8s_openapi::api::apps::v1::ControllerRevision;
use rouse_crds::v1alpha1::Function;
use serde_json::{Map, Value, json};

pub use self::changes::{Change, changes};
use super::code::Code;
use super::names::LABEL_REVISION;
use super::{Invalid, parse_duration, revision_hash, validate};

/// Fields of a workload that stand in a spec under the same names.
const SAME: [&str; 9] =
    ["image", "port", "protocol", "env", "envFrom", "command", "args", "resources", "template"];
/// The same of a source.
const SAME_OF_SOURCE: [&str; 6] =
    ["runtime", "handler", "contract", "signature", "processes", "processConcurrency"];

/// Why there is nothing to go back to, or no way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWayBack {
    /// There is no such revision.
    #[error("there is no revision {wanted}: {known}")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is, in words.
        known: String,
    },
    /// Nothing would change.
    #[error("revision {0} is the one that the Function has already")]
    AlreadyThere(String),
    /// There is none before the one that is in force.
    #[error("there is no revision before {current}: {known}")]
    Oldest {
        /// The one that is in force.
        current: String,
        /// What there is, in words.
        known: String,
    },
    /// The Function itself can't be read.
    #[error("the Function can't be read as it is written: {0}")]
    Invalid(#[from] Invalid),
    /// The record lacks something.
    #[error(
        "the record of revision {0} can't be read by this version of rouse: use the one of the cluster"
    )]
    Unreadable(String),
    /// What the record gives is another revision.
    #[error(
        "what the record of revision {revision} gives would be revision {got}: use the version of \
         rouse that the cluster has"
    )]
    Differs {
        /// The revision that was asked for.
        revision: String,
        /// The one that came of it.
        got: String,
    },
}

/// A revision's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The revision's name.
    pub revision: String,
    /// Its number; later ones have greater ones.
    pub number: i64,
    /// What the user wrote that shapes pods.
    pub workload: Value,
    /// The code that stood in the Function.
    pub code: Option<Code>,
}

impl Record {
    /// Of its object; none where that is no record of a revision.
    pub fn read(object: &ControllerRevision) -> Option<Self> {
        let revision = object.metadata.labels.as_ref()?.get(LABEL_REVISION)?.clone();
        let data = &object.data.0;
        let workload = data.get("workload")?.clone();
        Some(Self { revision, number: object.revision?, workload, code: Code::of_record(data) })
    }
}

/// The revision that `function` is as it is written.
pub fn current(function: &Function) -> Result<String, Invalid> {
    validate(function).map(|valid| revision_hash(&valid.workload))
}

/// The record to go back to: the `wanted` one, or else the revision that serves while the `current`
/// one does not come up, or else the one before it.
pub fn choose<'a>(
    records: &'a [Record],
    current: &str,
    serving: Option<&str>,
    wanted: Option<&str>,
) -> Result<&'a Record, NoWayBack> {
    let find = |name: &str| records.iter().find(|record| record.revision == name);
    if let Some(wanted) = wanted {
        if wanted == current {
            return Err(NoWayBack::AlreadyThere(wanted.to_owned()));
        }
        let unknown =
            || NoWayBack::Unknown { wanted: wanted.to_owned(), known: known(records, current) };
        return find(wanted).ok_or_else(unknown);
    }
    if let Some(serving) = serving.filter(|serving| *serving != current).and_then(find) {
        return Ok(serving);
    }
    let number = find(current).map_or(i64::MAX, |record| record.number);
    let before = records.iter().filter(|record| record.number < number);
    before.max_by_key(|record| record.number).ok_or_else(|| NoWayBack::Oldest {
        current: current.to_owned(),
        known: known(records, current),
    })
}

fn known(records: &[Record], current: &str) -> String {
    let mut others: Vec<_> = records.iter().filter(|record| record.revision != current).collect();
    others.sort_by_key(|record| std::cmp::Reverse(record.number));
    if others.is_empty() {
        return "no other is kept".to_owned();
    }
    let names: Vec<&str> = others.iter().map(|record| record.revision.as_str()).collect();
    format!("choose one by --to: {} (newest first)", names.join(", "))
}

/// `function`, the whole object, as it was at that revision.
pub fn restore(function: &Value, record: &Record) -> Result<Value, NoWayBack> {
    let unreadable = || NoWayBack::Unreadable(record.revision.clone());
    let workload = record.workload.as_object().ok_or_else(unreadable)?;
    let mut restored = function.clone();
    let spec = restored.get_mut("spec").and_then(Value::as_object_mut).ok_or_else(unreadable)?;
    for name in SAME {
        put(spec, name, workload.get(name));
    }
    spec.remove("source");
    if let Some(source) = workload.get("source") {
        let source = restore_source(source, record.code.as_ref()).ok_or_else(unreadable)?;
        spec.insert("source".into(), source);
    }
    restore_timeouts(spec, workload).ok_or_else(unreadable)?;
    let read: Function = serde_json::from_value(restored.clone()).map_err(|_| unreadable())?;
    let got = current(&read)?;
    if got == record.revision {
        Ok(restored)
    } else {
        Err(NoWayBack::Differs { revision: record.revision.clone(), got })
    }
}

fn put(object: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    match value {
        Some(value) => object.insert(name.to_owned(), value.clone()),
        None => object.remove(name),
    };
}

fn restore_source(workload: &Value, code: Option<&Code>) -> Option<Value> {
    let mut source = Map::new();
    for name in SAME_OF_SOURCE {
        put(&mut source, name, workload.get(name));
    }
    let digest = workload.get("code")?;
    match (workload.get("url"), code) {
        (Some(url), _) => source.insert("archive".into(), json!({"url": url, "sha256": digest})),
        (None, Some(code)) => match code.texts() {
            Some(texts) => source.insert("files".into(), json!(texts)),
            None => source
                .insert("archive".into(), json!({"inline": code.to_base64(), "sha256": digest})),
        },
        (None, None) => return None,
    };
    Some(Value::Object(source))
}

/// The times that a pod is told stay as they are written where they mean the same.
fn restore_timeouts(spec: &mut Map<String, Value>, workload: &Map<String, Value>) -> Option<()> {
    let of_source = |name: &str| workload.get("source")?.get(name)?.as_u64();
    let timeouts = spec.entry("timeouts").or_insert_with(|| json!({})).as_object_mut()?;
    let millis = |timeouts: &Map<String, Value>, name: &str, default: u64| {
        let written = timeouts.get(name).and_then(Value::as_str);
        let parsed = written.and_then(|text| parse_duration("timeouts", text).ok());
        parsed.map_or(default, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    let now = millis(timeouts, "request", 300_000);
    let grace = workload.get("graceSeconds")?.as_u64()?;
    let request = match of_source("requestMillis") {
        Some(then) => then,
        None if now.div_ceil(1000) == grace => now,
        None => grace.checked_mul(1000)?,
    };
    if request != now {
        timeouts.insert("request".into(), json!(text_of(request)));
        if millis(timeouts, "firstByte", 0) > request {
            // As long as `request`, which it would be cut to anyway.
            timeouts.insert("firstByte".into(), json!("0s"));
        }
    }
    if let Some(then) = of_source("initMillis")
        && then != millis(timeouts, "activation", 60_000)
    {
        timeouts.insert("activation".into(), json!(text_of(then)));
    }
    Some(())
}

fn text_of(millis: u64) -> String {
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests;
