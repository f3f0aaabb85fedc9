//! A steady load: callers that send one request after the other until they are told to stop, and
//! count what came back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::http::Caller;

/// What came back of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers with status 200.
    pub good: u64,
    /// Every other answer and every failure, by its text.
    pub bad: BTreeMap<String, u64>,
    /// Answers by the `x-hello-version` that gave them.
    pub versions: BTreeMap<String, u64>,
}

/// A load that runs.
pub struct Load {
    stop: watch::Sender<bool>,
    callers: JoinSet<Outcome>,
}

impl Load {
    /// Starts `callers` callers of `host` at `address`, each with connections of its own and a
    /// request every `pause` or as soon as the last one is answered.
    pub fn start(address: SocketAddr, host: &str, callers: usize, pause: Duration) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut set = JoinSet::new();
        for _ in 0..callers {
            set.spawn(call(Caller::new(address), host.to_owned(), pause, stopped.clone()));
        }
        Self { stop, callers: set }
    }

    /// Stops the callers after the request that each is at, and adds up what came back.
    pub async fn stop(self) -> anyhow::Result<Outcome> {
        self.stop.send_replace(true);
        let mut total = Outcome::default();
        for outcome in self.callers.join_all().await {
            total.good += outcome.good;
            add(&mut total.bad, outcome.bad);
            add(&mut total.versions, outcome.versions);
        }
        Ok(total)
    }
}

fn add(into: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

async fn call(
    caller: Caller,
    host: String,
    pause: Duration,
    stopped: watch::Receiver<bool>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        ticks.tick().await;
        match caller.get(&host, "/").await {
            Ok(answer) if answer.status == 200 => {
                outcome.good += 1;
                let version = answer.header("x-hello-version").unwrap_or_default().to_owned();
                *outcome.versions.entry(version).or_default() += 1;
            }
            Ok(answer) => {
                let text = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
                *outcome.bad.entry(text).or_default() += 1;
            }
            Err(error) => *outcome.bad.entry(format!("{error:?}")).or_default() += 1,
        }
    }
    outcome
}
