//! What the activator keeps of an object of the cluster: a small part, so that ten thousand
//! sleeping Functions are cheap. Pure; objects that lack what Rouse gives to its own are none of
//! its business and become nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerPort, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rouse_core::function::names::{
    ANNOTATION_CLAIM, ANNOTATION_CODE, ANNOTATION_DELETION_COST, ANNOTATION_PROTOCOL, CODE_FETCHED,
    CODE_PUSHED, CONTAINER, CONTROL_PORT, CONTROL_PORT_NAME, LABEL_FUNCTION_UID, LABEL_REVISION,
    MEMBERSHIP_KEY, PROTOCOL_H2C,
};
use rouse_core::function::start_failure::{self, StartFailure};
use rouse_core::function::{FunctionKey, RequestRules, Timeouts, validate};
use rouse_core::handover::ClaimId;
use rouse_core::membership::Membership;
use rouse_core::resident::DOORS_PORT;
use rouse_core::scaling::Policy;
use rouse_core::schedule::{Schedule, ValidatedSchedule};
use rouse_core::trigger::{HttpClaim, TriggerKey};
use rouse_core::usage;
use rouse_crds::v1alpha1::{Exposure, Function, Learned, Protocol, Trigger};

use crate::admission::Bounds;

/// A Function.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionSeen {
    /// Namespace and name.
    pub key: FunctionKey,
    /// UID of the object.
    pub uid: Arc<str>,
    /// Version of the object; those of all Functions are ordered.
    pub version: u64,
    /// What the spec asks for; none where the spec is not valid.
    pub settings: Option<Settings>,
    /// The newest revision that has ever answered, by the status.
    pub latest_ready: Option<Arc<str>>,
    /// The newest revision, by the status.
    pub latest_created: Option<Arc<str>>,
    /// What an owner learned of it, by the status.
    pub learned: Option<Arc<Learned>>,
}

/// What the spec of a Function asks of the activator.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// When to scale.
    pub policy: Policy,
    /// What goes through and what waits.
    pub bounds: Bounds,
    /// How long each part of a request may take.
    pub timeouts: Timeouts,
    /// What holds for each request.
    pub rules: RequestRules,
    /// Path that a ready pod answers; none where an accepted connection is enough.
    pub readiness_path: Option<Arc<str>>,
    /// Whether the public port reaches it.
    pub public: bool,
}

impl FunctionSeen {
    /// What is kept of `function`.
    pub fn of(function: &Function) -> Option<Self> {
        let meta = &function.metadata;
        let key = FunctionKey::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        let settings = validate(function)
            .inspect_err(|error| tracing::warn!(function = %key, %error, "not valid"))
            .ok()
            .map(|valid| Settings {
                policy: Policy::of(&valid),
                bounds: Bounds { concurrency: valid.concurrency, buffer: valid.buffer },
                timeouts: valid.timeouts,
                rules: valid.rules,
                readiness_path: valid.readiness_path.map(Arc::from),
                public: valid.exposure == Exposure::Public,
            });
        let revision = |pick: fn(&rouse_crds::v1alpha1::FunctionStatus) -> &Option<String>| {
            function.status.as_ref().and_then(|status| pick(status).as_deref().map(Arc::from))
        };
        Some(Self {
            key,
            uid: meta.uid.as_deref()?.into(),
            version: version(meta),
            settings,
            latest_ready: revision(|status| &status.latest_ready),
            latest_created: revision(|status| &status.latest_created),
            learned: function.status.as_ref().and_then(|s| s.learned.clone()).map(Arc::new),
        })
    }
}

/// A Trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerSeen {
    /// Namespace and name.
    pub key: TriggerKey,
    /// Version of the object; those of all Triggers are ordered.
    pub version: u64,
    /// What it asks for; none where it is of a kind that the activator does not route.
    pub claim: Option<HttpClaim>,
    /// When it calls its Function by the clock; none where it does not.
    pub ticks: Option<Arc<Ticks>>,
}

/// When a Trigger calls its Function by the clock.
#[derive(Clone, Debug)]
pub struct Ticks {
    /// The Function.
    pub function: FunctionKey,
    /// The pattern and its time zone as text.
    pattern: String,
    made: Timestamp,
    /// The ticks.
    pub schedule: Schedule,
}

/// Two are the same if they are written alike.
impl PartialEq for Ticks {
    fn eq(&self, other: &Self) -> bool {
        let Self { function, pattern, made, schedule: _ } = self;
        (function, pattern, made) == (&other.function, &other.pattern, &other.made)
    }
}

impl Eq for Ticks {}

impl Ticks {
    /// Those of `trigger`. The controller tells what is wrong with one that does not parse.
    fn of(trigger: &Trigger) -> Option<Self> {
        let ValidatedSchedule { function, pattern, made, schedule, .. } =
            ValidatedSchedule::of(trigger)?.ok()?;
        Some(Self { function, pattern, made, schedule })
    }
}

