//! Finds the publication, or makes it, and refuses one that does not tell what was asked for: what
//! never comes would be missed by nobody.

use std::collections::BTreeSet;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use rouse_core::postgres::{Operation, Table};
use rouse_crds::v1alpha1::{PostgresOperation, PostgresTrigger};

use super::{ask, text};
use crate::failure::Failure;
use crate::postgres::refusal::code;
use crate::postgres::wire::{Fault, PATIENCE, Row, Wire};

pub(super) async fn prepare(wire: &mut Wire, trigger: &PostgresTrigger) -> Result<(), Failure> {
    let tables = fetch_tables(wire, trigger).await?;
    let sql = format!(
        "SELECT pubinsert, pubupdate, pubdelete, pubtruncate \
         FROM pg_catalog.pg_publication WHERE pubname = {}",
        escape_literal(&trigger.publication)
    );
    let rows = ask(wire, "looking for the publication", &sql).await?;
    match rows.first() {
        Some(row) => check(wire, trigger, row).await,
        None => make(wire, trigger, &tables).await,
    }
}

/// A table of the database.
struct Found {
    name: String,
    /// Whether its rows can be told apart, without which the database refuses to change a row that
    /// is published.
    is_identified: bool,
}

/// The tables that the Trigger names, which must be there with the columns that it names.
async fn fetch_tables(wire: &mut Wire, trigger: &PostgresTrigger) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for table in &trigger.tables {
        let Table { schema, name, columns } = Table::of(table);
        let sql = format!(
            "SELECT c.relreplident = 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i \
             WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary \
             WHEN 'i' THEN i.indisreplident ELSE false END), \
             (SELECT string_agg(a.attname, ',') FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND n.nspname = {} AND c.relname = {}",
            escape_literal(&schema),
            escape_literal(&name)
        );
        let rows = ask(wire, "looking for the tables", &sql).await?;
        let row = rows.first();
        if row.is_none() {
            return Err(Failure::Missing { what: "table", name: table.name.clone() });
        }
        let has: BTreeSet<&str> = text(row, 1).split(',').collect();
        if let Some(column) = columns.iter().find(|column| !has.contains(column.as_str())) {
            return Err(Failure::Invalid(format!("{} has no column {column}", table.name)));
        }
        found.push(Found { name: table.name.clone(), is_identified: text(row, 0) == "t" });
    }
    Ok(found)
}

/// Refuses a publication that tells less than was asked for.
async fn check(wire: &mut Wire, trigger: &PostgresTrigger, row: &Row) -> Result<(), Failure> {
    let publication = &trigger.publication;
    let told = [
        PostgresOperation::Insert,
        PostgresOperation::Update,
        PostgresOperation::Delete,
        PostgresOperation::Truncate,
    ];
    let told = told.into_iter().enumerate().filter(|(at, _)| text(Some(row), *at) == "t");
    let told: BTreeSet<_> = told.map(|(_, operation)| operation).collect();
    if let Some(missing) = trigger.operations.iter().find(|wanted| !told.contains(wanted)) {
        let all = told.into_iter().chain(trigger.operations.iter().copied());
        let (missing, all) = (Operation::from(*missing).as_str(), words(all));
        return Err(Failure::Invalid(format!(
            "the publication {publication} does not tell of {missing}: run ALTER PUBLICATION \
             {publication} SET (publish = '{all}'), or leave it out of spec.postgres.operations"
        )));
    }
    let sql = format!(
        "SELECT schemaname || '.' || tablename \
         FROM pg_catalog.pg_publication_tables WHERE pubname = {}",
        escape_literal(publication)
    );
    let rows = ask(wire, "looking for the tables of the publication", &sql).await?;
    let has: BTreeSet<&str> = rows.iter().map(|row| text(Some(row), 0)).collect();
    let missing = trigger.tables.iter().find(|table| !has.contains(table.name.as_str()));
    missing.map_or(Ok(()), |table| {
        let table = &table.name;
        Err(Failure::Invalid(format!(
            "the publication {publication} does not have {table}: run ALTER PUBLICATION \
             {publication} ADD TABLE {table} (of a table that has partitions, also SET \
             (publish_via_partition_root = true))"
        )))
    })
}

fn words(operations: impl IntoIterator<Item = PostgresOperation>) -> String {
    let all: BTreeSet<_> = operations.into_iter().collect();
    let words: Vec<_> = all.into_iter().map(|one| Operation::from(one).as_str()).collect();
    words.join(", ")
}

async fn make(wire: &mut Wire, trigger: &PostgresTrigger, tables: &[Found]) -> Result<(), Failure> {
    const DOING: &str = "making the publication";
    let publication = &trigger.publication;
    if tables.is_empty() {
        let name = format!("{publication}: make it, or name its tables in spec.postgres.tables");
        return Err(Failure::Missing { what: "publication", name });
    }
    let changes = [PostgresOperation::Update, PostgresOperation::Delete];
    let changes = trigger.operations.iter().any(|wanted| changes.contains(wanted));
    if let Some(table) = tables.iter().find(|table| changes && !table.is_identified) {
        let table = &table.name;
        return Err(Failure::Invalid(format!(
            "{table} has no primary key, and once it is published the database would refuse updates \
             and deletes of it: give it one, run ALTER TABLE {table} REPLICA IDENTITY FULL, or ask \
             for Insert alone in spec.postgres.operations"
        )));
    }
    let list: Vec<String> = trigger.tables.iter().map(quoted).collect();
    let sql = format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = '{}', publish_via_partition_root = true)",
        escape_identifier(publication),
        list.join(", "),
        words(trigger.operations.iter().copied()),
    );
    match wire.query(&sql, PATIENCE).await {
        Ok(_) => {
            tracing::info!(publication, "made a publication");
            Ok(())
        }
        // Somebody was quicker: the next try looks at it.
        Err(Fault::Refused(refusal)) if refusal.code == code::DUPLICATE_OBJECT => {
            Err(Failure::away(DOING, refusal))
        }
        Err(Fault::Refused(refusal)) if refusal.code == code::DENIED => {
            let text = format!(
                "{refusal}: who makes a publication must own its tables and may CREATE in the \
                 database; let an administrator run {sql}"
            );
            Err(Failure::denied(DOING, text))
        }
        Err(fault) => Err(fault.failure(DOING)),
    }
}

fn quoted(table: &rouse_crds::v1alpha1::PostgresTable) -> String {
    let Table { schema, name, .. } = Table::of(table);
    format!("{}.{}", escape_identifier(&schema), escape_identifier(&name))
}
