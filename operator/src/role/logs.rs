//! `rouse logs`: what a Function printed, of all its pods and by request. Reads the logs of pods, and what
//! the namespace's keeper has of those that are gone, with the user's own rights and nothing else.

pub mod args;
mod follow;
mod kept;
mod line;

use std::collections::HashSet;

use anyhow::ensure;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use rouse_core::function::names::{CONTAINER, LABEL_FUNCTION};

use self::args::LogsArgs;
use self::line::Line;
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::output;
use crate::progress::say;
use crate::role::invoke;

/// Prints the lines on standard output.
pub async fn run(args: &LogsArgs) -> anyhow::Result<()> {
    let cluster = Cluster::of(&args.cluster).await?;
    // A name that there is not is no Function that is silent. Who may not see Functions may see their pods.
    let function = match cluster.function(&args.name).await {
        Ok(function) => Some(function),
        Err(error) if matches!(error.downcast_ref(), Some(Failure::Forbidden(_))) => None,
        Err(error) => return Err(error),
    };
    if !args.follow {
        return show(args, &cluster).await;
    }
    if function.is_some_and(|function| invoke::sleeps(&function)) {
        say(&format!("{} sleeps: its lines come when it is called", args.name));
    }
    follow::run(args, &cluster).await
}

/// What was printed until now, in the order of time.
async fn show(args: &LogsArgs, cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = &cluster.namespace;
    let kept = kept::fetch(cluster, &args.name).await;
    let (pods, live) = fetch_live(args, cluster).await?;
    ensure!(
        pods > 0 || !kept.lines.is_empty(),
        "the Function {} has no pods in namespace {namespace}, and {}",
        args.name,
        kept.notes.first().map_or("nothing is kept of any that are gone", String::as_str)
    );
    kept.notes.iter().for_each(|note| say(note));
    let mut lines = merge(kept.lines, live);
    let oldest = args.since.and_then(|age| Timestamp::now().checked_sub(age).ok());
    lines.retain(|line| is_wanted(line, args) && oldest.is_none_or(|oldest| line.time >= oldest));
    let first = args.tail.map_or(0, |most| lines.len().saturating_sub(most));
    let told = lines.iter().skip(first).map(|line| line.render(args.output));
    output::print(&told.collect::<String>())
}

/// How many pods there are, and what these printed.
async fn fetch_live(args: &LogsArgs, cluster: &Cluster) -> anyhow::Result<(usize, Vec<Line>)> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let selector = format!("{LABEL_FUNCTION}={}", args.name);
    let pods = api.list(&ListParams::default().labels(&selector)).await;
    let pods = pods.map_err(|error| refused(cluster, error, "list pods"))?.items;
    let mut lines = Vec::new();
    for pod in &pods {
        for previous in [true, false] {
            // What the container printed before it was started again.
            if previous && restarts(pod) == 0 {
                continue;
            }
            let params = LogParams { previous, ..params(args) };
            match api.logs(&pod.name_any(), &params).await {
                Ok(text) => {
                    lines.extend(text.lines().filter_map(|told| Line::read(&pod.name_any(), told)));
                }
                // A pod that has not begun has said nothing, and one may go meanwhile.
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => {}
                Err(error) => return Err(refused(cluster, error, "read logs of pods")),
            }
        }
    }
    Ok((pods.len(), lines))
}

/// All lines in the order of time, those once that are both kept and in the log of a pod.
fn merge(kept: Vec<Line>, live: Vec<Line>) -> Vec<Line> {
    let key = |line: &Line| (line.pod.clone(), line.written.clone());
    let known: HashSet<_> = kept.iter().map(key).collect();
    let mut lines = kept;
    lines.extend(live.into_iter().filter(|line| !known.contains(&key(line))));
    lines.sort_by_key(|line| line.time);
    lines
}

fn params(args: &LogsArgs) -> LogParams {
    LogParams {
        container: Some(CONTAINER.to_owned()),
        timestamps: true,
        since_seconds: args
            .since
            .map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX).max(1)),
        ..LogParams::default()
    }
}

fn is_wanted(line: &Line, args: &LogsArgs) -> bool {
    args.request.as_deref().is_none_or(|request| line.is_of(request))
}

/// Whether its container may still print.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let state = container(pod).and_then(|own| own.state.as_ref());
    phase == Some("Running") && state.is_none_or(|state| state.terminated.is_none())
}

/// How often its container was started again.
fn restarts(pod: &Pod) -> i32 {
    container(pod).map_or(0, |status| status.restart_count)
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let mut all = pod.status.as_ref()?.container_statuses.iter().flatten();
    all.find(|status| status.name == CONTAINER)
}

fn refused(cluster: &Cluster, error: kube::Error, verb: &str) -> anyhow::Error {
    const RIGHT: &str =
        "the role `view` there, or for `get`, `list` and `watch` on pods with `get` on pods/log";
    cluster.refused_in(error, verb, &cluster.place(false), RIGHT)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::args::{Cli, Role};

    fn args(line: &str) -> LogsArgs {
        let Role::Logs(args) = Cli::parse_from(line.split(' ')).role else {
            panic!("another role")
        };
        args
    }

    #[test]
    fn what_is_asked_for_is_what_is_shown() {
        let args = args("rouse logs hello --request r1 --since 10m");
        assert_eq!(params(&args).since_seconds, Some(600));
        let told = |id: &str| {
            let text = json!({"stream": "stdout", "requestId": id, "message": "m"});
            Line::read("p", &format!("2026-11-01T10:00:00Z {text}")).unwrap()
        };
        assert!(is_wanted(&told("r1"), &args));
        assert!(!is_wanted(&told("r2"), &args));
    }

    #[test]
    fn a_line_that_is_kept_and_in_a_pods_log_is_told_once_and_in_its_place() {
        let text = |second: u8, message: &str| {
            let time = format!("2026-11-01T10:00:0{second}Z");
            json!({"time": time, "stream": "stdout", "message": message}).to_string()
        };
        let kept = |pod: &str, text: &str| Line::of_shim(pod, text).unwrap();
        let live = |pod: &str, text: &str| {
            Line::read(pod, &format!("2026-11-01T10:00:09Z {text}")).unwrap()
        };
        let (one, two, three) = (text(1, "one"), text(2, "two"), text(3, "three"));
        let lines = merge(
            vec![kept("gone", &two), kept("there", &one)],
            vec![
                live("there", &one),
                live("there", &three),
                live("there", "plain"),
                live("there", "plain"),
            ],
        );
        let told: Vec<_> = lines.iter().map(|line| (&*line.pod, &*line.written)).collect();
        assert_eq!(
            told,
            [
                ("there", &*one),
                ("gone", &*two),
                ("there", &*three),
                ("there", "plain"),
                ("there", "plain"),
            ]
        );
    }

    #[test]
    fn a_container_that_was_started_again_is_read_anew() {
        let pod: Pod = serde_json::from_value(json!({"status": {"phase": "Running",
        "containerStatuses": [
            {"name": "other", "restartCount": 9, "image": "", "imageID": "", "ready": true},
            {"name": "function", "restartCount": 2, "image": "", "imageID": "", "ready": true},
        ]}}))
        .unwrap();
        assert_eq!((restarts(&pod), is_running(&pod)), (2, true));
        let mut ended = pod;
        let statuses = ended.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
        let state = json!({"terminated": {"exitCode": 1}});
        statuses[1].state = Some(serde_json::from_value(state).unwrap());
        assert!(!is_running(&ended));
        assert_eq!((restarts(&Pod::default()), is_running(&Pod::default())), (0, false));
    }
}