impl TriggerSeen {
    /// What is kept of `trigger`.
    pub fn of(trigger: &Trigger) -> Option<Self> {
        let meta = &trigger.metadata;
        let key = TriggerKey { namespace: meta.namespace.clone()?, name: meta.name.clone()? };
        let ticks = Ticks::of(trigger).map(Arc::new);
        Some(Self { key, version: version(meta), claim: HttpClaim::of(trigger), ticks })
    }
}

/// How code comes to a pod with source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeWay {
    /// The activator pushes it.
    Pushed,
    /// The pod fetches it.
    Fetched,
}

/// The Deployment of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentSeen {
    /// UID of the object.
    pub uid: Arc<str>,
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// UID of the Function.
    pub function_uid: Arc<str>,
    /// Hash of the revision.
    pub revision: Arc<str>,
    /// Pods that it is told to have.
    pub replicas: u32,
    /// Grows with each change of the object.
    pub version: u64,
    /// Memory that a pod of it counts for, in bytes.
    pub memory: u64,
    /// Whether its pods have source, and where their code comes from.
    pub code: Option<CodeWay>,
    /// Why its pods are not even made.
    pub failure: Option<StartFailure>,
}

impl DeploymentSeen {
    /// What is kept of `deployment`.
    pub fn of(deployment: &Deployment) -> Option<Self> {
        let meta = &deployment.metadata;
        let replicas = deployment.spec.replicas.unwrap_or(1);
        Some(Self {
            uid: meta.uid.as_deref()?.into(),
            namespace: meta.namespace.as_deref()?.into(),
            name: meta.name.as_deref()?.into(),
            function_uid: label(meta, LABEL_FUNCTION_UID)?,
            revision: label(meta, LABEL_REVISION)?,
            replicas: u32::try_from(replicas).unwrap_or_default(),
            version: version(meta),
            memory: deployment
                .spec
                .template
                .spec
                .as_ref()
                .map_or(usage::NOMINAL_MEMORY, usage::memory_of),
            code: deployment.spec.template.metadata.as_ref().and_then(code_way),
            failure: start_failure::of_deployment(deployment),
        })
    }
}

/// A pod of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that somebody else reports")]
pub struct PodSeen {
    /// UID of the object.
    pub uid: Arc<str>,
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// UID of the Function.
    pub function_uid: Arc<str>,
    /// Hash of the revision.
    pub revision: Arc<str>,
    /// When the object was made, by the API server's clock.
    pub made: Option<Timestamp>,
    /// Whether it has a node.
    pub scheduled: bool,
    /// Where its container listens, once that is known.
    pub address: Option<SocketAddr>,
    /// What its container speaks.
    pub protocol: Protocol,
    /// Whether it has source, and where its code comes from.
    pub code: Option<CodeWay>,
    /// Port at which it is asked of its source, where it has any.
    pub control_port: u16,
    /// Memory that it counts for, in bytes.
    pub memory: u64,
    /// It was told to stop, or has ended.
    pub going: bool,
    /// The kubelet holds it for ready.
    pub ready: bool,
    /// Its container runs.
    pub running: bool,
    /// How often its container has ended.
    pub exits: u32,
    /// Why it does not start.
    pub failure: Option<StartFailure>,
    /// What the controller of `ReplicaSet`s shall think that its loss costs.
    pub deletion_cost: i32,
    /// Who claimed it.
    pub claim: Option<ClaimId>,
}

impl PodSeen {
    /// What is kept of `pod`.
    pub fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let port = port_of(pod)?;
        let ip = status.and_then(|status| status.pod_ip.as_deref()).and_then(parse_ip);
        let annotation = |name| meta.annotations.as_ref().and_then(|all| all.get(name));
        let cost = annotation(ANNOTATION_DELETION_COST);
        let h2c = annotation(ANNOTATION_PROTOCOL).is_some_and(|value| value == PROTOCOL_H2C);
        Some(Self {
            uid: meta.uid.as_deref()?.into(),
            namespace: meta.namespace.as_deref()?.into(),
            name: meta.name.as_deref()?.into(),
            function_uid: label(meta, LABEL_FUNCTION_UID)?,
            revision: label(meta, LABEL_REVISION)?,
            made: meta.creation_timestamp.as_ref().map(|time| time.0),
            scheduled: pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()),
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            protocol: if h2c { Protocol::H2c } else { Protocol::Http1 },
            code: code_way(meta),
            control_port: control_port_of(pod),
            memory: pod.spec.as_ref().map_or(usage::NOMINAL_MEMORY, usage::memory_of),
            going: meta.deletion_timestamp.is_some()
                || matches!(phase, Some("Failed" | "Succeeded")),
            ready: status.is_some_and(is_ready),
            running: status.is_some_and(is_running),
            exits: start_failure::exits(pod),
            failure: start_failure::of_pod(pod),
            deletion_cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or_default(),
            claim: annotation(ANNOTATION_CLAIM).map(|claim| Arc::<str>::from(&**claim).into()),
        })
    }
}

