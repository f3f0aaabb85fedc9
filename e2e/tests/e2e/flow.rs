//! The sample flow as it stands in `manifests/samples/pictures.yaml`, with the servers that it names: a
//! picture that is uploaded, a message, a row and the clock each wake a Function that sleeps.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use image::{ImageFormat, RgbImage};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use rouse_crds::v1alpha1::Trigger;
use rouse_e2e::cluster::{MINIO_IMAGE, NATS_IMAGE};
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope, condition};
use rouse_e2e::wait;
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::postgres::Database;

const SAMPLE: &str = include_str!("../../../manifests/samples/pictures.yaml");
const FUNCTIONS: [&str; 4] = ["thumbnails", "announced", "ordered", "ticked"];
const HOST: &str = "pictures.demo.example.com";
const USER: &str = "rouse";
const PASSWORD: &str = "not-a-secret";
const TOKEN: &str = "knock-knock";
/// A minute until the tick, and a cold start on a busy machine.
const TICK: Duration = Duration::from_mins(2);

/// A server of S3 in the test's namespace, as `minio:9000`, with a bucket `pictures`.
pub struct Objects {
    bucket: Bucket,
    credentials: Credentials,
    caller: Caller,
}

impl Objects {
    pub async fn start(scope: &Scope) -> anyhow::Result<Self> {
        let public = scope.cluster.public;
        let tells = format!("http://{HOST}:{}/uploads", public.port());
        let variables = [
            ("MINIO_ROOT_USER", USER),
            ("MINIO_ROOT_PASSWORD", PASSWORD),
            ("MINIO_BROWSER", "off"),
            ("MINIO_UPDATE", "off"),
            ("HOME", "/data"),
            ("MINIO_NOTIFY_WEBHOOK_ENABLE_ROUSE", "on"),
            ("MINIO_NOTIFY_WEBHOOK_ENDPOINT_ROUSE", &tells),
            ("MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_ROUSE", TOKEN),
        ]
        .map(|(name, value)| json!({"name": name, "value": value}));
        let container =
            json!({"image": MINIO_IMAGE, "args": ["server", "/data/drive"], "env": variables});
        let more = json!({"hostAliases": [{"ip": public.ip().to_string(), "hostnames": [HOST]}]});
        let address = scope.serve("minio", 9000, (container, more)).await?;
        let endpoint = format!("http://{address}").parse()?;
        let bucket = Bucket::new(endpoint, UrlStyle::Path, "pictures", "us-east-1")
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let credentials = Credentials::new(USER, PASSWORD);
        let objects = Self { bucket, credentials, caller: Caller::new(address) };
        let mut tries = interval(Duration::from_millis(200));
        let made = async {
            loop {
                tries.tick().await;
                let make = objects.bucket.create_bucket(&objects.credentials);
                let answer = objects.send(Method::PUT, &make, Vec::new()).await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    return;
                }
            }
        };
        timeout(PATIENCE, made).await.context("the server makes no bucket")?;
        objects.notify().await?;
        Ok(objects)
    }

    /// Lets the server tell of uploads.
    async fn notify(&self) -> anyhow::Result<()> {
        let text = "<NotificationConfiguration><QueueConfiguration>\
            <Queue>arn:minio:sqs::ROUSE:webhook</Queue><Event>s3:ObjectCreated:*</Event>\
            </QueueConfiguration></NotificationConfiguration>";
        let mut action = self.bucket.create_bucket(&self.credentials);
        action.query_mut().insert("notification", "");
        let answer = self.send(Method::PUT, &action, text.into()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    /// Lets everybody read, and gives what who writes has to say to `rouse deploy`.
    pub async fn publish(&self) -> anyhow::Result<(String, [(&'static str, &'static str); 2])> {
        let everybody = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::pictures/*"],
        }]});
        let mut action = self.bucket.create_bucket(&self.credentials);
        action.query_mut().insert("policy", "");
        let answer = self.send(Method::PUT, &action, everybody.to_string().into()).await?;
        ensure!(answer.status.is_success(), "{answer:?}");
        let endpoint = self.bucket.base_url().origin().ascii_serialization();
        Ok((endpoint, [("AWS_ACCESS_KEY_ID", USER), ("AWS_SECRET_ACCESS_KEY", PASSWORD)]))
    }

    async fn send(
        &self,
        method: Method,
        action: &impl S3Action<'_>,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        let url = action.sign(Duration::from_mins(5));
        let request = Request::builder().method(method).uri(url.as_str());
        self.caller.send(request.body(Full::new(Bytes::from(body)))?).await
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let put = self.bucket.put_object(Some(&self.credentials), key);
        let answer = self.send(Method::PUT, &put, bytes).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    async fn get(&self, key: &str) -> anyhow::Result<Bytes> {
        let get = self.bucket.get_object(Some(&self.credentials), key);
        let answer = self.send(Method::GET, &get, Vec::new()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.body)
    }

    async fn keys(&self, prefix: &str) -> anyhow::Result<BTreeSet<String>> {
        let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
        list.with_prefix(prefix);
        let answer = self.send(Method::GET, &list, Vec::new()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let list = ListObjectsV2::parse_response(std::str::from_utf8(&answer.body)?)?;
        Ok(list.contents.into_iter().map(|object| object.key).collect())
    }

    /// Waits until there is an object below `prefix`; gives the first.
    async fn comes(&self, prefix: &str, patience: Duration) -> anyhow::Result<String> {
        let mut looks = interval(Duration::from_millis(100));
        let come = async {
            loop {
                looks.tick().await;
                if let Some(key) = self.keys(prefix).await?.pop_first() {
                    return anyhow::Ok(key);
                }
            }
        };
        timeout(patience, come).await.with_context(|| format!("nothing came below {prefix}"))?
    }

    /// What a Function wrote down, when it did.
    async fn entry(&self, function: &str, patience: Duration) -> anyhow::Result<Value> {
        let key = self.comes(&format!("journal/{function}/"), patience).await?;
        Ok(serde_json::from_slice(&self.get(&key).await?)?)
    }
}

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

/// Applies what the sample has.
async fn apply(scope: &Scope) -> anyhow::Result<()> {
    let secret = json!({
        "metadata": {"name": "pictures"},
        "stringData": {
            "access-key-id": USER,
            "secret-access-key": PASSWORD,
            "notifications": TOKEN,
            "database": "secret",
        },
    });
    let secrets = scope.api::<Secret>();
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    for object in serde_saphyr::from_multiple::<Value>(SAMPLE)? {
        let name = object["metadata"]["name"].as_str().context("an object has a name")?;
        let spec = object["spec"].clone();
        match object["kind"].as_str() {
            Some("Function") => drop(scope.apply_function(name, spec).await?),
            _ => drop(scope.apply_trigger(name, spec).await?),
        }
    }
    Ok(())
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

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_picture_a_message_a_row_and_the_clock_each_wake_a_function_that_sleeps() {
    Scope::run("flow", async |scope| {
        let objects = Objects::start(&scope).await?;
        let container =
            json!({"image": NATS_IMAGE, "args": ["--jetstream", "--store_dir", "/data"]});
        let address = scope.serve("nats", 4222, (container, json!({}))).await?;
        let client = async_nats::connect(format!("nats://{address}")).await?;
        let config = async_nats::jetstream::stream::Config {
            name: "PICTURES".into(),
            subjects: vec!["pictures.*".into()],
            ..Default::default()
        };
        async_nats::jetstream::new(client).create_stream(config).await?;
        let database = Database::start(&scope).await?;
        apply(&scope).await?;
        for trigger in ["uploaded", "made", "changed"] {
            scope.trigger_is(trigger, "True", "Connected").await?;
        }
        all_asleep(&scope).await?;

        objects.put("uploads/colours of autumn.png", picture()?).await?;
        objects.put("uploads/no picture.txt", b"text".to_vec()).await?;
        database.run("INSERT INTO orders VALUES (1, true)").await?;
        let thumbnail = objects.comes("thumbnails/", PATIENCE).await?;
        assert_eq!(thumbnail, "thumbnails/uploads/colours of autumn.png");
        let small = image::load_from_memory(&objects.get(&thumbnail).await?)?;
        assert_eq!((small.width(), small.height()), (64, 48));
        let announced = objects.entry("announced", PATIENCE).await?;
        let message: Value = serde_json::from_str(announced["data"].as_str().unwrap_or_default())?;
        assert_eq!(message["thumbnail"], thumbnail, "{announced}");
        let ordered = objects.entry("ordered", PATIENCE).await?;
        assert!(ordered["data"].as_str().is_some_and(|data| data.contains("orders")), "{ordered}");
        let ticked = objects.entry("ticked", TICK).await?;
        assert_eq!(ticked["type"], "dev.rouse.schedule.tick");
        for trigger in ["uploaded", "made", "changed"] {
            delivered(&scope, trigger).await?;
        }
        for function in ["announced", "ordered"] {
            assert_eq!(objects.keys(&format!("journal/{function}/")).await?.len(), 1, "{function}");
        }

        // The clock would wake one of them again.
        scope.api::<Trigger>().delete("minutely", &DeleteParams::default()).await?;
        all_asleep(&scope).await?;
        let slept = scope.function("thumbnails", PATIENCE, |_| true).await?;
        assert_eq!(condition(&slept, "Ready"), Some("True"));
        Ok(())
    })
    .await;
}
