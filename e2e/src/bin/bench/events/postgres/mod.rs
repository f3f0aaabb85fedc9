//! Rows of tables of PostgreSQL, each committed by itself.

mod consumer;
mod wire;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rouse_e2e::hollow::Hollow;
use rouse_e2e::hollow::postgres::PostgresServer;
use serde_json::{Value, json};
use tokio::time::timeout;

use self::wire::Wire;
use super::consumer::{Consumer, Post, Target};
use super::origin::{self, Origin, Rows, filling, name, until};

/// Rows that share a table where their order is looked at: so many that some change while they are
/// with the Function.
const SHARED: usize = 20;
/// How long the server may take to commit a row.
const COMMITTED: Duration = Duration::from_secs(5);

/// A server of PostgreSQL. A place is a table, with a publication and a slot of the same name.
pub struct Postgres {
    server: PostgresServer,
    rows: Rows,
}

impl Origin for Postgres {
    type Sender = Sender;

    const NAME: &'static str = "postgres";
    const TITLE: &'static str = "PostgreSQL, a row of 256 B each commit";
    const EVENTS: usize = 30_000;

    async fn start(hollow: &Hollow, _: SocketAddr, rows: Rows) -> anyhow::Result<Self> {
        Ok(Self { server: PostgresServer::start(&hollow.ground).await?, rows })
    }

    async fn make(&self, place: &str) -> anyhow::Result<()> {
        let mut wire = self.wire().await?;
        for sql in [
            format!(
                "CREATE TABLE {place} (id bigint PRIMARY KEY, number bigint, event text, fill text)"
            ),
            format!("CREATE PUBLICATION {place} FOR TABLE {place}"),
            format!("SELECT pg_create_logical_replication_slot('{place}', 'pgoutput')"),
        ] {
            wire.run(&sql).await?;
        }
        Ok(())
    }

    fn trigger(&self, place: &str) -> (&'static str, Value) {
        let address = self.server.address;
        let trigger = json!({
            "host": address.ip().to_string(), "port": address.port(), "database": "postgres",
            "user": "postgres", "plaintext": true, "slot": place, "publication": place,
        });
        ("postgres", trigger)
    }

    async fn sender(&self) -> anyhow::Result<Sender> {
        Ok(Sender { address: self.server.address, rows: self.rows, wire: None })
    }

    async fn fill(&self, place: &str, numbers: Range<usize>) -> anyhow::Result<()> {
        let Range { start, end } = numbers;
        let sql = format!(
            "DO $$ BEGIN FOR n IN {start}..{} LOOP \
             INSERT INTO {place} VALUES (n, n, 'event-' || lpad(n::text, 9, '0'), '{}'); COMMIT; \
             END LOOP; END $$",
            end.saturating_sub(1),
            filling(),
        );
        self.wire().await?.run(&sql).await.map(drop)
    }

    fn consume(&self, place: &str, _: usize, target: Target) -> Consumer {
        let (address, place) = (self.server.address, place.to_owned());
        Consumer::start(consumer::consume(address, place, Post::new(target)))
    }

    async fn acknowledged(&self, place: &str) -> anyhow::Result<()> {
        // What comes to the log later is not of the events, and is confirmed only now and then.
        let mut end = None;
        until("all is confirmed", async || {
            let mut wire = self.wire().await?;
            if end.is_none() {
                end = wire.run("SELECT pg_current_wal_lsn()").await?;
            }
            let sql = format!(
                "SELECT confirmed_flush_lsn >= '{}' FROM pg_replication_slots \
                 WHERE slot_name = '{place}'",
                end.as_deref().unwrap_or_default()
            );
            Ok(wire.run(&sql).await?.as_deref() == Some("t"))
        })
        .await
    }

    fn row(&self, number: usize) -> Option<usize> {
        Some(row(self.rows, number))
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        self.server.restart().await
    }
}

impl Postgres {
    async fn wire(&self) -> anyhow::Result<Wire> {
        Wire::open(self.server.address, false).await
    }
}

/// Commits rows.
pub struct Sender {
    address: SocketAddr,
    rows: Rows,
    wire: Option<Wire>,
}

impl origin::Sender for Sender {
    async fn store(&mut self, place: &str, number: usize) -> anyhow::Result<()> {
        let (row, event, fill) = (row(self.rows, number), name(number), filling());
        let sql = format!(
            "INSERT INTO {place} VALUES ({row}, {number}, '{event}', '{fill}') ON CONFLICT (id) \
             DO UPDATE SET number = excluded.number, event = excluded.event \
             WHERE {place}.number < excluded.number"
        );
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => timeout(COMMITTED, Wire::open(self.address, false)).await??,
        };
        timeout(COMMITTED, wire.run(&sql)).await??;
        self.wire = Some(wire);
        Ok(())
    }
}

const fn row(rows: Rows, number: usize) -> usize {
    match rows {
        Rows::Own => number,
        Rows::Shared => number % SHARED,
    }
}
