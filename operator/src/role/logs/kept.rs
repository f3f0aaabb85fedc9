//! What the keeper of a namespace has of a Function: the lines of pods that are gone, and of those that
//! are there. Where it has none, or not all, it is said why.

use std::collections::HashMap;

use anyhow::{Context, anyhow, ensure};
use hyper::Method;
use kube::Api;
use rouse_core::kept::{KEPT_PATH, KEPT_PORT, Piece, read_pieces};
use rouse_core::resident::Resident;
use rouse_crds::v1alpha1::Function;

use super::line::Line;
use crate::cluster::Cluster;
use crate::role::loopback::Way;

/// What the version of an API server says that has no cluster behind it.
const LAPTOP: &str = "rouse-dev";

/// What is kept, and what people should know of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub lines: Vec<Line>,
    pub notes: Vec<String>,
}

/// What is kept of the Function `name`.
pub(super) async fn fetch(cluster: &Cluster, name: &str) -> Kept {
    let of_pods = "lines of pods that are gone are missing";
    match ask(cluster, name).await {
        Ok(Some(text)) => read(&text),
        Ok(None) => Kept {
            lines: Vec::new(),
            notes: vec![format!(
                "{of_pods}: {name} runs an image, and what that printed in pods that are gone is with \
                 the cluster's own log store, if it has one"
            )],
        },
        Err(error) => Kept { lines: Vec::new(), notes: vec![format!("{of_pods}: {error:#}")] },
    }
}

/// The pieces that are kept; none where nothing can be, as the Function runs an image.
async fn ask(cluster: &Cluster, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let namespace = &cluster.namespace;
    let functions: Api<Function> = Api::namespaced(cluster.client.clone(), namespace);
    // Who may not see the Function may see its pods: then the keeper is asked.
    if let Ok(found) = functions.get_opt(name).await {
        let function = found
            .with_context(|| format!("there is no Function {name} in namespace {namespace}"))?;
        if function.spec.source.is_none() {
            return Ok(None);
        }
    }
    let way = Way::reach(cluster, namespace, (Resident::Keeper, KEPT_PORT)).await?;
    if way.is_none() && is_on_a_laptop(cluster).await {
        // Nobody keeps lines there, and nobody expects it.
        return Ok(Some(Vec::new()));
    }
    let mut way = way.ok_or_else(|| {
        anyhow!(
            "the keeper of namespace {namespace} does not run: see `kubectl -n {namespace} get pods -l \
             {}`, and keeper.enabled in Rouse's chart",
            Resident::Keeper.selector()
        )
    })?;
    let (status, body) = way.ask(Method::GET, &format!("{KEPT_PATH}/{name}")).await?;
    ensure!(status.is_success(), "{}", String::from_utf8_lossy(&body).trim());
    Ok(Some(body.to_vec()))
}

/// Whether it is `rouse dev` that is asked.
async fn is_on_a_laptop(cluster: &Cluster) -> bool {
    let version = cluster.client.apiserver_version().await;
    version.is_ok_and(|version| version.git_version.contains(LAPTOP))
}

fn read(text: &[u8]) -> Kept {
    let (pieces, _) = read_pieces(text);
    let mut kept = Kept::default();
    let mut ends: HashMap<(&str, i64), u64> = HashMap::new();
    for Piece { head, lines } in &pieces {
        let end = ends.insert((&head.uid, head.run), head.end());
        if let Some(missing) = end.and_then(|end| head.from.checked_sub(end)).filter(|it| *it > 0) {
            kept.notes.push(format!(
                "{missing} bytes of lines of pod {} are missing: they were printed faster than they were \
                 fetched",
                head.pod
            ));
        }
        let lines = String::from_utf8_lossy(lines);
        kept.lines.extend(lines.lines().filter_map(|line| Line::of_shim(&head.pod, line)));
    }
    kept
}

#[cfg(test)]
mod tests {
    use rouse_core::kept::PieceHead;
    use serde_json::json;

    use super::*;

    fn write(text: &mut Vec<u8>, from: u64, message: &str) -> u64 {
        let line = json!({
            "time": "2026-11-01T10:00:00Z", "stream": "stdout", "requestId": "r1", "message": message,
        });
        let line = format!("{line}\n");
        let bytes = u64::try_from(line.len()).unwrap();
        let head = PieceHead { pod: "hello-x".into(), uid: "u".into(), run: 1, from, bytes };
        Piece { head, lines: line.as_bytes() }.write(text);
        from + bytes
    }

    #[test]
    fn lines_are_read_with_their_pods_and_what_is_missing_between_them_is_said() {
        let mut text = Vec::new();
        let end = write(&mut text, 0, "one");
        let end = write(&mut text, end, "two");
        assert_eq!(read(&text).notes, [""; 0]);
        write(&mut text, end + 1000, "three");
        let kept = read(&text);
        assert_eq!(kept.lines.len(), 3);
        assert!(kept.lines.iter().all(|line| line.pod == "hello-x" && line.is_of("r1")));
        let [note] = &kept.notes[..] else { panic!("{:?}", kept.notes) };
        assert!(note.starts_with("1000 bytes of lines of pod hello-x are missing"), "{note}");
    }
}
