//! What is said of a pod: the status that a kubelet would write. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

/// Address of all pods: they share the machine's own.
pub const ADDRESS: &str = "127.0.0.1";

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its exit code; as shells have it where a signal ended it.
    pub code: i32,
    /// In one word.
    pub reason: &'static str,
    /// What it said last.
    pub message: String,
    /// When it was started.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not run, and why.
    Waiting {
        /// In one word that kubelets use.
        reason: &'static str,
        /// What happened and what can be done.
        message: String,
    },
    /// It runs since then.
    Running(Timestamp),
}

/// All that is told of a pod.
#[derive(Clone, Debug)]
pub struct Story {
    /// Name of the container.
    pub container: String,
    /// Its image, as the pod names it.
    pub image: String,
    /// When the pod came here.
    pub placed: Timestamp,
    /// What the container does.
    pub state: State,
    /// How it ended before.
    pub last: Option<End>,
    /// How often it was started again.
    pub restarts: u32,
    /// When it last became ready, or ceased to be.
    pub turned: Timestamp,
}

impl Story {
    /// The container does something else from now on.
    pub fn turn(&mut self, state: State, now: Timestamp) {
        if self.is_ready() != matches!(state, State::Running(_)) {
            self.turned = now;
        }
        self.state = state;
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// The status. Nobody asks for a pod's address before it is there.
    pub fn render(&self) -> Value {
        let Self { container, image, placed, state, last, restarts, turned } = self;
        let ready = self.is_ready();
        let condition = |kind: &str, is: bool, since: &Timestamp| {
            let status = if is { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": seconds(*since)})
        };
        let has_run = ready || *restarts > 0 || last.is_some();
        let address = has_run.then_some(ADDRESS);
        json!({"status": {
            "phase": if has_run { "Running" } else { "Pending" },
            "hostIP": ADDRESS,
            "podIP": address,
            "podIPs": address.map(|ip| json!([{"ip": ip}])),
            "startTime": seconds(*placed),
            "conditions": [
                condition("PodScheduled", true, placed),
                condition("Initialized", true, placed),
                condition("ContainersReady", ready, turned),
                condition("Ready", ready, turned),
            ],
            "containerStatuses": [{
                "name": container, "image": image, "imageID": "", "ready": ready,
                "started": ready, "restartCount": restarts,
                "state": render_state(state),
                "lastState": last.as_ref().map_or(json!({}), render_end),
            }],
        }})
    }
}

fn render_state(state: &State) -> Value {
    match state {
        State::Waiting { reason, message } => {
            json!({"waiting": {"reason": reason, "message": message}})
        }
        State::Running(since) => json!({"running": {"startedAt": seconds(*since)}}),
    }
}

fn render_end(end: &End) -> Value {
    let End { code, reason, message, begun, ended } = end;
    json!({"terminated": {
        "exitCode": code, "reason": reason, "message": message,
        "startedAt": seconds(*begun), "finishedAt": seconds(*ended),
    }})
}

/// As Kubernetes writes times.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use rouse_core::function::names::CONTAINER;
    use rouse_core::function::start_failure::{Cause, exits, of_pod};

    use super::*;

    fn story(state: State) -> Story {
        let placed = Timestamp::from_second(1000).unwrap();
        Story {
            container: CONTAINER.to_owned(),
            image: "x".to_owned(),
            placed,
            state,
            last: None,
            restarts: 0,
            turned: placed,
        }
    }

    fn read(story: &Story) -> Pod {
        serde_json::from_value(story.render()).unwrap()
    }

    #[test]
    fn what_is_told_is_what_the_activator_understands() {
        let waiting = State::Waiting { reason: "CreateContainerError", message: "no node".into() };
        let mut told = story(waiting);
        let failure = of_pod(&read(&told)).unwrap();
        assert_eq!(failure.cause, Cause::ContainerCreateFailed);
        assert!(failure.message.contains("no node"), "{}", failure.message);
        assert_eq!(read(&told).status.unwrap().pod_ip, None);
        let now = Timestamp::from_second(2000).unwrap();
        told.turn(State::Running(now), now);
        let status = read(&told).status.unwrap();
        assert_eq!(status.pod_ip.as_deref(), Some(ADDRESS));
        let ready = status.conditions.unwrap().pop().unwrap();
        assert_eq!((&*ready.type_, &*ready.status), ("Ready", "True"));
        assert_eq!(ready.last_transition_time.unwrap().0, now);
        assert_eq!(of_pod(&read(&told)), None);
    }

    #[test]
    fn ends_are_counted_and_told_with_the_last_words() {
        let at = Timestamp::from_second(1000).unwrap();
        let end =
            End { code: 3, reason: "Error", message: "no module".into(), begun: at, ended: at };
        let waiting = State::Waiting { reason: "CrashLoopBackOff", message: "later".into() };
        let mut told = story(waiting);
        (told.last, told.restarts) = (Some(end), 2);
        let failure = of_pod(&read(&told)).unwrap();
        assert_eq!(failure.cause, Cause::ContainerCrashed);
        assert!(failure.message.contains("exit code 3, saying: no module"), "{}", failure.message);
        assert_eq!(exits(&read(&told)), 2);
    }
}
