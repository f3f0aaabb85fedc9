//! Which Trigger holds which host and path, and what keeps the others from theirs.
//!
//! Activators (to route) and the controller (to write status) run this same code over the same
//! objects, so that what a status says is what requests meet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use rouse_crds::v1alpha1::{HttpMethod, Trigger};

use crate::delivery::Heir;
use crate::function::FunctionKey;
use crate::schedule::ValidatedSchedule;
use crate::source::{ValidatedSource, door_of};

/// Key that stands for every namespace in what the administrator says by namespace.
pub const ANY_NAMESPACE: &str = "*";

/// Suffix that stands for every host, where there is but one tenant.
pub const ANY_HOST: &str = "*";

/// What the administrator says about hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPolicy {
    /// DNS domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// Domain below which every Function with `exposure: Public` has the host `NAME.NAMESPACE`.
    pub public_domain: Option<String>,
    /// Suffixes that the Triggers of a namespace may claim: `example.com` permits `example.com`
    /// and all below it, [`ANY_HOST`] every host. [`ANY_NAMESPACE`] is a key too.
    pub suffixes: BTreeMap<String, Vec<String>>,
}

impl HostPolicy {
    fn reserves(&self, host: &str) -> bool {
        let below = |suffix: &str| is_below(host, suffix);
        below("svc")
            || below("localhost")
            || below(&self.cluster_domain)
            || self.public_domain.as_deref().is_some_and(below)
    }

    fn permits(&self, namespace: &str, host: &str) -> bool {
        [namespace, ANY_NAMESPACE]
            .iter()
            .filter_map(|key| self.suffixes.get(*key))
            .flatten()
            .any(|suffix| suffix == ANY_HOST || is_below(host, suffix))
    }
}

/// Whether `host` is `suffix` or a name below it. An empty suffix has nothing below it.
fn is_below(host: &str, suffix: &str) -> bool {
    !suffix.is_empty()
        && host.strip_suffix(suffix).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Namespace and name of a Trigger.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TriggerKey {
    /// Namespace of the Trigger.
    pub namespace: String,
    /// Name of the Trigger.
    pub name: String,
}

impl fmt::Display for TriggerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a Trigger asks for that is called at hosts and paths: by callers of its Function (`http`), or
/// by senders of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpClaim {
    /// The Trigger.
    pub trigger: TriggerKey,
    /// When it was made; the older one holds a host that two want.
    pub created: Option<Timestamp>,
    /// UID of the Trigger, which decides between two of the same age.
    pub uid: String,
    /// The Function that it calls.
    pub function: FunctionKey,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Path prefixes.
    pub paths: Vec<String>,
    /// Methods; all where empty.
    pub methods: Vec<HttpMethod>,
    /// Whether it is a door: what comes there are events, for the pod that runs the namespace's
    /// sources, and the path stands for itself alone.
    pub is_door: bool,
}

impl HttpClaim {
    /// What `trigger` asks for; none where it is not called by HTTP or has no name.
    pub fn of(trigger: &Trigger) -> Option<Self> {
        let (http, door) = (trigger.spec.http.as_ref(), door_of(trigger));
        let one = |text: &String| vec![text.clone()];
        let (hosts, paths, methods) = match (http, door) {
            (Some(http), _) => (http.hosts.clone(), http.paths.clone(), http.methods.clone()),
            (None, Some(door)) => (one(&door.host), one(&door.path), Vec::new()),
            (None, None) => return None,
        };
        let namespace = trigger.metadata.namespace.clone()?;
        Some(Self {
            created: trigger.metadata.creation_timestamp.as_ref().map(|time| time.0),
            uid: trigger.metadata.uid.clone().unwrap_or_default(),
            function: FunctionKey::new(&namespace, &trigger.spec.function),
            trigger: TriggerKey { namespace, name: trigger.metadata.name.clone()? },
            hosts,
            paths,
            methods,
            is_door: http.is_none(),
        })
    }
}