/// A pod that runs the sources of its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePodSeen {
    /// UID of the object.
    pub uid: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
    /// Where it takes events, while it does.
    pub doors: Option<SocketAddr>,
}

impl SourcePodSeen {
    /// What is kept of `pod`.
    pub fn of(pod: &Pod) -> Option<Self> {
        let (meta, status) = (&pod.metadata, pod.status.as_ref());
        let ports = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = ports.flat_map(|container| container.ports.iter().flatten());
        let port = ports.find(|port| port.name.as_deref() == Some(DOORS_PORT))?.container_port;
        let ip = status.and_then(|status| status.pod_ip.as_deref()).and_then(parse_ip);
        // Whether it listens, a connection tells at once; the kubelet's word comes a second late.
        let runs = status.is_some_and(|status| status.phase.as_deref() == Some("Running"));
        let takes = meta.deletion_timestamp.is_none() && runs;
        let address = ip.zip(u16::try_from(port).ok()).map(SocketAddr::from);
        Some(Self {
            uid: meta.uid.as_deref()?.into(),
            namespace: meta.namespace.as_deref()?.into(),
            doors: address.filter(|_| takes),
        })
    }
}

/// The membership that `config_map` holds.
pub fn membership_of(config_map: &ConfigMap) -> Option<Membership> {
    let text = config_map.data.as_ref()?.get(MEMBERSHIP_KEY)?;
    serde_json::from_str(text)
        .inspect_err(|error| tracing::warn!(%error, "the membership does not parse"))
        .ok()
}

fn label(meta: &ObjectMeta, name: &str) -> Option<Arc<str>> {
    meta.labels.as_ref()?.get(name).map(|value| value.as_str().into())
}

fn code_way(meta: &ObjectMeta) -> Option<CodeWay> {
    match meta.annotations.as_ref()?.get(ANNOTATION_CODE)?.as_str() {
        CODE_PUSHED => Some(CodeWay::Pushed),
        CODE_FETCHED => Some(CodeWay::Fetched),
        _ => None,
    }
}

/// Versions are numbers that grow, over all objects of a kind.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn port_of(pod: &Pod) -> Option<u16> {
    u16::try_from(ports_of(pod)?.first()?.container_port).ok()
}

/// That of all pods, unless the pod itself says another: those of `rouse dev` share one machine's ports.
fn control_port_of(pod: &Pod) -> u16 {
    let named = |port: &&ContainerPort| port.name.as_deref() == Some(CONTROL_PORT_NAME);
    let port = ports_of(pod).and_then(|ports| ports.iter().find(named));
    port.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(CONTROL_PORT)
}

/// The ports of the Function's own container.
fn ports_of(pod: &Pod) -> Option<&Vec<ContainerPort>> {
    let containers = &pod.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == CONTAINER)?.ports.as_ref()
}

fn parse_ip(ip: &str) -> Option<IpAddr> {
    ip.parse().ok()
}

