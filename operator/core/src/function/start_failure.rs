//! Why a pod can't start: the words for it, and what is read off the statuses that the kubelet, the
//! scheduler and the controller of `ReplicaSet`s write. Pure: the same status always gives the same answer.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::names::CONTAINER;

/// How long the scheduler may look for a node before its failure counts: a node that is being
/// added, or a pod that is just going, often ends it.
const SCHEDULING_GRACE: Duration = Duration::from_secs(5);

/// How long code may be out of reach before that counts: a network that is just coming up, or a
/// record that is just being written, often ends it.
const FETCH_GRACE: Duration = Duration::from_secs(5);

/// Longest message that is passed on, in characters.
const MAX_MESSAGE: usize = 1000;

/// One word for what keeps a pod from starting: reason of conditions, label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The image can't be had.
    ImagePullFailed,
    /// The container can't be made of the image.
    ContainerCreateFailed,
    /// The container ends again and again.
    ContainerCrashed,
    /// The code can't be had.
    CodeUnavailable,
    /// The code can't be run: it is no archive, not the one that was asked for, or too large.
    CodeRefused,
    /// The code does not come up.
    InitFailed,
    /// No node has room for the pod, or may have it.
    Unschedulable,
    /// The namespace's quota is used up.
    QuotaExceeded,
    /// The Functions of the namespace have as many pods as they may.
    NamespaceFull,
    /// The API server or the node refuses the pod.
    PodRefused,
    /// The API server refuses the scale.
    ScaleRefused,
}

impl Cause {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ContainerCreateFailed => "ContainerCreateFailed",
            Self::ContainerCrashed => "ContainerCrashed",
            Self::CodeUnavailable => "CodeUnavailable",
            Self::CodeRefused => "CodeRefused",
            Self::InitFailed => "InitFailed",
            Self::Unschedulable => "Unschedulable",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::NamespaceFull => "NamespaceFull",
            Self::PodRefused => "PodRefused",
            Self::ScaleRefused => "ScaleRefused",
        }
    }

    /// How long it must last before it counts.
    pub const fn grace(self) -> Duration {
        match self {
            Self::Unschedulable => SCHEDULING_GRACE,
            Self::CodeUnavailable => FETCH_GRACE,
            _ => Duration::ZERO,
        }
    }

    /// Whether room is what is missing, so that the same pod would start elsewhere or later.
    pub const fn is_capacity(self) -> bool {
        matches!(self, Self::Unschedulable | Self::QuotaExceeded | Self::NamespaceFull)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a pod can't start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// One word.
    pub cause: Cause,
    /// What happened and what can be done, for callers and for the Function's status.
    pub message: String,
}

impl StartFailure {
    /// A failure with a message of bounded length.
    pub fn new(cause: Cause, message: &str) -> Self {
        let message = match message.char_indices().nth(MAX_MESSAGE) {
            Some((end, _)) => format!("{} ...", message.get(..end).unwrap_or_default()),
            None => message.to_owned(),
        };
        Self { cause, message }
    }
}

/// Why `pod` does not start; none while it may yet, and once it runs.
pub fn of_pod(pod: &Pod) -> Option<StartFailure> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        return Some(of_failed(status));
    }
    containers(status).find_map(of_container).or_else(|| of_scheduling(status))
}

/// How often the container of the Function itself has ended so far.
pub fn exits(pod: &Pod) -> u32 {
    let own = |status: &&ContainerStatus| status.name == CONTAINER;
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .find(own)
        .map_or(0, container_exits)
}

/// Why the pods of `deployment` are not even made.
pub fn of_deployment(deployment: &Deployment) -> Option<StartFailure> {
    let status = deployment.status.as_ref()?;
    if status.observed_generation < deployment.metadata.generation {
        return None;
    }
    status.conditions.iter().flatten().find_map(|condition| {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let [kind, value, reason] =
            [text(&condition.type_), text(&condition.status), text(&condition.reason)];
        let refused = match kind.as_str() {
            "ReplicaFailure" => value == "True" && reason != "FailedDelete",
            "Progressing" => value == "False" && reason == "ReplicaSetCreateError",
            _ => false,
        };
        refused.then(|| of_refusal(&text(&condition.message)))
    })
}

fn of_refusal(message: &str) -> StartFailure {
    if message.contains("exceeded quota") {
        let text = format!(
            "the namespace's quota leaves no room for a pod, raise it or lower spec.resources: {message}"
        );
        return StartFailure::new(Cause::QuotaExceeded, &text);
    }
    StartFailure::new(Cause::PodRefused, &format!("the API server refuses the pod: {message}"))
}

