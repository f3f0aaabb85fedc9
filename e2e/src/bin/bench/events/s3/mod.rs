//! Objects of buckets of an S3 server, which the server tells of or a list finds.

mod objects;
mod porter;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use rouse_e2e::hollow::minio::{Listener, MinioServer, PASSWORD, USER};
use rouse_e2e::hollow::source::write_secret;
use rouse_e2e::hollow::{HOST_SUFFIX, Hollow};
use serde_json::{Value, json};
use tokio::time::sleep;

use self::objects::Objects;
use self::porter::Porter;
use super::consumer::{Consumer, Post, Target};
use super::origin::{self, Origin, Rows, name, number_after, until};
use super::stage::AT_ONCE;

/// Whose place is led by Rouse, and by which name the server calls it.
const LISTENERS: [(&str, &str); 3] = [("warm", "WARM"), ("asleep", "ASLEEP"), ("soak", "SOAK")];
/// Whoever listens without Rouse.
const PLAIN: &str = "PLAIN";
/// Number of the address of those who pass on what the server tells, and their ports.
const PORTERS: u8 = 246;
const TO_DOORS: u16 = 8001;
const TO_FUNCTIONS: u16 = 8002;
/// What the server shows.
const TOKEN: &str = "knock-knock";
/// Objects that are being written.
const UNWRITTEN: usize = 32;
/// Pause of a plain consumer before it lists anew.
const PAUSE: Duration = Duration::from_secs(1);
/// Texts of objects, the first and the one that it is replaced by, and what must hold for writing
/// them: that there is none, and that there is the first.
const FIRST: (&str, (&str, &str)) = ("x", ("if-none-match", "*"));
const SECOND: (&str, (&str, &str)) = ("xy", ("if-match", "\"9dd4e461268c8034f5c8564e155c67a6\""));

/// A server of which a bucket is read as the server tells.
pub type Told = S3<true>;
/// A server of which a bucket is read by lists.
pub type Listed = S3<false>;

/// A server of S3. A place is a bucket.
pub struct S3<const IS_TOLD: bool> {
    server: MinioServer,
    objects: Objects,
    rows: Rows,
    _to_doors: Porter,
    to_functions: Porter,
}

impl<const IS_TOLD: bool> Origin for S3<IS_TOLD> {
    type Sender = Sender;

    const NAME: &'static str = if IS_TOLD { "s3, told" } else { "s3, listed" };
    const TITLE: &'static str =
        if IS_TOLD { "S3, small objects, by notifications" } else { "S3, small objects, by lists" };
    const EVENTS: usize = if IS_TOLD { 5_000 } else { 10_000 };
    const WAIT: bool = !IS_TOLD;
    const IS_PROMPT: bool = IS_TOLD;
    const SUPERSEDES: bool = true;

    async fn start(hollow: &Hollow, activator: SocketAddr, rows: Rows) -> anyhow::Result<Self> {
        let at = |port| SocketAddr::from((hollow.ground.block.own(PORTERS), port));
        let target = Target { address: activator, host: host() };
        let to_doors = Porter::start(at(TO_DOORS), target.clone()).await?;
        let to_functions = Porter::start(at(TO_FUNCTIONS), target).await?;
        let rouse = LISTENERS.iter().map(|(place, name)| {
            let url = format!("http://{}/{place}", at(TO_DOORS));
            Listener { name, url, token: TOKEN }
        });
        let plain = format!("http://{}/", at(TO_FUNCTIONS));
        let plain = Listener { name: PLAIN, url: plain, token: TOKEN };
        let server = MinioServer::start(&hollow.ground, rouse.chain([plain]).collect()).await?;
        for (key, value) in [("id", USER), ("secret", PASSWORD), ("token", TOKEN)] {
            write_secret(hollow, "s3", key, value)?;
        }
        let objects = Objects::new(server.address);
        Ok(Self { server, objects, rows, _to_doors: to_doors, to_functions })
    }

