//! The memory that a pod counts for. Pure.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::NOMINAL_MEMORY;

/// Bytes that a pod counts for: what its containers ask for, which the cluster sets aside for them;
/// where they ask for none what they may have at most, and [`NOMINAL_MEMORY`] where nothing is said.
pub fn memory_of(pod: &PodSpec) -> u64 {
    let bytes: u64 = pod.containers.iter().filter_map(memory_of_container).sum();
    if bytes == 0 { NOMINAL_MEMORY } else { bytes }
}

fn memory_of_container(container: &Container) -> Option<u64> {
    let resources = container.resources.as_ref()?;
    let asked = resources.requests.as_ref().and_then(|requests| requests.get("memory"));
    let most = || resources.limits.as_ref().and_then(|limits| limits.get("memory"));
    parse_quantity(&asked.or_else(most)?.0)
}

/// The bytes of a quantity; none where it is none, or too large.
pub fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let bytes = number.parse::<f64>().ok()? * factor_of(unit)?;
    // Far below 2^53, where each whole number has its own f64.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (bytes < 1e15).then_some(bytes as u64)
}

fn factor_of(unit: &str) -> Option<f64> {
    let (base, letter, letters): (f64, _, _) = match unit {
        "" => return Some(1.0),
        "m" => return Some(0.001),
        _ => match unit.strip_suffix('i') {
            Some(letter) => (1024.0, letter, ["K", "M", "G", "T", "P", "E"]),
            None => (1000.0, unit, ["k", "M", "G", "T", "P", "E"]),
        },
    };
    if let Some(power) = letters.iter().position(|known| *known == letter) {
        return Some(base.powi(i32::try_from(power).ok()? + 1));
    }
    let exponent = unit.strip_prefix(['e', 'E'])?;
    Some(10f64.powi(exponent.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_bytes() {
        let cases = [
            ("128Mi", 128 << 20),
            ("1.5Gi", 3 << 29),
            ("64M", 64_000_000),
            ("123456", 123_456),
            ("1e6", 1_000_000),
            ("128974848000m", 128_974_848),
            ("2k", 2000),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_quantity(text), Some(bytes), "{text}");
        }
        for text in ["", "x", "1Xi", "1KMi", "9E"] {
            assert_eq!(parse_quantity(text), None, "{text}");
        }
    }

    #[test]
    fn a_pod_counts_for_what_its_containers_ask_for() {
        let pod = |resources: &[serde_json::Value]| -> PodSpec {
            let containers: Vec<_> =
                resources.iter().map(|r| json!({"name": "c", "resources": r})).collect();
            serde_json::from_value(json!({"containers": containers})).unwrap()
        };
        let both = json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi"}});
        let limit = json!({"limits": {"memory": "32Mi"}});
        assert_eq!(memory_of(&pod(&[both, limit])), 96 << 20);
        assert_eq!(memory_of(&pod(&[json!({"requests": {"cpu": "1"}})])), NOMINAL_MEMORY);
    }
}