fn of_failed(status: &PodStatus) -> StartFailure {
    let reason = status.reason.as_deref().unwrap_or("Failed");
    let message = status.message.as_deref().unwrap_or("no message");
    StartFailure::new(Cause::PodRefused, &format!("the node gave the pod up, {reason}: {message}"))
}

fn of_scheduling(status: &PodStatus) -> Option<StartFailure> {
    let condition = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = condition.message.as_deref().unwrap_or("no message");
    let text = format!("no node can take the pod, add nodes or lower spec.resources: {message}");
    Some(StartFailure::new(Cause::Unschedulable, &text))
}

/// The containers of a pod, those first that must end or run before the others start.
fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let inits = status.init_container_statuses.iter().flatten();
    inits.chain(status.container_statuses.iter().flatten())
}

fn of_container(container: &ContainerStatus) -> Option<StartFailure> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or("no message");
        return match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Some(image_failure(container, reason, message)),
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "PreCreateHookError"
            | "PreStartHookError"
            | "PostStartHookError" => Some(create_failure(container, reason, message)),
            "CrashLoopBackOff" => Some(crash(container)),
            _ => None,
        };
    }
    let ended = state.terminated.as_ref()?;
    if ended.reason.as_deref() == Some("StartError") {
        let message = ended.message.as_deref().unwrap_or("no message");
        return Some(create_failure(container, "StartError", message));
    }
    let ended_for_good = container.name != CONTAINER && ended.exit_code == 0;
    (!ended_for_good && container_exits(container) >= 2).then(|| crash(container))
}

fn image_failure(container: &ContainerStatus, reason: &str, message: &str) -> StartFailure {
    let text = format!(
        "the image {:?}{} can't be pulled, check its name and the registry's access ({reason}): {message}",
        container.image,
        of_sidecar(container),
    );
    StartFailure::new(Cause::ImagePullFailed, &text)
}

fn create_failure(container: &ContainerStatus, reason: &str, message: &str) -> StartFailure {
    let text = format!("the container{} can't start ({reason}): {message}", of_sidecar(container));
    StartFailure::new(Cause::ContainerCreateFailed, &text)
}

fn crash(container: &ContainerStatus) -> StartFailure {
    let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        state.and_then(|state| state.terminated.clone())
    };
    let last = ended(container.state.as_ref()).or_else(|| ended(container.last_state.as_ref()));
    let how = last.as_ref().map_or_else(|| "without a trace".to_owned(), describe_end);
    let sidecar = of_sidecar(container);
    StartFailure::new(
        Cause::ContainerCrashed,
        &format!("the container{sidecar} ends as soon as it starts, {how}; see its log"),
    )
}

fn describe_end(ended: &ContainerStateTerminated) -> String {
    let mut text = match (ended.signal, ended.reason.as_deref()) {
        (_, Some("OOMKilled")) => "out of memory (OOMKilled): raise spec.resources".to_owned(),
        (Some(signal), _) if signal != 0 => format!("by signal {signal}"),
        _ => format!("with exit code {}", ended.exit_code),
    };
    if let Some(message) = ended.message.as_deref().map(str::trim).filter(|m| !m.is_empty()) {
        text.push_str(", saying: ");
        text.push_str(message);
    }
    text
}

fn container_exits(container: &ContainerStatus) -> u32 {
    let restarts = u32::try_from(container.restart_count).unwrap_or_default();
    let ended = container.state.as_ref().is_some_and(|state| state.terminated.is_some());
    restarts.saturating_add(u32::from(ended))
}

