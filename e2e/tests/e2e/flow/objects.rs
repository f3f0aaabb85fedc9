//! The bucket of the flow, and the server on the cluster that has it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use rouse_e2e::cluster::MINIO_IMAGE;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope};
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

/// Whom the server lets in, as the sample says.
const USER: &str = "pictures";
const PASSWORD: &str = "change-me";
/// Whom it tells of uploads, and by which token he knows it.
const HOST: &str = "pictures.demo.example.com";
const TOKEN: &str = "change-me";

/// A bucket `pictures`.
pub struct Objects {
    bucket: Bucket,
    credentials: Credentials,
    caller: Caller,
}

impl Objects {
    /// That of a new server in the test's namespace, `minio:9000`, which tells of uploads.
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
        let objects = Self::make(address, (USER, PASSWORD)).await?;
        objects.notify().await?;
        Ok(objects)
    }

    /// That of a server that is about to listen, and lets this user in; makes it.
    pub async fn make(address: SocketAddr, (user, password): (&str, &str)) -> anyhow::Result<Self> {
        let endpoint = format!("http://{address}").parse()?;
        let bucket = Bucket::new(endpoint, UrlStyle::Path, "pictures", "us-east-1")
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let credentials = Credentials::new(user, password);
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

    /// Writes an object.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let put = self.bucket.put_object(Some(&self.credentials), key);
        let answer = self.send(Method::PUT, &put, bytes).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    /// The bytes of an object.
    pub async fn get(&self, key: &str) -> anyhow::Result<Bytes> {
        let get = self.bucket.get_object(Some(&self.credentials), key);
        let answer = self.send(Method::GET, &get, Vec::new()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.body)
    }

    /// The objects below `prefix`.
    pub async fn keys(&self, prefix: &str) -> anyhow::Result<BTreeSet<String>> {
        let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
        list.with_prefix(prefix);
        let answer = self.send(Method::GET, &list, Vec::new()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let list = ListObjectsV2::parse_response(std::str::from_utf8(&answer.body)?)?;
        Ok(list.contents.into_iter().map(|object| object.key).collect())
    }

    /// Waits until there is an object below `prefix`; gives the first.
    pub async fn comes(&self, prefix: &str, patience: Duration) -> anyhow::Result<String> {
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
    pub async fn entry(&self, function: &str, patience: Duration) -> anyhow::Result<Value> {
        let key = self.comes(&format!("journal/{function}/"), patience).await?;
        Ok(serde_json::from_slice(&self.get(&key).await?)?)
    }
}
