//! Supplies a pod with source while it comes up: brings its code, as soon as it has an address, and
//! tells what keeps it from serving. Nothing here ever gives a pod up.

use std::net::SocketAddr;
use std::time::Duration;

use rouse_core::function::start_failure::{Cause, StartFailure};
use tokio::time::{Instant, sleep};

use crate::instances::shim::{Phase, ShimState};
use crate::instances::{Instances, RecordRef};

/// The pauses between two looks: while the pod is not known to listen, when somebody waits for it to
/// do so; and while it starts, when only bad news are waited for.
const DENSE: Duration = Duration::from_millis(10);
const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(1);

/// A pod that is supplied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    /// Where it takes code and answers how it goes.
    pub control: SocketAddr,
    /// Where its code is kept; none where it fetches it itself.
    pub record: Option<RecordRef>,
}

/// How far it is.
#[derive(Clone, Debug)]
pub struct Supply {
    shim: Shim,
    begun: Instant,
    tries: u32,
    /// Whether it has ever answered.
    listens: bool,
    told: Option<StartFailure>,
}

impl Supply {
    /// Nothing was done yet.
    pub fn new(shim: Shim) -> Self {
        Self { shim, begun: Instant::now(), tries: 0, listens: false, told: None }
    }

    /// Goes on until there is something new to tell: what keeps the pod from serving, or that it is
    /// over. To be called again after that.
    pub async fn until_news(&mut self, instances: &impl Instances) -> Option<StartFailure> {
        loop {
            let found = self.look(instances).await;
            let cause = |failure: &Option<StartFailure>| failure.as_ref().map(|known| known.cause);
            let is_news = cause(&found) != cause(&self.told);
            self.told.clone_from(&found);
            if is_news {
                return found;
            }
            sleep(self.pause()).await;
        }
    }

    async fn look(&mut self, instances: &impl Instances) -> Option<StartFailure> {
        self.tries = self.tries.saturating_add(1);
        let Ok(state) = instances.fetch_state(self.shim.control).await else {
            // It does not run yet, or no more: others tell of that.
            return self.told.clone();
        };
        self.listens = true;
        let ShimState { phase, message } = state;
        let cause = match phase {
            Phase::WaitingForCode => return self.bring(instances).await,
            Phase::Other => return None,
            Phase::FetchFailed => Cause::CodeUnavailable,
            Phase::CodeRefused => Cause::CodeRefused,
            Phase::InitFailed => Cause::InitFailed,
        };
        Some(StartFailure::new(cause, &message))
    }

    async fn bring(&self, instances: &impl Instances) -> Option<StartFailure> {
        let record = self.shim.record.as_ref()?;
        let failed = match instances.fetch_code(record).await {
            Err(error) => format!(
                "the code of the revision can't be read from ControllerRevision {}: {error}",
                record.name
            ),
            Ok(code) => match instances.push_code(self.shim.control, code).await {
                Ok(()) => return None,
                Err(error) => format!("bringing the code to the pod failed: {error}"),
            },
        };
        // What is wrong with the code itself the pod has told by its state, the next time.
        Some(StartFailure::new(Cause::CodeUnavailable, &failed))
    }

    fn pause(&self) -> Duration {
        let longest = match self.begun.elapsed().as_secs() {
            0 if !self.listens => DENSE,
            0..5 => SHORT,
            5..60 => LONG,
            _ => LONGEST,
        };
        Duration::from_millis(1 << self.tries.min(10)).min(longest)
    }
}