/// The name of a container that came with the user's template.
fn of_sidecar(container: &ContainerStatus) -> String {
    if container.name == CONTAINER { String::new() } else { format!(" {:?}", container.name) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"status": status})).unwrap()
    }

    fn container(state: &Value, last: &Value, restarts: i32) -> Pod {
        pod(&json!({"phase": "Running", "containerStatuses": [{
            "name": CONTAINER, "image": "shop/x:1", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last,
        }]}))
    }

    fn cause(pod: &Pod) -> Option<Cause> {
        of_pod(pod).map(|failure| failure.cause)
    }

    #[test]
    fn a_pod_that_may_yet_start_has_no_failure() {
        assert_eq!(cause(&Pod::default()), None);
        assert_eq!(cause(&pod(&json!({"phase": "Pending"}))), None);
        for reason in ["ContainerCreating", "PodInitializing"] {
            let waiting = json!({"waiting": {"reason": reason}});
            assert_eq!(cause(&container(&waiting, &json!({}), 0)), None);
        }
        assert_eq!(cause(&container(&json!({"running": {}}), &json!({}), 7)), None);
    }

    #[test]
    fn what_waits_tells_why() {
        for (reason, expected) in [
            ("ErrImagePull", Cause::ImagePullFailed),
            ("ImagePullBackOff", Cause::ImagePullFailed),
            ("InvalidImageName", Cause::ImagePullFailed),
            ("ErrImageNeverPull", Cause::ImagePullFailed),
            ("RegistryUnavailable", Cause::ImagePullFailed),
            ("CreateContainerConfigError", Cause::ContainerCreateFailed),
            ("CreateContainerError", Cause::ContainerCreateFailed),
            ("RunContainerError", Cause::ContainerCreateFailed),
            ("CrashLoopBackOff", Cause::ContainerCrashed),
        ] {
            let waiting = json!({"waiting": {"reason": reason, "message": "the details"}});
            let failure = of_pod(&container(&waiting, &json!({}), 1)).unwrap();
            assert_eq!(failure.cause, expected, "{reason}");
            if expected != Cause::ContainerCrashed {
                assert!(failure.message.contains("the details"), "{}", failure.message);
            }
        }
    }

    #[test]
    fn one_end_is_forgiven_two_are_a_crash() {
        let ended = json!({"terminated": {"exitCode": 3, "reason": "Error"}});
        assert_eq!(cause(&container(&ended, &json!({}), 0)), None);
        let failure = of_pod(&container(&ended, &ended, 1)).unwrap();
        assert_eq!(failure.cause, Cause::ContainerCrashed);
        assert!(failure.message.contains("exit code 3"), "{}", failure.message);
    }

    #[test]
    fn a_crash_tells_how_it_ended() {
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        for (ended, words) in [
            (json!({"exitCode": 137, "reason": "OOMKilled"}), "out of memory"),
            (json!({"exitCode": 139, "signal": 11}), "by signal 11"),
            (json!({"exitCode": 1, "message": "no DATABASE_URL\n"}), "saying: no DATABASE_URL"),
        ] {
            let last = json!({"terminated": ended});
            let failure = of_pod(&container(&waiting, &last, 2)).unwrap();
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn an_init_container_that_is_done_is_no_crash() {
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let status = json!({"name": "setup", "image": "x", "imageID": "", "ready": true,
            "restartCount": 2, "state": done});
        assert_eq!(
            cause(&pod(&json!({"phase": "Pending", "initContainerStatuses": [status]}))),
            None
        );
    }

    #[test]
    fn a_pod_without_a_node_is_told_with_grace() {
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory."});
        let failure =
            of_pod(&pod(&json!({"phase": "Pending", "conditions": [condition]}))).unwrap();
        assert_eq!(failure.cause, Cause::Unschedulable);
        assert!(failure.message.contains("Insufficient memory"));
        assert_eq!(failure.cause.grace(), Duration::from_secs(5));
        assert_eq!(Cause::ImagePullFailed.grace(), Duration::ZERO);
    }

    fn deployment(generation: i64, condition: &Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"generation": generation},
            "status": {"observedGeneration": 2, "conditions": [condition]},
        }))
        .unwrap()
    }

    #[test]
    fn a_deployment_tells_of_refused_pods() {
        let of = |message| {
            let condition = json!({"type": "ReplicaFailure", "status": "True",
                "reason": "FailedCreate", "message": message});
            of_deployment(&deployment(2, &condition)).map(|failure| failure.cause)
        };
        assert_eq!(of("pods is forbidden: exceeded quota: q"), Some(Cause::QuotaExceeded));
        assert_eq!(of("violates PodSecurity"), Some(Cause::PodRefused));
    }

    #[test]
    fn a_status_of_an_older_spec_tells_nothing() {
        let condition = json!({"type": "ReplicaFailure", "status": "True",
            "reason": "FailedCreate", "message": "no"});
        assert!(of_deployment(&deployment(3, &condition)).is_none());
    }

    #[test]
    fn messages_are_bounded() {
        let failure = StartFailure::new(Cause::PodRefused, &"ü".repeat(5000));
        assert_eq!(failure.message.chars().count(), MAX_MESSAGE + 4);
    }

    #[test]
    fn exits_count_restarts_and_the_present_end() {
        let ended = json!({"terminated": {"exitCode": 3}});
        assert_eq!(exits(&container(&ended, &json!({}), 1)), 2);
        assert_eq!(exits(&container(&json!({"running": {}}), &json!({}), 1)), 1);
        assert_eq!(exits(&Pod::default()), 0);
    }
}
