//! What is read of the namespace's pods: which print, and which are keepers. Pure.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use rouse_core::function::names::{ANNOTATION_CODE, CONTROL_PORT, LABEL_FUNCTION};

use crate::follow::Printing;

/// The pod as one that prints: one of a Function with source, once it has an address.
pub(crate) fn printing(pod: &Pod) -> Option<Printing> {
    pod.annotations().get(ANNOTATION_CODE)?;
    let function = pod.labels().get(LABEL_FUNCTION)?.clone();
    let address = SocketAddr::new(address(pod)?, CONTROL_PORT);
    Some(Printing { function, name: pod.name_any(), uid: pod.uid()?, address })
}

/// Where another keeper than that of the pod `own` may be asked, and its UID.
pub(crate) fn other_keeper(pod: &Pod, own: &str) -> Option<(IpAddr, String)> {
    let uid = pod.uid().filter(|uid| uid != own)?;
    let phase = pod.status.as_ref()?.phase.as_deref();
    (phase == Some("Running")).then_some(())?;
    Some((address(pod)?, uid))
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(annotations: &serde_json::Value, status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "hello-x", "uid": "u", "annotations": annotations,
                "labels": {"rouse.dev/function": "hello"},
            },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_prints_once_it_has_code_and_an_address() {
        let code = json!({"rouse.dev/code": "pushed"});
        let status = json!({"podIP": "10.0.0.7"});
        let found = printing(&pod(&code, &status)).unwrap();
        assert_eq!((&*found.function, &*found.name, &*found.uid), ("hello", "hello-x", "u"));
        assert_eq!(found.address.to_string(), "10.0.0.7:8079");
        assert_eq!(printing(&pod(&json!({}), &status)), None, "an image has no shim");
        assert_eq!(printing(&pod(&code, &json!({}))), None);
    }

    #[test]
    fn another_keeper_is_one_that_runs_and_not_oneself() {
        let running = pod(&json!({}), &json!({"podIP": "10.0.0.7", "phase": "Running"}));
        assert!(other_keeper(&running, "v").is_some());
        assert!(other_keeper(&running, "u").is_none());
        let pending = pod(&json!({}), &json!({"podIP": "10.0.0.7", "phase": "Pending"}));
        assert!(other_keeper(&pending, "v").is_none());
    }
}