    async fn make(&self, place: &str) -> anyhow::Result<()> {
        // It knows whom to tell a moment after it listens.
        until("a bucket is there", async || Ok(self.objects.make(place).await.is_ok())).await?;
        if !IS_TOLD {
            return Ok(());
        }
        let of_rouse = LISTENERS.iter().find(|(led, _)| *led == place);
        let listener = of_rouse.map_or(PLAIN, |(_, name)| name);
        until("a bucket tells", async || {
            self.objects.tell(place, listener).await?;
            Ok(true)
        })
        .await
    }

    fn trigger(&self, place: &str) -> (&'static str, Value) {
        let key = |key: &str| json!({"name": "s3", "key": key});
        let mut trigger = json!({
            "endpoint": self.server.url(), "bucket": place, "start": "earliest",
            "credentials": {"accessKeyId": key("id"), "secretAccessKey": key("secret")},
            // Else one list, at the beginning, is all that is measured.
            "interval": if self.rows == Rows::Shared { "5s" } else { "24h" },
        });
        if IS_TOLD {
            trigger["notifications"] =
                json!({"host": host(), "path": format!("/{place}"), "token": key("token")});
        }
        ("s3", trigger)
    }

    async fn sender(&self) -> anyhow::Result<Sender> {
        Ok(Sender { objects: self.objects.clone(), rows: self.rows })
    }

    async fn fill(&self, place: &str, numbers: Range<usize>) -> anyhow::Result<()> {
        let store = |number| write(&self.objects, self.rows, place, number);
        let stored = stream::iter(numbers).map(store).buffer_unordered(UNWRITTEN);
        stored.try_for_each(|()| async { Ok(()) }).await
    }

    fn consume(&self, place: &str, first: usize, target: Target) -> Consumer {
        if IS_TOLD {
            self.to_functions.lead(target);
            return Consumer::idle();
        }
        let (objects, place) = (self.objects.clone(), place.to_owned());
        Consumer::start(list(objects, place, first, Post::new(target)))
    }

    /// There is nothing to acknowledge: what is done is noted by whoever reads.
    async fn acknowledged(&self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn number(data: &[u8]) -> Option<usize> {
        let size = number_after(data, "\"size\":")?;
        Some(number_after(data, origin::MARK)? + size.saturating_sub(FIRST.0.len()))
    }

    fn row(&self, number: usize) -> Option<usize> {
        Some(object(self.rows, number))
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        self.server.restart().await
    }
}

/// Writes objects.
pub struct Sender {
    objects: Objects,
    rows: Rows,
}

impl origin::Sender for Sender {
    async fn store(&mut self, place: &str, number: usize) -> anyhow::Result<()> {
        write(&self.objects, self.rows, place, number).await
    }
}

/// Writes the object of an event, or replaces the one of the event before.
async fn write(objects: &Objects, rows: Rows, place: &str, number: usize) -> anyhow::Result<()> {
    let object = object(rows, number);
    let (text, condition) = if object == number { FIRST } else { SECOND };
    objects.put((place, &name(object)), text, condition).await
}

/// The number of the event that wrote the object first.
const fn object(rows: Rows, number: usize) -> usize {
    match rows {
        Rows::Own => number,
        Rows::Shared => number - number % 2,
    }
}

/// Where the server tells Rouse.
fn host() -> String {
    format!("s3.{HOST_SUFFIX}")
}

/// Posts what lists find from `first` on, and forgets it.
async fn list(objects: Objects, place: String, first: usize, post: Post) -> anyhow::Result<()> {
    let mut after = first.checked_sub(1).map(name);
    loop {
        let found = objects.list(&place, after.as_deref()).await?;
        let Some(last) = found.last() else {
            sleep(PAUSE).await;
            continue;
        };
        after = Some(last.key.clone());
        let sent = stream::iter(found).map(|object| {
            let post = post.clone();
            async move {
                let data = json!({"key": object.key, "etag": object.etag, "size": object.size});
                let id = format!("{}/{}", object.key, object.etag.unwrap_or_default());
                tokio::spawn(async move { post.send(id, data.to_string().into()).await }).await?
            }
        });
        sent.buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await?;
    }
}