/// Why a Trigger does not get what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// There is no Function of that name in the namespace.
    #[error("there is no Function {0} in this namespace: create it or mend spec.function")]
    FunctionMissing(String),
    /// The host lies below a domain that is kept for the cluster or for Rouse.
    #[error("the host {0} lies below a domain that is reserved for the cluster: choose another")]
    HostReserved(String),
    /// The administrator did not give the namespace that host.
    #[error(
        "this namespace may not claim the host {0}: choose a host below a suffix that it was \
         given, or ask the administrator to add one (hostSuffixes in Rouse's chart)"
    )]
    HostNotPermitted(String),
    /// The schedule or its delivery does not parse.
    #[error("{0}")]
    ScheduleInvalid(String),
    /// The source, its filter or its delivery does not parse.
    #[error("{0}")]
    SourceInvalid(String),
    /// Another Trigger was there first.
    #[error(
        "{host}{path} is held by the older Trigger {holder}: choose another host or path, or delete that one"
    )]
    HostTaken {
        /// The host.
        host: String,
        /// The path.
        path: String,
        /// Who holds it.
        holder: TriggerKey,
    },
}

impl Problem {
    /// One word for conditions, events and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::FunctionMissing(_) => "FunctionMissing",
            Self::HostReserved(_) => "HostReserved",
            Self::HostNotPermitted(_) => "HostNotPermitted",
            Self::ScheduleInvalid(_) => "ScheduleInvalid",
            Self::SourceInvalid(_) => "SourceInvalid",
            Self::HostTaken { .. } => "HostTaken",
        }
    }
}

/// A host and path that a Trigger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who holds it.
    pub trigger: TriggerKey,
    /// The Function that gets the requests.
    pub function: FunctionKey,
    /// The host.
    pub host: String,
    /// The path prefix.
    pub path: String,
    /// Methods; all where empty.
    pub methods: Vec<HttpMethod>,
}

/// A host and path at which a Trigger takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorGrant {
    /// Who holds it.
    pub trigger: TriggerKey,
    /// The host.
    pub host: String,
    /// The path, which stands for itself alone.
    pub path: String,
}

/// Who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// All hosts and paths of Functions that are in force.
    pub grants: Vec<Grant>,
    /// All those of sources.
    pub doors: Vec<DoorGrant>,
    /// What keeps a Trigger from all or part of what it asks for. A Trigger that is not here got
    /// everything.
    pub problems: BTreeMap<TriggerKey, BTreeSet<Problem>>,
}

/// Decides which claims are in force. A host belongs to the namespace of the oldest Trigger that
/// may claim it; within that namespace each pair of host and path to the oldest Trigger that asks
/// for it. A Trigger whose Function is missing keeps its hosts, so that the order in which objects
/// are applied does not matter, but gets no grant.
pub fn decide_claims(
    claims: &[HttpClaim],
    functions: &BTreeSet<FunctionKey>,
    policy: &HostPolicy,
) -> Verdicts {
    let mut ordered: Vec<&HttpClaim> = claims.iter().collect();
    ordered.sort_by_key(|claim| (claim.created, &claim.trigger, &claim.uid));
    let mut verdicts = Verdicts::default();
    let mut holders = Holders::default();
    for claim in ordered {
        let mut problems = BTreeSet::new();
        let function_exists = functions.contains(&claim.function);
        if !function_exists {
            problems.insert(Problem::FunctionMissing(claim.function.name.to_string()));
        }
        for host in &claim.hosts {
            if let Some(problem) = check_host(&claim.trigger.namespace, host, policy) {
                problems.insert(problem);
                continue;
            }
            for path in &claim.paths {
                match holders.take(&claim.trigger, host, path) {
                    Ok(()) if !function_exists => {}
                    Ok(()) if claim.is_door => verdicts.doors.push(door(claim, host, path)),
                    Ok(()) => verdicts.grants.push(grant(claim, host, path)),
                    Err(problem) => {
                        problems.insert(problem);
                    }
                }
            }
        }
        if !problems.is_empty() {
            verdicts.problems.insert(claim.trigger.clone(), problems);
        }
    }
    verdicts
}

/// What keeps a Trigger that brings events from it; nothing where it brings requests.
pub fn event_problems(trigger: &Trigger, functions: &BTreeSet<FunctionKey>) -> BTreeSet<Problem> {
    let (function, settings) = match (ValidatedSchedule::of(trigger), ValidatedSource::of(trigger))
    {
        (None, None) => return BTreeSet::new(),
        (Some(Err(error)), _) => {
            return BTreeSet::from([Problem::ScheduleInvalid(error.to_string())]);
        }
        (_, Some(Err(error))) => {
            return BTreeSet::from([Problem::SourceInvalid(error.to_string())]);
        }
        (Some(Ok(schedule)), _) => (schedule.function, schedule.settings),
        (None, Some(Ok(source))) => (source.function, source.settings),
    };
    let heir = settings.dead_letter.as_ref().and_then(Heir::function);
    let called = [Some(&function), heir].into_iter().flatten();
    let missing = called.filter(|key| !functions.contains(key));
    missing.map(|key| Problem::FunctionMissing(key.name.to_string())).collect()
}

