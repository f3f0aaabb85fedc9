//! Reads the changes of a slot as somebody would who needs no more than the rows that come: no
//! selection, no rows before, no large ones.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, Bytes};
use futures::future::{BoxFuture, ready};
use futures::stream::{FuturesOrdered, StreamExt};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, CopyData};
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};

use super::super::consumer::Post;
use super::super::stage::AT_ONCE;
use super::wire::Wire;

/// How often the server hears what is done.
const REPORT: Duration = Duration::from_millis(100);
/// Position, end and time before a message of the log.
const PREFIX: usize = 24;

/// What comes after what was done before.
type UnderWay = FuturesOrdered<BoxFuture<'static, anyhow::Result<Option<u64>>>>;

/// Posts each row that comes, and confirms transactions when they are done.
pub async fn consume(address: SocketAddr, slot: String, post: Post) -> anyhow::Result<()> {
    let mut wire = Wire::open(address, true).await?;
    let sql = format!(
        "START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names '{slot}')"
    );
    wire.send(|buffer| frontend::query(&sql, buffer)).await?;
    let (mut log, mut under_way, mut confirmed) = (Log::default(), UnderWay::new(), 0);
    let mut reports = interval(REPORT);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(done) = under_way.next(), if !under_way.is_empty() => {
                confirmed = done?.unwrap_or(confirmed);
            }
            message = wire.next(), if under_way.len() < AT_ONCE => match message? {
                Some(Message::CopyData(body)) => {
                    log.hear(body.into_bytes(), &post, &mut under_way)?;
                }
                Some(Message::ErrorResponse(_)) => bail!("the server refuses"),
                _ => {}
            },
            _ = reports.tick() => {
                let position = confirmed.to_be_bytes();
                let parts: [&[u8]; 6] = [b"r", &position, &position, &position, &[0; 8], &[0]];
                let bytes = parts.concat();
                wire.send(|buffer| CopyData::new(&bytes[..]).map(|data| data.write(buffer))).await?;
            }
        }
    }
}

/// What is known of the log.
#[derive(Default)]
struct Log {
    columns: Vec<String>,
    commit: u64,
    index: u64,
}

impl Log {
    fn hear(
        &mut self,
        mut data: Bytes,
        post: &Post,
        under_way: &mut UnderWay,
    ) -> anyhow::Result<()> {
        match data.try_get_u8()? {
            b'w' => data.advance(PREFIX),
            b'k' => {
                // With nothing under way all is done that there was to tell.
                let end = data.try_get_u64()?;
                if under_way.is_empty() {
                    under_way.push_back(Box::pin(ready(Ok(Some(end)))));
                }
                return Ok(());
            }
            _ => return Ok(()),
        }
        match data.try_get_u8()? {
            b'B' => (self.commit, self.index) = (data.try_get_u64()?, 0),
            b'C' => {
                data.advance(1 + 8);
                let end = data.try_get_u64()?;
                under_way.push_back(Box::pin(ready(Ok(Some(end)))));
            }
            b'R' => self.columns = columns(data)?,
            b'I' => {
                data.advance(4 + 1);
                let row = row(data, &self.columns)?;
                let id = format!("{:X}/{}", self.commit, self.index);
                self.index += 1;
                let post = post.clone();
                let sent = tokio::spawn(async move { post.send(id, row).await });
                under_way.push_back(Box::pin(async move { sent.await?.map(|()| None) }));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The names of a table's columns.
fn columns(mut data: Bytes) -> anyhow::Result<Vec<String>> {
    data.advance(4);
    let (_schema, _table) = (text(&mut data)?, text(&mut data)?);
    data.advance(1);
    let mut columns = Vec::new();
    for _ in 0..data.try_get_u16()? {
        data.advance(1);
        columns.push(text(&mut data)?);
        data.advance(4 + 4);
    }
    Ok(columns)
}

/// A row as JSON, its values as texts.
fn row(mut data: Bytes, columns: &[String]) -> anyhow::Result<Bytes> {
    let mut row = Map::new();
    for (name, _) in columns.iter().zip(0..data.try_get_u16()?) {
        if data.try_get_u8()? == b't' {
            let length = usize::try_from(data.try_get_u32()?)?;
            let value = String::from_utf8_lossy(&data.split_to(length)).into_owned();
            row.insert(name.clone(), Value::String(value));
        }
    }
    Ok(Value::Object(row).to_string().into())
}

fn text(data: &mut Bytes) -> anyhow::Result<String> {
    let end = data.iter().position(|byte| *byte == 0).context("a text has an end")?;
    let text = String::from_utf8_lossy(&data.split_to(end)).into_owned();
    data.advance(1);
    Ok(text)
}
