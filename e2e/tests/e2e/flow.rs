//! The samples that need servers, as they stand in `manifests/samples/with-servers`, on the cluster and in
//! `rouse dev`: a picture that is uploaded, messages, a row and the clock each wake a Function that sleeps,
//! and what comes of it is the same in both.

mod laptop;
mod objects;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream::{self, stream};
use image::{ImageFormat, RgbImage};
use kube::api::DeleteParams;
use rouse_crds::v1alpha1::Trigger;
use rouse_e2e::cluster::NATS_IMAGE;
use rouse_e2e::scope::{PATIENCE, Scope, condition};
use rouse_e2e::wait;
use serde_json::{Value, json};

use self::laptop::Laptop;
pub use self::objects::Objects;
use crate::dev::{apply, samples};
use crate::postgres::Database;

/// The samples' folders.
const FOLDERS: [&str; 3] = ["nats", "postgres", "pictures"];
const FUNCTIONS: [&str; 6] = ["thumbnails", "announced", "ordered", "ticked", "orders", "invoices"];
/// The Triggers that have a source.
const TRIGGERS: [&str; 5] = ["uploaded", "made", "changed", "paid", "paid-orders"];
/// A minute until the tick, and a cold start on a busy machine.
const TICK: Duration = Duration::from_mins(2);

/// What came of what happened.
type Outcome = BTreeMap<&'static str, Value>;

/// A picture of many colours.
fn picture() -> anyhow::Result<Vec<u8>> {
    let picture = RgbImage::from_fn(640, 480, |x, y| {
        let part = |of: u32, all: u32| u8::try_from(of * 255 / all).unwrap_or(u8::MAX);
        image::Rgb([part(x, 640), part(y, 480), 128])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// A client of NATS, with the streams that the samples name.
async fn streams(url: String) -> anyhow::Result<jetstream::Context> {
    let context = jetstream::new(async_nats::connect(url).await?);
    for (name, subjects) in [("PICTURES", "pictures.*"), ("ORDERS", "orders.*.paid")] {
        let subjects = vec![subjects.to_owned()];
        let config = stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        context.create_stream(config).await?;
    }
    Ok(context)
}

async fn all_asleep(scope: &Scope) -> anyhow::Result<()> {
    for function in FUNCTIONS {
        scope.asleep(function, TICK).await.with_context(|| format!("{function} does not sleep"))?;
    }
    Ok(())
}

async fn delivered(scope: &Scope, trigger: &str) -> anyhow::Result<()> {
    wait::object(&scope.api::<Trigger>(), trigger, PATIENCE, |trigger| {
        let source = trigger.and_then(|trigger| trigger.status.as_ref()?.source.as_ref());
        source.is_some_and(|source| source.delivered >= 1 && source.lag == Some(0))
    })
    .await
    .map(drop)
}

/// Lets it happen where all Functions sleep and nobody is called yet, and waits until they have done their
/// work and sleep again. `sql` runs a statement.
async fn play(
    scope: &Scope,
    objects: &Objects,
    nats: &jetstream::Context,
    sql: impl AsyncFn(&'static str) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    for trigger in TRIGGERS {
        scope.trigger_is(trigger, "True", "Connected").await?;
    }
    all_asleep(scope).await?;

    objects.put("uploads/colours of autumn.png", picture()?).await?;
    objects.put("uploads/no picture.txt", b"text".to_vec()).await?;
    sql("INSERT INTO orders VALUES (1, true, 99.5)").await?;
    for (subject, order) in
        [("orders.16.paid", r#"{"total": 50.0}"#), ("orders.17.paid", r#"{"total": 150.0}"#)]
    {
        nats.publish(subject, order.into()).await?.await?;
    }
    let outcome = outcome(scope, objects).await?;
    for trigger in TRIGGERS {
        delivered(scope, trigger).await?;
    }
    for function in ["announced", "ordered"] {
        let entries = objects.keys(&format!("journal/{function}/")).await?;
        ensure!(entries.len() == 1, "{function} wrote {entries:?}");
    }

    // The clock would wake one of them again.
    scope.api::<Trigger>().delete("minutely", &DeleteParams::default()).await?;
    all_asleep(scope).await?;
    let slept = scope.function("thumbnails", PATIENCE, |_| true).await?;
    ensure!(condition(&slept, "Ready") == Some("True"), "{slept:?}");
    Ok(outcome)
}

/// What the Functions made, wrote down and printed.
async fn outcome(scope: &Scope, objects: &Objects) -> anyhow::Result<Outcome> {
    // First: what a process printed that sleeps again is lost in `rouse dev`.
    scope.printed("orders", "paid: orders.17.paid 150.0", PATIENCE).await?;
    scope.printed("invoices", "to be billed: order 1", PATIENCE).await?;
    let thumbnail = objects.comes("thumbnails/", PATIENCE).await?;
    let small = image::load_from_memory(&objects.get(&thumbnail).await?)?;
    let announced = objects.entry("announced", PATIENCE).await?;
    let ordered = objects.entry("ordered", PATIENCE).await?;
    let ticked = objects.entry("ticked", TICK).await?;
    let told = |entry: &Value| -> anyhow::Result<Value> {
        Ok(serde_json::from_str(entry["data"].as_str().context("an entry has data")?)?)
    };
    let change = told(&ordered)?;
    Ok(BTreeMap::from([
        ("thumbnail", json!({"key": thumbnail, "size": [small.width(), small.height()]})),
        ("announced", told(&announced)?),
        ("ordered", json!([ordered["type"], change["op"], change["after"]])),
        ("ticked", ticked["type"].clone()),
    ]))
}

/// What comes of it on the cluster.
async fn on_the_cluster(scope: &Scope) -> anyhow::Result<Outcome> {
    let container = json!({"image": NATS_IMAGE, "args": ["--jetstream", "--store_dir", "/data"]});
    let (objects, address, database) = tokio::try_join!(
        Objects::start(scope),
        scope.serve("nats", 4222, (container, json!({}))),
        Database::start(scope),
    )?;
    let nats = streams(format!("nats://{address}")).await?;
    for folder in FOLDERS {
        apply(scope, &samples().join("with-servers").join(folder)).await?;
    }
    let sql = async |sql: &'static str| database.run(sql).await.map(drop);
    play(scope, &objects, &nats, sql).await
}

/// What comes of it in `rouse dev`.
async fn in_rouse_dev() -> anyhow::Result<Outcome> {
    let laptop = Laptop::start().await?;
    let nats = streams(laptop.nats_url()).await?;
    let dev = laptop.dev().await?;
    play(&dev.scope, &laptop.objects, &nats, async |sql: &'static str| laptop.run(sql).await).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_picture_a_message_a_row_and_the_clock_each_wake_a_function_that_sleeps() {
    Scope::run("flow", async |scope| {
        let (here, there) =
            tokio::try_join!(Box::pin(in_rouse_dev()), Box::pin(on_the_cluster(&scope)))?;
        assert_eq!(here, there);
        let key = "thumbnails/uploads/colours of autumn.png";
        assert_eq!(there["thumbnail"], json!({"key": key, "size": [64, 48]}));
        assert_eq!(there["announced"]["thumbnail"], key);
        assert_eq!(there["ordered"][2]["id"], 1);
        assert_eq!(there["ticked"], "dev.rouse.schedule.tick");
        Ok(())
    })
    .await;
}