fn check_host(namespace: &str, host: &str, policy: &HostPolicy) -> Option<Problem> {
    if policy.reserves(host) {
        Some(Problem::HostReserved(host.to_owned()))
    } else if !policy.permits(namespace, host) {
        Some(Problem::HostNotPermitted(host.to_owned()))
    } else {
        None
    }
}

fn grant(claim: &HttpClaim, host: &str, path: &str) -> Grant {
    Grant {
        trigger: claim.trigger.clone(),
        function: claim.function.clone(),
        host: host.to_owned(),
        path: path.to_owned(),
        methods: claim.methods.clone(),
    }
}

fn door(claim: &HttpClaim, host: &str, path: &str) -> DoorGrant {
    let (host, path) = (host.to_owned(), path.to_owned());
    DoorGrant { trigger: claim.trigger.clone(), host, path }
}

/// Who holds each host and path so far.
#[derive(Default)]
struct Holders<'a> {
    hosts: HashMap<&'a str, &'a TriggerKey>,
    paths: HashMap<(&'a str, &'a str), &'a TriggerKey>,
}

impl<'a> Holders<'a> {
    fn take(&mut self, who: &'a TriggerKey, host: &'a str, path: &'a str) -> Result<(), Problem> {
        let first = self.hosts.entry(host).or_insert(who);
        let holder = if first.namespace == who.namespace {
            *self.paths.entry((host, path)).or_insert(who)
        } else {
            *first
        };
        if holder == who {
            return Ok(());
        }
        Err(Problem::HostTaken {
            host: host.to_owned(),
            path: path.to_owned(),
            holder: holder.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(namespace: &str, name: &str, age: i64, hosts: &[&str], paths: &[&str]) -> HttpClaim {
        HttpClaim {
            trigger: TriggerKey { namespace: namespace.into(), name: name.into() },
            created: Timestamp::from_second(1_000_000 - age).ok(),
            uid: name.into(),
            function: FunctionKey::new(namespace, "f"),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            paths: paths.iter().map(ToString::to_string).collect(),
            methods: vec![],
            is_door: false,
        }
    }

    fn policy() -> HostPolicy {
        HostPolicy {
            cluster_domain: "cluster.local".into(),
            public_domain: Some("fn.example.org".into()),
            suffixes: BTreeMap::from([
                ("a".into(), vec!["example.com".into()]),
                (ANY_NAMESPACE.into(), vec!["shared.example.net".into()]),
            ]),
        }
    }

    fn decide(claims: &[HttpClaim]) -> Verdicts {
        let functions = BTreeSet::from([FunctionKey::new("a", "f"), FunctionKey::new("b", "f")]);
        decide_claims(claims, &functions, &policy())
    }

    fn reasons(verdicts: &Verdicts, namespace: &str, name: &str) -> Vec<&'static str> {
        let key = TriggerKey { namespace: namespace.into(), name: name.into() };
        verdicts.problems.get(&key).into_iter().flatten().map(Problem::reason).collect()
    }

    #[test]
    fn schedules_need_their_functions_and_must_parse() {
        let problems = |spec: serde_json::Value| {
            let trigger = serde_json::from_value(serde_json::json!({
                "apiVersion": "rouse.dev/v1alpha1",
                "kind": "Trigger",
                "metadata": {
                    "namespace": "a", "name": "t", "uid": "u",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                },
                "spec": spec,
            }));
            let functions = BTreeSet::from([FunctionKey::new("a", "f")]);
            let problems = event_problems(&trigger.unwrap(), &functions);
            problems.iter().map(Problem::reason).collect::<Vec<_>>()
        };
        let daily = serde_json::json!({"cron": "@daily"});
        assert!(problems(serde_json::json!({"function": "f", "schedule": daily})).is_empty());
        assert_eq!(
            problems(serde_json::json!({
                "function": "gone", "schedule": daily,
                "delivery": {"deadLetter": {"function": "gone-too"}},
            })),
            ["FunctionMissing", "FunctionMissing"]
        );
        let never = serde_json::json!({"cron": "0 0 30 2 *"});
        assert_eq!(
            problems(serde_json::json!({"function": "f", "schedule": never})),
            ["ScheduleInvalid"]
        );
    }

    #[test]
    fn a_door_is_claimed_like_a_host_and_path_of_requests() {
        let trigger = serde_json::from_value(serde_json::json!({
            "apiVersion": "rouse.dev/v1alpha1",
            "kind": "Trigger",
            "metadata": {
                "namespace": "a", "name": "hook", "uid": "u",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"function": "f", "webhook": {
                "host": "api.example.com", "path": "/github", "sender": "GitHub",
                "secret": {"name": "s", "key": "k"},
            }},
        }));
        let hook = HttpClaim::of(&trigger.unwrap()).unwrap();
        let verdicts = decide(&[
            hook.clone(),
            claim("a", "t", 9, &["api.example.com"], &["/"]),
            claim("b", "foreign", 1, &["api.example.com"], &["/other"]),
        ]);
        assert_eq!(verdicts.grants.len(), 1);
        let [door] = &verdicts.doors[..] else { panic!("{verdicts:?}") };
        assert_eq!((&*door.host, &*door.path), ("api.example.com", "/github"));
        let older = claim("a", "t", 9, &["api.example.com"], &["/github"]);
        let verdicts = decide(&[hook, older]);
        assert_eq!(reasons(&verdicts, "a", "hook"), ["HostTaken"]);
        assert_eq!(verdicts.doors, []);
    }

    #[test]
    fn a_permitted_host_is_granted() {
        let verdicts = decide(&[claim("a", "t", 1, &["api.example.com"], &["/"])]);
        assert_eq!(verdicts.problems, BTreeMap::new());
        assert_eq!(verdicts.grants.len(), 1);
    }

    #[test]
    fn suffixes_end_at_a_dot() {
        let verdicts = decide(&[claim("a", "t", 1, &["evilexample.com"], &["/"])]);
        assert_eq!(reasons(&verdicts, "a", "t"), ["HostNotPermitted"]);
        assert_eq!(verdicts.grants, []);
    }

    #[test]
    fn who_may_claim_every_host_may_not_claim_those_of_the_cluster() {
        let any = BTreeMap::from([("a".to_owned(), vec![ANY_HOST.to_owned()])]);
        let policy = HostPolicy { suffixes: any, ..policy() };
        let functions = BTreeSet::from([FunctionKey::new("a", "f")]);
        let decide = |host| {
            let claims = [claim("a", "t", 1, &[host], &["/"])];
            let verdicts = decide_claims(&claims, &functions, &policy);
            reasons(&verdicts, "a", "t").join(" ")
        };
        assert_eq!((&*decide("any.example.org"), &*decide("x.y.svc")), ("", "HostReserved"));
    }

    #[test]
    fn hosts_of_the_cluster_and_of_rouse_are_reserved() {
        for host in ["x.y.svc", "x.y.svc.cluster.local", "a.b.fn.example.org", "fn.example.org"] {
            let verdicts = decide(&[claim("a", "t", 1, &[host], &["/"])]);
            assert_eq!(reasons(&verdicts, "a", "t"), ["HostReserved"], "{host}");
        }
    }

    #[test]
    fn the_oldest_trigger_holds_a_host_whatever_the_order() {
        let old = claim("a", "old", 9, &["x.shared.example.net"], &["/"]);
        let new = claim("b", "new", 1, &["x.shared.example.net"], &["/other"]);
        for claims in [[old.clone(), new.clone()], [new, old]] {
            let verdicts = decide(&claims);
            assert_eq!(reasons(&verdicts, "a", "old"), [""; 0]);
            assert_eq!(reasons(&verdicts, "b", "new"), ["HostTaken"]);
        }
    }

    #[test]
    fn triggers_of_one_namespace_share_a_host_by_paths() {
        let verdicts = decide(&[
            claim("a", "one", 9, &["api.example.com"], &["/v1"]),
            claim("a", "two", 1, &["api.example.com"], &["/v2", "/v1"]),
        ]);
        assert_eq!(reasons(&verdicts, "a", "two"), ["HostTaken"]);
        assert_eq!(verdicts.grants.len(), 2);
    }

    #[test]
    fn a_missing_function_keeps_its_host_without_a_grant() {
        let mut missing = claim("a", "old", 9, &["api.example.com"], &["/"]);
        missing.function = FunctionKey::new("a", "missing");
        let verdicts = decide(&[missing, claim("a", "new", 1, &["api.example.com"], &["/"])]);
        assert_eq!(reasons(&verdicts, "a", "old"), ["FunctionMissing"]);
        assert_eq!(reasons(&verdicts, "a", "new"), ["HostTaken"]);
        assert_eq!(verdicts.grants, []);
    }
}
