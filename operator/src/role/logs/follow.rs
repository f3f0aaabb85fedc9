//! `rouse logs -f`: what is printed, as it comes, by all pods of a Function that there are and will be.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use futures::{AsyncBufReadExt, StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use rouse_core::function::names::LABEL_FUNCTION;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::args::LogsArgs;
use super::line::Line;
use super::{is_running, is_wanted, params, refused, restarts};
use crate::cluster::{Cluster, code_of};
use crate::output;

/// Lines of all pods that wait to be printed.
const WAITING: usize = 256;
/// How long a log that broke off is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A container of a pod: what it prints is read by one task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Container {
    pod: String,
    uid: String,
    restarts: i32,
}

impl Container {
    fn of(pod: &Pod) -> Self {
        let uid = pod.uid().unwrap_or_default();
        Self { pod: pod.name_any(), uid, restarts: restarts(pod) }
    }
}

/// Prints it until nobody reads any more.
pub async fn run(args: &LogsArgs, cluster: &Cluster) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let config = watcher::Config::default().labels(&format!("{LABEL_FUNCTION}={}", args.name));
    let events = watcher(api.clone(), config).default_backoff();
    pin_mut!(events);
    let (sender, mut lines) = mpsc::channel::<Line>(WAITING);
    let (mut readers, mut read, mut is_begun) = (JoinSet::new(), HashSet::new(), false);
    loop {
        tokio::select! {
            event = events.next() => {
                let pod = match event.context("the watch of pods ended")? {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => pod,
                    Ok(Event::Delete(pod)) => {
                        read.retain(|it: &Container| Some(&it.uid) != pod.metadata.uid.as_ref());
                        continue;
                    }
                    Ok(Event::InitDone) => {
                        is_begun = true;
                        continue;
                    }
                    Err(watcher::Error::InitialListFailed(error)) => {
                        return Err(refused(cluster, error, "watch pods"));
                    }
                    // It is watched again.
                    Ok(Event::Init) | Err(_) => continue,
                };
                let container = Container::of(&pod);
                if is_running(&pod) && read.insert(container.clone()) {
                    let mut params = LogParams { follow: true, ..params(args) };
                    let tail = args.tail.filter(|_| !is_begun);
                    params.tail_lines = tail.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
                    readers.spawn(tail_of(api.clone(), container, params, sender.clone()));
                }
            }
            Some(line) = lines.recv() => {
                let is_read = !is_wanted(&line, args)
                    || output::print_bytes(line.render(args.output).as_bytes())?;
                if !is_read {
                    return Ok(());
                }
            }
            Some(ended) = readers.join_next() => {
                let ended = ended.context("reading a log")?;
                ended.map_err(|error| refused(cluster, error, "read logs of pods"))?;
            }
        }
    }
}

/// Reads what a container prints to its end. Where its log breaks off it is opened again, as long as the
/// container is there.
async fn tail_of(
    api: Api<Pod>,
    container: Container,
    mut params: LogParams,
    lines: mpsc::Sender<Line>,
) -> Result<(), kube::Error> {
    let (mut last, mut is_over) = (None, false);
    loop {
        let heard = last;
        match api.log_stream(&container.pod, &params).await {
            Ok(log) => {
                let mut told = log.lines();
                while let Some(Ok(told)) = told.next().await {
                    let time = time_of(&told);
                    if heard.is_some() && time <= heard {
                        continue;
                    }
                    last = time.or(last);
                    let Some(line) = Line::read(&container.pod, &told) else { continue };
                    if lines.send(line).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Err(error) if code_of(&error) == Some(404) => return Ok(()),
            Err(error) if matches!(code_of(&error), Some(401 | 403)) => return Err(error),
            // It begins only now, or who has it is not reached.
            Err(_) => {}
        }
        if is_over {
            return Ok(());
        }
        match api.get_opt(&container.pod).await {
            Ok(Some(pod)) if Container::of(&pod) == container => is_over = !is_running(&pod),
            Ok(_) => return Ok(()),
            Err(error) if matches!(code_of(&error), Some(401 | 403)) => return Err(error),
            Err(_) => {}
        }
        if !is_over {
            sleep(PAUSE).await;
        }
        if last.is_some() {
            // Told in whole seconds, so that some lines come again.
            (params.since_seconds, params.since_time, params.tail_lines) = (None, last, None);
        }
    }
}

/// When a line was printed, as the API server tells it.
fn time_of(told: &str) -> Option<Timestamp> {
    told.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use tower::service_fn;

    use super::*;

    fn pod(state: &str) -> Pod {
        let status = json!({"name": "function", "restartCount": 0, "image": "", "imageID": "",
                            "ready": true, "state": {state: {"exitCode": 1}}});
        serde_json::from_value(json!({
            "metadata": {"name": "hello-x", "uid": "u"},
            "status": {"phase": "Running", "containerStatuses": [status]},
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_breaks_off_is_read_on_until_the_container_has_ended() {
        let line = |second: u8, text: &str| format!("2026-11-01T10:00:0{second}.5Z {text}\n");
        // It breaks off, is away, tells the last second again, and then all of it.
        let logs = [
            Some(line(1, "one") + &line(2, "two") + &line(2, "two")),
            None,
            Some(line(2, "two") + &line(3, "three")),
            Some(line(3, "three") + &line(4, "four")),
        ];
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        let service = service_fn(move |request: Request<Body>| {
            let path = request.uri().to_string();
            let (code, body) = if path.contains("/log?") {
                let opening = count.fetch_add(1, Ordering::Relaxed);
                assert_eq!(path.contains("sinceTime="), opening > 0, "{path}");
                logs[opening].clone().map_or((500, String::new()), |log| (200, log))
            } else {
                let is_over = count.load(Ordering::Relaxed) == 3;
                let pod = pod(if is_over { "terminated" } else { "running" });
                (200, serde_json::to_string(&pod).unwrap())
            };
            let answer = Response::builder().status(code).body(Body::from(body.into_bytes()));
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        let api: Api<Pod> = Api::namespaced(Client::new(service, "shop"), "shop");
        let (sender, mut lines) = mpsc::channel(8);
        let params = LogParams { follow: true, ..LogParams::default() };
        tail_of(api, Container::of(&pod("running")), params, sender).await.unwrap();
        let mut told = Vec::new();
        while let Some(line) = lines.recv().await {
            told.push(line.written);
        }
        assert_eq!(told, ["one", "two", "two", "three", "four"]);
        assert_eq!(opened.load(Ordering::Relaxed), 4, "the last time to have all of it");
    }
}
