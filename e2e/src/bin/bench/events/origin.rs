//! Where events come from: what a benchmark has to know of a server, beside how to lead its events to
//! a Function by Rouse.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rouse_e2e::hollow::{Hollow, PATIENCE};
use serde_json::Value;
use tokio::time::{interval, timeout};

use super::consumer::{Consumer, Target};

/// Bytes of an event's data, about.
const BYTES: usize = 256;
/// What stands before the number of an event, once in its data.
pub const MARK: &str = "event-";
/// How often it is asked whether something holds.
const LOOK: Duration = Duration::from_millis(50);

/// A server, with places that hold events of their own: streams, tables, buckets.
pub trait Origin: Sized + Send {
    /// Stores events one after the other.
    type Sender: Sender;

    /// What it is called.
    const NAME: &'static str;
    /// What is read, and how.
    const TITLE: &'static str;
    /// Events of one round of throughput.
    const EVENTS: usize;
    /// Whether events wait for who reads them; else they must come meanwhile, and a source first goes
    /// through all that a place has, and says when it did.
    const WAIT: bool = true;
    /// Whether it tells of an event at once.
    const IS_PROMPT: bool = true;
    /// Events a second that are enough, whatever a plain consumer does.
    const ENOUGH: Option<f64> = None;
    /// Whether an event may be missed once the next one of its row is there.
    const SUPERSEDES: bool = false;

    /// Starts the server.
    async fn start(hollow: &Hollow, activator: SocketAddr, rows: Rows) -> anyhow::Result<Self>;

    /// Makes a place.
    async fn make(&self, place: &str) -> anyhow::Result<()>;

    /// What a Trigger says of a place: the name of the source and what is in it.
    fn trigger(&self, place: &str) -> (&'static str, Value);

    /// Whoever stores events.
    async fn sender(&self) -> anyhow::Result<Self::Sender>;

    /// Stores events with these numbers, as fast as it can.
    async fn fill(&self, place: &str, numbers: Range<usize>) -> anyhow::Result<()>;

    /// Posts what comes in a place from `first` on, as somebody would without Rouse.
    fn consume(&self, place: &str, first: usize, target: Target) -> Consumer;

    /// Waits until all that a place has is acknowledged by whoever reads it.
    async fn acknowledged(&self, place: &str) -> anyhow::Result<()>;

    /// The number of an event by its data.
    fn number(data: &[u8]) -> Option<usize> {
        number_after(data, MARK)
    }

    /// Events of the same row come in the order of their numbers; none where no order is promised.
    fn row(&self, number: usize) -> Option<usize>;

    /// Kills the server.
    async fn kill(&mut self) -> anyhow::Result<()>;

    /// Starts it again.
    async fn restart(&mut self) -> anyhow::Result<()>;
}

/// How events come to the same row of a table, or object, where there is such a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Each event has its own.
    Own,
    /// Some events share one, and show whether their order is kept.
    Shared,
}

/// Stores events.
pub trait Sender: Send + 'static {
    /// Stores one, so that it comes once, also if it was stored already by a try that failed.
    fn store(
        &mut self,
        place: &str,
        number: usize,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Waits until `holds` does. It may fail meanwhile: the server may just have been started.
pub async fn until(
    what: &str,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut looks = interval(LOOK);
    let mut last = None;
    let looking = async {
        loop {
            looks.tick().await;
            match holds().await {
                Ok(true) => return,
                Ok(false) => last = None,
                Err(error) => last = Some(error),
            }
        }
    };
    let looked = timeout(PATIENCE, looking).await;
    looked.map_err(|_| anyhow::anyhow!("it does not come to this: {what} ({last:?})"))
}

/// What an event is known by.
pub fn name(number: usize) -> String {
    format!("{MARK}{number:09}")
}

/// What fills an event.
pub fn filling() -> String {
    "x".repeat(BYTES)
}

/// The number that stands behind `mark` in `data`.
pub fn number_after(data: &[u8], mark: &str) -> Option<usize> {
    let at = data.windows(mark.len()).position(|window| window == mark.as_bytes())?;
    let rest = data.get(at + mark.len()..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_what_stands_in_its_data() {
        let data = format!("{{\"key\":\"{}\",\"size\":2}}", name(17));
        assert_eq!(number_after(data.as_bytes(), MARK), Some(17));
        assert_eq!(number_after(data.as_bytes(), "\"size\":"), Some(2));
        assert_eq!(number_after(b"event-", MARK), None);
        assert_eq!(number_after(b"", MARK), None);
    }
}
