//! Finds the replication slot, or makes it where it never was, and refuses one by which changes would
//! be lost.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use rouse_core::postgres::Lsn;

use super::{ask, text};
use crate::failure::Failure;
use crate::postgres::refusal::code;
use crate::postgres::wire::{Fault, Row, Wire};

/// How long making a slot may take: it waits for all transactions that are open.
const MAKING: Duration = Duration::from_mins(2);

/// The position that the slot was told last. One that was there (`is_known`) and is gone is not made
/// again: it would begin elsewhere, and skip what lies between in silence.
pub(super) async fn prepare(wire: &mut Wire, slot: &str, is_known: bool) -> Result<Lsn, Failure> {
    let sql = format!(
        "SELECT slot_type, coalesce(plugin, ''), coalesce(database = current_database(), false), \
         coalesce(wal_status, ''), confirmed_flush_lsn, active_pid \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
        escape_literal(slot)
    );
    let rows = ask(wire, "looking for the slot", &sql).await?;
    match rows.first() {
        Some(row) => check(slot, row),
        None if is_known => Err(Failure::Lost(format!(
            "the slot {slot} is gone, and with it how far it was: what was changed since then can't \
             be told any more; look after it yourself, then go on from now with SELECT \
             pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ))),
        None => make(wire, slot).await,
    }
}

fn check(slot: &str, row: &Row) -> Result<Lsn, Failure> {
    let row = Some(row);
    let (kind, plugin, is_here, wal_status) =
        (text(row, 0), text(row, 1), text(row, 2) == "t", text(row, 3));
    if kind != "logical" || plugin != "pgoutput" {
        return Err(Failure::Invalid(format!(
            "the slot {slot} is {kind} {plugin}, and a logical one of pgoutput is needed: name \
             another in spec.postgres.slot"
        )));
    }
    if !is_here {
        return Err(Failure::Invalid(format!(
            "the slot {slot} is of another database: name another in spec.postgres.slot"
        )));
    }
    if wal_status == "lost" {
        return Err(lost(slot, "the server forgot what it kept for it"));
    }
    text(row, 4).parse().map_err(|_| {
        Failure::InUse(format!(
            "the slot {slot} is being made by process {} of the server, which waits for \
             transactions that are open",
            text(row, 5)
        ))
    })
}

/// What the slot kept is gone at the server.
pub(in crate::postgres) fn lost(slot: &str, why: &str) -> Failure {
    Failure::Lost(format!(
        "the slot {slot} is lost ({why}): what was changed since it was last read can't be told any \
         more; look after it yourself, raise max_slot_wal_keep_size, and go on from now with SELECT \
         pg_drop_replication_slot('{slot}'), pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ))
}

async fn make(wire: &mut Wire, slot: &str) -> Result<Lsn, Failure> {
    const DOING: &str = "making the slot, which waits for all transactions that are open";
    let name = escape_identifier(slot);
    let sql = format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput NOEXPORT_SNAPSHOT");
    let made = wire.query(&sql, MAKING).await.map_err(|fault| match fault {
        // Somebody was quicker: the next try finds it.
        Fault::Refused(refusal) if refusal.code == code::DUPLICATE_OBJECT => {
            Failure::away(DOING, refusal)
        }
        fault => fault.failure(DOING),
    })?;
    tracing::info!(slot, "made a slot");
    let position = text(made.first(), 1);
    position.parse().map_err(|error| Failure::away(DOING, error))
}
