//! What the pod has come to, for whoever asks. Must not decide anything.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

/// What the pod has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Nobody has brought the code yet.
    WaitingForCode,
    /// The code could not be fetched yet.
    FetchFailed,
    /// The code can't be run, whoever brings it: it stays like that.
    CodeRefused,
    /// The language process starts.
    Starting,
    /// The language process does not come up. It is tried again.
    InitFailed,
    /// Requests are served.
    Ready,
    /// The pod ends.
    Ending,
}

/// All that is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// What the pod has come to.
    pub phase: Phase,
    /// Why, where it is no good.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The code.
    pub digest: String,
    /// What the last start of a language process took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_millis: Option<u64>,
    /// Starts of language processes.
    pub starts: u64,
    /// Language processes that take requests.
    pub ready: usize,
}

/// Where the state is kept.
#[derive(Debug)]
pub struct Board {
    state: watch::Sender<State>,
    /// Of each language process, whether it is ready, or why not.
    workers: std::sync::Mutex<BTreeMap<usize, Result<(), String>>>,
}

impl Board {
    /// A pod that has nothing yet.
    pub fn new(digest: String) -> Self {
        let state = State {
            phase: Phase::WaitingForCode,
            message: String::new(),
            digest,
            init_millis: None,
            starts: 0,
            ready: 0,
        };
        Self { state: watch::Sender::new(state), workers: std::sync::Mutex::default() }
    }

    /// The state as it is now.
    pub fn now(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits for a phase that `wanted` is true of.
    pub async fn until(&self, wanted: impl Fn(Phase) -> bool) {
        let mut states = self.state.subscribe();
        // The sender is here.
        let _ = states.wait_for(|state| wanted(state.phase)).await;
    }

    /// Tells a phase. The last one stays.
    pub fn set(&self, phase: Phase, message: impl Into<String>) {
        let message = message.into();
        self.state.send_if_modified(|state| {
            let last = state.phase == Phase::Ending;
            if !last {
                state.phase = phase;
                state.message = message;
            }
            !last
        });
    }

    /// A language process starts.
    pub fn starting(&self, worker: usize) {
        self.state.send_modify(|state| state.starts += 1);
        self.change(worker, None);
    }

    /// A language process takes requests.
    pub fn ready(&self, worker: usize, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.state.send_modify(|state| state.init_millis = Some(millis));
        self.change(worker, Some(Ok(())));
    }

    /// A language process did not come up.
    pub fn failed(&self, worker: usize, message: String) {
        self.change(worker, Some(Err(message)));
    }

    /// Waits until no language process takes requests and one failed, and tells why.
    pub async fn until_failed(&self) -> String {
        self.until(|phase| phase == Phase::InitFailed).await;
        self.failure().unwrap_or_default()
    }

    /// Why no language process takes requests, if none does and all that tried failed.
    fn failure(&self) -> Option<String> {
        let state = self.state.borrow();
        (state.phase == Phase::InitFailed).then(|| state.message.clone())
    }

    fn change(&self, worker: usize, outcome: Option<Result<(), String>>) {
        let mut workers = self.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match outcome {
            Some(outcome) => drop(workers.insert(worker, outcome)),
            // One that failed and is tried again counts as failed until it is up.
            None => drop(workers.extract_if(worker..=worker, |_, known| known.is_ok()).next()),
        }
        let ready = workers.values().filter(|outcome| outcome.is_ok()).count();
        let failure = workers.values().find_map(|outcome| outcome.as_ref().err().cloned());
        drop(workers);
        self.state.send_modify(|state| state.ready = ready);
        match (ready, failure) {
            (0, Some(message)) => self.set(Phase::InitFailed, message),
            (0, None) => self.set(Phase::Starting, ""),
            _ => self.set(Phase::Ready, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_ready_is_enough_and_failures_stand_until_it_is_up() {
        let board = Board::new(String::new());
        board.starting(0);
        board.starting(1);
        assert_eq!(board.now().phase, Phase::Starting);
        board.failed(0, "no module".into());
        board.starting(0);
        assert_eq!(board.failure().as_deref(), Some("no module"));
        board.ready(1, Duration::from_millis(7));
        let now = board.now();
        assert_eq!((now.phase, now.ready, now.init_millis), (Phase::Ready, 1, Some(7)));
        assert_eq!((now.starts, board.failure()), (3, None));
        board.starting(1);
        assert_eq!(board.now().phase, Phase::InitFailed);
        board.set(Phase::Ending, "");
        board.ready(1, Duration::ZERO);
        assert_eq!(board.now().phase, Phase::Ending);
    }
}
