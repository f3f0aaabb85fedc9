//! Sees to it that a server can tell of changes, and that it tells of those that were asked for:
//! its settings, the publication, the slot. Makes the latter two where they never were.

mod publication;
mod slot;

use rouse_core::postgres::Lsn;

use super::wire::{PATIENCE, Row, Wire};
use super::{Known, Settings};
use crate::failure::Failure;

pub(super) use slot::lost;

/// The oldest version with all that is needed here.
const OLDEST: u32 = 13;

/// What there is to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// The position at which to begin.
    pub start: Lsn,
    /// Where the server's log ends.
    pub end: Lsn,
}

/// Prepares reading.
pub(super) async fn prepare(
    wire: &mut Wire,
    settings: &Settings,
    known: &mut Known,
) -> Result<Stretch, Failure> {
    check_server(wire).await?;
    let (server, end) = identify(wire).await?;
    // Before the slot: a slot tells nothing of a publication that came later.
    publication::prepare(wire, &settings.trigger).await?;
    let confirmed = slot::prepare(wire, &settings.trigger.slot, known.slot).await?;
    known.slot = true;
    if known.server.as_ref() != Some(&server) {
        // Positions of another server, or of another past of this one, say nothing.
        *known = Known { slot: true, server: Some(server), done: None, confirmed };
    } else if confirmed > known.confirmed {
        let (slot, from, to) = (&settings.trigger.slot, known.confirmed, confirmed);
        tracing::warn!(slot, %from, %to, "somebody else moved a slot: what lies between is not told");
        known.confirmed = confirmed;
    }
    Ok(Stretch { start: known.confirmed, end: end.max(known.confirmed) })
}

async fn check_server(wire: &mut Wire) -> Result<(), Failure> {
    const SQL: &str = "SELECT current_setting('server_version_num'), current_setting('wal_level')";
    let rows = ask(wire, "asking for the version of PostgreSQL", SQL).await?;
    let row = rows.first();
    let version: u32 = text(row, 0).parse().unwrap_or(0);
    if version < OLDEST * 10_000 {
        let version = version / 10_000;
        return Err(Failure::Invalid(format!(
            "the server has version {version} of PostgreSQL: {OLDEST} is the oldest that does"
        )));
    }
    match text(row, 1) {
        "logical" => Ok(()),
        other => Err(Failure::Invalid(format!(
            "the server has wal_level = {other}, which does not tell of changes: set wal_level = \
             logical there (ALTER SYSTEM SET wal_level = 'logical') and restart it"
        ))),
    }
}

/// The server and its timeline, and where its log ends.
async fn identify(wire: &mut Wire) -> Result<((String, String), Lsn), Failure> {
    let rows = ask(wire, "asking which server this is", "IDENTIFY_SYSTEM").await?;
    let row = rows.first();
    let end = text(row, 2).parse().unwrap_or_default();
    Ok(((text(row, 0).to_owned(), text(row, 1).to_owned()), end))
}

/// Asks something that the server has no reason to refuse.
async fn ask(wire: &mut Wire, doing: &'static str, sql: &str) -> Result<Vec<Row>, Failure> {
    wire.query(sql, PATIENCE).await.map_err(|fault| fault.failure(doing))
}

/// A value; empty where there is none.
fn text(row: Option<&Row>, column: usize) -> &str {
    row.and_then(|row| row.get(column)).and_then(Option::as_deref).unwrap_or_default()
}
