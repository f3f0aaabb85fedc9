//! Looks at a slot from beside: while the Function is busy, what is read of the log does not tell how
//! long it is.

use postgres_protocol::escape::escape_literal;
use rouse_core::postgres::Lsn;

use super::Access;
use super::connection::{self, Mode};
use super::refusal::{Refusal, code};
use super::wire::PATIENCE;
use crate::failure::Failure;

/// What there is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Where the server's log ends.
    pub end: Lsn,
    /// Whether the server will soon forget what the slot keeps.
    pub is_endangered: bool,
}

/// Looks; none where the server has no connection left for it, or no such slot.
pub(super) async fn look(access: &Access) -> Result<Option<Seen>, Failure> {
    const DOING: &str = "looking at the slot";
    let mut wire = match connection::open(access, Mode::Questions).await {
        Err(Failure::Away { cause, .. }) if is_full(&*cause) => return Ok(None),
        opened => opened?,
    };
    let sql = format!(
        "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
         ELSE pg_current_wal_lsn() END, wal_status = 'unreserved' \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
        escape_literal(&access.settings.trigger.slot)
    );
    let rows = wire.query(&sql, PATIENCE).await.map_err(|fault| fault.failure(DOING))?;
    wire.close().await;
    let Some([end, endangered]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
    let end = end.as_deref().and_then(|end| end.parse().ok());
    let is_endangered = endangered.as_deref() == Some("t");
    Ok(end.map(|end| Seen { end, is_endangered }))
}

fn is_full(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let refusal = cause.downcast_ref::<Refusal>();
    refusal.is_some_and(|refusal| refusal.code == code::TOO_MANY_CONNECTIONS)
}
