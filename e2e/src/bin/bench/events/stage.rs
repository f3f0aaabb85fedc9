//! What events go through: a server, `rouse source`, an activator, and a Function that notes what it
//! gets, all on a control plane without nodes.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use rouse_e2e::hollow::activator::{Activator, Controller};
use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::programs::Programs;
use rouse_e2e::hollow::source::Source;
use rouse_e2e::hollow::{Hollow, NAMESPACE, PATIENCE};
use rouse_e2e::wait;
use serde_json::json;
use tokio::time::timeout;

use super::consumer::{Consumer, Target};
use super::function::Seen;
use super::origin::{Origin, Rows, Sender as _};

/// Events that the Function may run at once, and so those that are under way.
pub const AT_ONCE: usize = 100;
/// How long an event may take to come, before another is sent to see whether somebody listens.
const KNOCK: Duration = Duration::from_millis(200);

/// All that runs. Who calls is dropped before who is called.
pub struct Stage<O> {
    /// The source. It does not run until it is started.
    pub source: Source,
    /// Where events come from.
    pub origin: O,
    /// The activator.
    pub activator: Activator,
    _controller: Controller,
    /// Runs the pods.
    pub node: Node,
    /// What the Functions saw.
    pub seen: Seen,
    /// The control plane.
    pub hollow: Hollow,
    /// Events so far.
    events: usize,
}

/// Who brings events.
#[derive(Clone, Debug)]
pub enum Way {
    /// `rouse source`.
    Rouse,
    /// A plain consumer, which posts there.
    Plain(Target),
}

impl<O: Origin> Stage<O> {
    /// Starts everything but the source. Each event takes the Function so long.
    pub async fn set(rows: Rows, takes: Duration) -> anyhow::Result<Self> {
        let hollow = Hollow::start(Programs::from_environment()?).await?;
        eprintln!("the control plane is up; its logs are in {}", hollow.folder().display());
        let seen = Seen::new(takes, O::number);
        let node = Node::start(&hollow, seen.workload());
        let controller = hollow.start_controller().await?;
        let activator = hollow.start_activator().await?;
        let origin = O::start(&hollow, activator.http, rows).await?;
        let source = Source::prepare(&hollow, activator.http).await?;
        Ok(Self {
            source,
            origin,
            activator,
            _controller: controller,
            node,
            seen,
            hollow,
            events: 0,
        })
    }

    /// Makes a Function that is always warm.
    pub async fn warm(&self, name: &str) -> anyhow::Result<()> {
        let spec = json!({
            "image": "hollow", "port": 8080,
            "concurrency": {"target": AT_ONCE}, "scaling": {"min": 1, "max": 1},
        });
        self.hollow.apply_function(name, spec).await?;
        self.hollow.serving(name, 1).await.map(drop)
    }

    /// Makes a Function that sleeps soon after each request.
    pub async fn sleeper(&self, name: &str) -> anyhow::Result<()> {
        let spec = json!({
            "image": "hollow", "port": 8080, "concurrency": {"target": AT_ONCE},
            "scaling": {"max": 1, "idle": {"after": "1s"}, "stableWindow": "1s"},
        });
        self.hollow.apply_function(name, spec).await?;
        self.hollow.known(name).await.map(drop)
    }

    /// Makes a place, and a Trigger of the same name that leads its events to the Function of that
    /// name.
    pub async fn lead(&self, place: &str) -> anyhow::Result<()> {
        self.origin.make(place).await?;
        let (source, of) = self.origin.trigger(place);
        let spec = json!({
            "function": place, source: of,
            "delivery": {"attempts": 1000, "backoff": "100ms..1s"},
        });
        self.hollow.apply_trigger(place, spec).await.map(drop)
    }

    /// The Function, as whoever calls it in the cluster reaches it.
    pub fn target(&self, function: &str) -> Target {
        Target { address: self.activator.http, host: format!("{function}.{NAMESPACE}") }
    }

    /// Numbers of events that come next; the Function notes no others from now on.
    pub fn next(&mut self, events: usize) -> Range<usize> {
        let numbers = self.events..self.events + events;
        self.events = numbers.end;
        self.seen.expect(numbers.clone());
        numbers
    }

    /// Starts what brings the events of `place`, from `first` on. A plain consumer lives as long as
    /// what this returns.
    pub fn begin(
        &mut self,
        way: &Way,
        place: &str,
        first: usize,
    ) -> anyhow::Result<Option<Consumer>> {
        match way {
            Way::Rouse => self.source.start().map(|()| None),
            Way::Plain(target) => Ok(Some(self.origin.consume(place, first, target.clone()))),
        }
    }

    /// Waits until an event comes through.
    pub async fn passable(&mut self, place: &str) -> anyhow::Result<()> {
        let mut sender = self.origin.sender().await?;
        let passing = async {
            loop {
                let numbers = self.next(1);
                sender.store(place, numbers.start).await?;
                if timeout(KNOCK, self.seen.reaches(1)).await.is_ok() {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(PATIENCE, passing).await?
    }

    /// Waits until the source that `began` then has gone through all that `place` had, so that this is
    /// not measured with what comes.
    pub async fn gone_through(&self, place: &str, began: Timestamp) -> anyhow::Result<()> {
        wait::object(&self.hollow.triggers(), place, PATIENCE, |trigger| {
            let source = trigger.and_then(|trigger| trigger.status.as_ref()?.source.as_ref());
            let said = source.and_then(|source| source.checkpoint.as_deref());
            let at = said.and_then(|said| said.rsplit(' ').next()?.parse::<Timestamp>().ok());
            // The server tells whole seconds.
            at.is_some_and(|at| at.as_second() >= began.as_second())
        })
        .await
        .map(drop)
    }

    /// Waits until all of `place` is acknowledged, and ends what was started.
    pub async fn end(&mut self, place: &str, plain: Option<Consumer>) -> anyhow::Result<()> {
        self.origin.acknowledged(place).await?;
        self.source.end().await?;
        drop(plain);
        Ok(())
    }
}
