//! `rouse logs`: what a Function printed, of all its pods and by request. Reads the logs of pods, and what
//! the namespace's keeper has of those that are gone, with the user's own rights and nothing else.

pub mod args;
mod kept;
mod line;

use std::collections::HashSet;

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use rouse_core::function::names::{CONTAINER, LABEL_FUNCTION};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::args::LogsArgs;
use self::line::Line;
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::output;
use crate::progress::say;

/// Lines of all pods that wait to be printed.
const WAITING: usize = 256;

/// Prints the lines on standard output.
pub async fn run(args: &LogsArgs) -> anyhow::Result<()> {
    let cluster = Cluster::of(&args.cluster).await?;
    // A name that there is not is no Function that is silent. Who may not see Functions may see their pods.
    if let Err(error) = cluster.function(&args.name).await
        && !matches!(error.downcast_ref(), Some(Failure::Forbidden(_)))
    {
        return Err(error);
    }
    if args.follow { follow(args, &cluster).await } else { show(args, &cluster).await }
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

/// What is printed, as it comes, until nobody reads any more.
async fn follow(args: &LogsArgs, cluster: &Cluster) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let config = watcher::Config::default().labels(&format!("{LABEL_FUNCTION}={}", args.name));
    let pods = watcher(api.clone(), config).default_backoff().applied_objects();
    pin_mut!(pods);
    let (sender, mut lines) = mpsc::channel::<Line>(WAITING);
    let (mut readers, mut read) = (JoinSet::new(), HashSet::new());
    loop {
        tokio::select! {
            pod = pods.try_next() => {
                let pod = match pod {
                    Ok(pod) => pod.context("the watch of pods ended")?,
                    Err(watcher::Error::InitialListFailed(error)) => {
                        return Err(refused(cluster, error, "watch pods"));
                    }
                    // It is watched again.
                    Err(_) => continue,
                };
                let container = format!("{} {}", pod.uid().unwrap_or_default(), restarts(&pod));
                if is_running(&pod) && read.insert(container) {
                    let params = LogParams { follow: true, ..params(args) };
                    readers.spawn(tail(api.clone(), pod.name_any(), params, sender.clone()));
                }
            }
            Some(line) = lines.recv() => {
                if is_wanted(&line, args) {
                    output::print(&line.render(args.output))?;
                }
            }
            Some(ended) = readers.join_next() => {
                let ended = ended.context("reading a log")?;
                ended.map_err(|error| refused(cluster, error, "read logs of pods"))?;
            }
        }
    }
}

/// Reads the log of a pod to its end.
async fn tail(
    api: Api<Pod>,
    pod: String,
    params: LogParams,
    lines: mpsc::Sender<Line>,
) -> Result<(), kube::Error> {
    let log = match api.log_stream(&pod, &params).await {
        Ok(log) => log,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Err(kube::Error::Api(status));
        }
        // It is gone, or begins again, which is seen.
        Err(_) => return Ok(()),
    };
    let mut told = log.lines();
    while let Some(Ok(told)) = told.next().await {
        if let Some(line) = Line::read(&pod, &told) {
            // Who prints may have left.
            let _ = lines.send(line).await;
        }
    }
    Ok(())
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

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// How often its container was started again.
fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let mut own = statuses.into_iter().flatten().filter(|status| status.name == CONTAINER);
    own.next().map_or(0, |status| status.restart_count)
}

fn refused(cluster: &Cluster, error: kube::Error, verb: &str) -> anyhow::Error {
    const RIGHT: &str =
        "the role `view` there, or for `list` and `watch` on pods with `get` on pods/log";
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
        assert_eq!((restarts(&Pod::default()), is_running(&Pod::default())), (0, false));
    }
}
