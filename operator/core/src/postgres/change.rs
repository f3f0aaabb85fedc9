//! A change of a row, and the event that tells of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rouse_crds::v1alpha1::{PostgresOperation, PostgresTable, PostgresTrigger};
use serde_json::{Map, Value, json};

use super::Lsn;
use super::row::escape;
use crate::event::{CloudEvent, Data};

/// What was done to a row, or to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A row came.
    Insert,
    /// It was changed.
    Update,
    /// It went.
    Delete,
    /// All rows of the table went at once.
    Truncate,
}

impl Operation {
    /// The word for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

/// Which changes are told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// These operations; all where it is empty.
    pub operations: BTreeSet<Operation>,
    /// These tables; all that the publication has where it is empty.
    pub tables: Vec<Table>,
}

/// A table whose changes are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns that are told; all where it is empty.
    pub columns: BTreeSet<String>,
}

impl From<PostgresOperation> for Operation {
    fn from(operation: PostgresOperation) -> Self {
        match operation {
            PostgresOperation::Insert => Self::Insert,
            PostgresOperation::Update => Self::Update,
            PostgresOperation::Delete => Self::Delete,
            PostgresOperation::Truncate => Self::Truncate,
        }
    }
}

impl Table {
    /// A table as a Trigger names it: `schema.name`.
    pub fn of(table: &PostgresTable) -> Self {
        let PostgresTable { name, columns } = table;
        let (schema, name) = name.split_once('.').unwrap_or(("public", name));
        let columns = columns.iter().cloned().collect();
        Self { schema: schema.to_owned(), name: name.to_owned(), columns }
    }
}

impl Selection {
    /// What a Trigger asks for.
    pub fn of_trigger(trigger: &PostgresTrigger) -> Self {
        Self {
            operations: trigger.operations.iter().copied().map(Into::into).collect(),
            tables: trigger.tables.iter().map(Table::of).collect(),
        }
    }

    /// Whether `column` of a table is told; none where no such change of it is told of.
    pub(super) fn of<'a>(
        &'a self,
        operation: Operation,
        schema: &str,
        name: &str,
    ) -> Option<impl Fn(&str) -> bool + 'a> {
        let named = self.tables.iter().find(|table| table.schema == schema && table.name == name);
        let is_told = (self.operations.is_empty() || self.operations.contains(&operation))
            && (self.tables.is_empty() || named.is_some());
        is_told.then_some(move |column: &str| {
            named.is_none_or(|table| table.columns.is_empty() || table.columns.contains(column))
        })
    }
}

/// Where a change is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where its transaction was committed.
    pub commit: Lsn,
    /// Its number among the changes of the transaction, those counted that are not told of: a
    /// Trigger that is changed names a change as before.
    pub index: u64,
}

/// A change that is told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What was done.
    pub operation: Operation,
    /// Schema and name of the table.
    pub table: (String, String),
    /// What identifies the row; none where the table has no key, or where it is the whole row.
    pub key: Option<String>,
    /// Whether it concerns more than one key: rows that change their key, and truncated tables. To
    /// keep the order, all that came before it must be done first, and what follows has to wait.
    pub stands_alone: bool,
    /// The row before, as far as the replica identity tells it.
    pub before: Option<Map<String, Value>>,
    /// The row after.
    pub after: Option<Map<String, Value>>,
    /// Columns that `after` leaves out: large values that did not change.
    pub unchanged: Vec<String>,
    /// Where it is in the log.
    pub place: Place,
    /// When its transaction was committed.
    pub time: Timestamp,
}

impl Change {
    /// What changes of the same row have in common, for their order; changes of a table whose rows
    /// can't be told apart are in one order.
    pub fn order_key(&self) -> String {
        self.subject()
    }

    /// The event that tells of it. `slot` is the replication slot, `source` the Trigger.
    pub fn into_event(self, source: String, slot: &str) -> CloudEvent {
        let subject = self.subject();
        let Self {
            operation, table: (schema, name), before, after, unchanged, place, time, ..
        } = self;
        let Place { commit, index } = place;
        let mut data = json!({
            "op": operation.as_str(),
            "table": {"schema": schema, "name": name},
            "before": before,
            "after": after,
            "lsn": commit.to_string(),
            "index": index,
            "commitTime": time.to_string(),
        });
        if let (false, Some(fields)) = (unchanged.is_empty(), data.as_object_mut()) {
            fields.insert("unchanged".into(), unchanged.into());
        }
        CloudEvent {
            id: format!("{slot}/{commit}/{index}"),
            source,
            kind: format!("dev.rouse.postgres.{}", operation.as_str()),
            time,
            subject: Some(subject),
            extensions: BTreeMap::new(),
            data: Data::Json(data),
        }
    }

    fn subject(&self) -> String {
        let (schema, name) = (escape(&self.table.0), escape(&self.table.1));
        self.key
            .as_ref()
            .map_or_else(|| format!("{schema}.{name}"), |key| format!("{schema}.{name}/{key}"))
    }
}
