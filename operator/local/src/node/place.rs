//! Where a pod comes to stand on a machine that all pods share: each container port becomes one of
//! the machine's own, in the pod's spec too, where the activator reads it. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};
use rouse_core::function::names::CONTAINER;
use serde_json::{Value, json};

/// Rouse's own variables start with this.
const OWN: &str = "ROUSE_";

/// The container of `pod` that is run: the Function's own, else the first. What else the user's
/// template has is left out on a laptop.
pub fn own_container(pod: &Pod) -> Option<&Container> {
    let containers = &pod.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == CONTAINER).or_else(|| containers.first())
}

/// How many ports the container has.
pub fn count_ports(own: &Container) -> usize {
    own.ports.iter().flatten().count()
}

/// The container with `ports`, one for each of its own, and with what it is told of them.
pub fn place(own: &Container, ports: &[u16]) -> Container {
    let mut placed = own.clone();
    let changes: Vec<(i32, u16)> = own
        .ports
        .iter()
        .flatten()
        .map(|port| port.container_port)
        .zip(ports.iter().copied())
        .collect();
    for (port, (_, new)) in placed.ports.iter_mut().flatten().zip(&changes) {
        port.container_port = i32::from(*new);
    }
    for variable in placed.env.iter_mut().flatten().filter(|it| names_port(&it.name)) {
        let old: Option<i32> = variable.value.as_ref().and_then(|value| value.parse().ok());
        if let Some((_, new)) = changes.iter().find(|(port, _)| old == Some(*port)) {
            variable.value = Some(new.to_string());
        }
    }
    placed
}

/// Whether a variable says where to listen: `PORT`, and what Rouse tells its own programs.
fn names_port(name: &str) -> bool {
    name == "PORT" || (name.starts_with(OWN) && name.ends_with("_PORT"))
}

/// What is written into the spec of `pod`, whose own container is now `placed`.
pub fn patch(pod: &Pod, placed: &Container, node: &str) -> Value {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let all: Vec<&Container> = containers
        .map(|container| if container.name == placed.name { placed } else { container })
        .collect();
    json!({"spec": {"nodeName": node, "containers": all}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_become_the_machines_and_are_told() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "sidecar"},
            {"name": CONTAINER, "ports": [
                {"name": "http", "containerPort": 8080}, {"name": "rouse-control", "containerPort": 8079}],
             "env": [{"name": "PORT", "value": "8080"}, {"name": "ROUSE_CONTROL_PORT", "value": "8079"},
                     {"name": "DATABASE_PORT", "value": "8080"}]},
        ]}}))
        .unwrap();
        let own = own_container(&pod).unwrap();
        assert_eq!(count_ports(own), 2);
        let placed = place(own, &[21_000, 21_001]);
        let patch = patch(&pod, &placed, "local");
        assert_eq!(patch["spec"]["nodeName"], "local");
        assert_eq!(patch["spec"]["containers"][0]["name"], "sidecar");
        let own = &patch["spec"]["containers"][1];
        let ports: Vec<&Value> =
            own["ports"].as_array().unwrap().iter().map(|p| &p["containerPort"]).collect();
        assert_eq!(ports, [21_000, 21_001]);
        let values: Vec<&Value> =
            own["env"].as_array().unwrap().iter().map(|v| &v["value"]).collect();
        assert_eq!(values, ["21000", "21001", "8080"]);
    }
}
