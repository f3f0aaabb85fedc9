//! Reads the messages of one connection, one after the other.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Lsn;
use super::change::{Change, Operation, Place, Selection};
use super::row::{Row, key};
use super::wire::{Cell, Malformed, Message, Old, Relation};

/// PostgreSQL counts its microseconds from here: 2000-01-01.
pub(super) const EPOCH: i64 = 946_684_800_000_000;

/// What is known on a connection: the tables that were described on it, and the transaction that is
/// being told. Made anew for each connection, on which PostgreSQL describes all anew.
#[derive(Debug)]
pub struct Reader {
    selection: Selection,
    relations: HashMap<u32, Relation>,
    transaction: Option<Transaction>,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    commit: Lsn,
    time: Timestamp,
    /// Changes so far.
    changes: u64,
}

/// What a message told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Nothing that matters to a Function.
    Nothing,
    /// Changes; none, where they are not selected.
    Changes(Vec<Change>),
    /// That the transaction is over: once all its changes are done, the slot may be told this
    /// position, also where there were none.
    Committed(Lsn),
}

impl Reader {
    /// A reader for a new connection.
    pub fn new(selection: Selection) -> Self {
        Self { selection, relations: HashMap::new(), transaction: None }
    }

    /// Whether a transaction is being told. Positions that the server tells meanwhile say nothing
    /// about what is done.
    pub const fn is_within(&self) -> bool {
        self.transaction.is_some()
    }

    /// Reads the next message.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Told, Malformed> {
        match Message::parse(bytes)? {
            Message::Begin { commit, micros } => {
                let time = micros.checked_add(EPOCH);
                let time = time.and_then(|micros| Timestamp::from_microsecond(micros).ok());
                let time = time.ok_or(Malformed::Time(micros))?;
                self.transaction = Some(Transaction { commit, time, changes: 0 });
                Ok(Told::Nothing)
            }
            Message::Commit { end } => {
                self.transaction.take().ok_or(Malformed::Outside)?;
                Ok(Told::Committed(end))
            }
            Message::Relation(relation) => {
                self.relations.insert(relation.id, relation);
                Ok(Told::Nothing)
            }
            Message::Insert { table, new } => {
                self.change(table, Operation::Insert, None, Some(&new))
            }
            Message::Update { table, old, new } => {
                self.change(table, Operation::Update, old.as_ref(), Some(&new))
            }
            Message::Delete { table, old } => {
                self.change(table, Operation::Delete, Some(&old), None)
            }
            Message::Truncate { tables } => {
                let mut changes = Vec::new();
                for table in tables {
                    if let Told::Changes(told) =
                        self.change(table, Operation::Truncate, None, None)?
                    {
                        changes.extend(told);
                    }
                }
                Ok(Told::Changes(changes))
            }
            Message::Other => Ok(Told::Nothing),
        }
    }

    fn change(
        &mut self,
        table: u32,
        operation: Operation,
        old: Option<&Old<'_>>,
        new: Option<&[Cell<'_>]>,
    ) -> Result<Told, Malformed> {
        let transaction = self.transaction.as_mut().ok_or(Malformed::Outside)?;
        let place = Place { commit: transaction.commit, index: transaction.changes };
        transaction.changes += 1;
        let relation = self.relations.get(&table).ok_or(Malformed::Table(table))?;
        let Some(is_told) = self.selection.of(operation, &relation.schema, &relation.name) else {
            return Ok(Told::Changes(Vec::new()));
        };
        let cells = old.map(|old| match old {
            Old::Key(cells) | Old::Whole(cells) => cells.as_slice(),
        });
        let whole = match old {
            Some(Old::Whole(cells)) => Some(cells.as_slice()),
            Some(Old::Key(_)) | None => None,
        };
        let before = cells.map(|cells| {
            // Of a key, the other columns are unknown, and not null.
            let is_known = |key: bool| key || whole.is_some();
            Row::of(relation, cells, |column| is_known(column.key) && is_told(&column.name), None)
        });
        let after = new.map(|new| Row::of(relation, new, |column| is_told(&column.name), whole));
        let (before, after) = (before.transpose()?, after.transpose()?.unwrap_or_default());
        let (old_key, new_key) = (
            cells.map(|cells| key(relation, cells, None)).transpose()?.flatten(),
            new.map(|new| key(relation, new, cells)).transpose()?.flatten(),
        );
        let moves = old_key.is_some() && new_key.is_some() && old_key != new_key;
        Ok(Told::Changes(vec![Change {
            operation,
            table: (relation.schema.clone(), relation.name.clone()),
            key: new_key.or(old_key),
            stands_alone: moves || operation == Operation::Truncate,
            before: before.map(|row| row.values),
            after: new.map(|_| after.values),
            unchanged: after.unchanged,
            place,
            time: transaction.time,
        }]))
    }
}