fn is_ready(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_running(status: &PodStatus) -> bool {
    let mut containers = status.container_statuses.iter().flatten();
    let own = containers.find(|container| container.name == CONTAINER);
    own.is_some_and(|own| own.state.as_ref().is_some_and(|state| state.running.is_some()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Option<PodSeen> {
        let mut object = json!({
            "metadata": {"name": "p", "namespace": "shop", "uid": "pod-1", "labels": {
                LABEL_FUNCTION_UID: "fn-1", LABEL_REVISION: "abc"}},
            "spec": {"containers": [
                {"name": "sidecar", "ports": [{"containerPort": 9}]},
                {"name": CONTAINER, "ports": [{"containerPort": 8080}]}]},
        });
        change(&mut object);
        PodSeen::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_pod_with_source_says_how_its_code_comes() {
        let told = |value: Value| {
            let annotations = json!({ANNOTATION_CODE: value});
            pod(|object| object["metadata"]["annotations"] = annotations).unwrap().code
        };
        assert_eq!(told(json!(CODE_PUSHED)), Some(CodeWay::Pushed));
        assert_eq!(told(json!(CODE_FETCHED)), Some(CodeWay::Fetched));
        assert_eq!((told(json!("carried")), pod(|_| {}).unwrap().code), (None, None));
    }

    #[test]
    fn a_pod_may_name_another_control_port_than_the_usual_one() {
        assert_eq!(pod(|_| {}).unwrap().control_port, CONTROL_PORT);
        let ports = json!([{"containerPort": 21000},
            {"name": CONTROL_PORT_NAME, "containerPort": 21001}]);
        let seen = pod(|object| object["spec"]["containers"][1]["ports"] = ports).unwrap();
        assert_eq!(seen.control_port, 21001);
    }

    #[test]
    fn a_source_pod_takes_events_while_it_runs_and_stays() {
        let mut object = json!({
            "metadata": {"name": "p", "namespace": "shop", "uid": "pod-1"},
            "spec": {"containers": [{"name": "source", "ports": [
                {"name": "admin", "containerPort": 9090},
                {"name": DOORS_PORT, "containerPort": 8083}]}]},
            "status": {"podIP": "10.0.0.7"},
        });
        let doors = |object: &Value| {
            SourcePodSeen::of(&serde_json::from_value(object.clone()).unwrap()).unwrap().doors
        };
        assert_eq!(doors(&object), None);
        object["status"]["phase"] = json!("Running");
        assert_eq!(doors(&object), "10.0.0.7:8083".parse().ok());
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(doors(&object), None);
    }

    #[test]
    fn a_pod_comes_up_field_by_field() {
        let young = pod(|_| {}).unwrap();
        assert_eq!((&*young.function_uid, &*young.revision), ("fn-1", "abc"));
        assert!(!young.scheduled && !young.going && !young.ready && young.address.is_none());
        let up = pod(|object| {
            object["spec"]["nodeName"] = json!("n");
            object["status"] = json!({"podIP": "10.0.0.7", "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}]});
        })
        .unwrap();
        assert!(up.scheduled && up.ready && !up.going && !up.running);
        assert_eq!(up.address, Some(([10, 0, 0, 7], 8080).into()));
        let running = pod(|object| {
            let status = |name: &str, state: &str| {
                json!({"name": name, "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {state: {}}})
            };
            let statuses = json!([status("sidecar", "waiting"), status(CONTAINER, "running")]);
            object["status"] = json!({"containerStatuses": statuses});
        });
        assert!(running.unwrap().running);
        let v6 = pod(|object| object["status"] = json!({"podIP": "fd00::7"})).unwrap();
        assert_eq!(v6.address.unwrap().to_string(), "[fd00::7]:8080");
    }

    #[test]
    fn a_pod_that_stops_or_has_ended_is_going() {
        let stopping = pod(|object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        assert!(stopping.unwrap().going);
        for phase in ["Failed", "Succeeded"] {
            assert!(pod(|object| object["status"] = json!({"phase": phase})).unwrap().going);
        }
    }

    #[test]
    fn an_annotation_tells_the_protocol() {
        let h2c = pod(|object| {
            object["metadata"]["annotations"] = json!({ANNOTATION_PROTOCOL: PROTOCOL_H2C});
        });
        assert_eq!(h2c.unwrap().protocol, Protocol::H2c);
        assert_eq!(pod(|_| {}).unwrap().protocol, Protocol::Http1);
    }

    #[test]
    fn a_pod_without_our_labels_or_container_is_not_ours() {
        assert!(pod(|object| object["metadata"]["labels"] = json!({})).is_none());
        assert!(pod(|object| object["spec"]["containers"][1]["name"] = json!("x")).is_none());
    }

    #[test]
    fn a_deployment_without_replicas_has_one() {
        let object = json!({
            "metadata": {"name": "f-abc", "namespace": "shop", "uid": "d", "resourceVersion": "17",
                "labels": {LABEL_FUNCTION_UID: "fn-1", LABEL_REVISION: "abc"}},
            "spec": {"selector": {}, "template": {}},
        });
        let seen = DeploymentSeen::of(&serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!((seen.replicas, seen.version), (1, 17));
    }

    #[test]
    fn a_function_that_is_not_valid_has_no_settings() {
        let function = |after: &str| {
            let object = json!({
                "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
                "metadata": {"name": "f", "namespace": "shop", "uid": "fn-1"},
                "spec": {"image": "x", "scaling": {"idle": {"after": after}}},
                "status": {"latestCreated": "abc"},
            });
            FunctionSeen::of(&serde_json::from_value(object).unwrap()).unwrap()
        };
        assert!(function("90s").settings.is_some());
        assert_eq!(function("soon").settings, None);
        assert_eq!(function("soon").latest_created.as_deref(), Some("abc"));
    }

    #[test]
    fn a_membership_that_does_not_parse_is_none() {
        let of = |text: &str| {
            let object = json!({"data": {MEMBERSHIP_KEY: text}});
            membership_of(&serde_json::from_value(object).unwrap())
        };
        assert_eq!(of("{\"version\": 3, \"members\": []}").unwrap().version, 3);
        assert_eq!(of("{"), None);
    }
}
