//! Writes and lists objects, by the library that the source uses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use rouse_e2e::hollow::minio::{PASSWORD, REGION, USER};
use rouse_e2e::http::{Answer, Caller};
use rusty_s3::actions::list_objects_v2::ListObjectsContent;
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};

/// How long a signature holds.
const EXPIRES: Duration = Duration::from_mins(5);

/// A client of the server. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    address: SocketAddr,
    credentials: Credentials,
    caller: Caller,
}

impl Objects {
    /// A client of the server there.
    pub fn new(address: SocketAddr) -> Self {
        let credentials = Credentials::new(USER, PASSWORD);
        Self { address, credentials, caller: Caller::new(address) }
    }

    fn bucket(&self, name: &str) -> anyhow::Result<Bucket> {
        let endpoint = format!("http://{}", self.address).parse()?;
        Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), REGION).context("a bucket's URL")
    }

    /// Makes a bucket.
    pub async fn make(&self, bucket: &str) -> anyhow::Result<()> {
        let bucket = self.bucket(bucket)?;
        let action = bucket.create_bucket(&self.credentials);
        ensure_done(&self.send(Method::PUT, &action, "", None).await?)
    }

    /// Has a bucket tell a listener of the server of what is written.
    pub async fn tell(&self, bucket: &str, listener: &str) -> anyhow::Result<()> {
        let text = format!(
            "<NotificationConfiguration><QueueConfiguration>\
             <Queue>arn:minio:sqs:{REGION}:{listener}:webhook</Queue>\
             <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>"
        );
        let bucket = self.bucket(bucket)?;
        let mut action = bucket.create_bucket(&self.credentials);
        action.query_mut().insert("notification", "");
        ensure_done(&self.send(Method::PUT, &action, &text, None).await?)
    }

    /// Writes an object unless the condition, a header, fails, as it does when it was written before.
    pub async fn put(
        &self,
        (bucket, key): (&str, &str),
        text: &str,
        condition: (&'static str, &'static str),
    ) -> anyhow::Result<()> {
        let bucket = self.bucket(bucket)?;
        let action = bucket.put_object(Some(&self.credentials), key);
        let answer = self.send(Method::PUT, &action, text, Some(condition)).await?;
        if answer.status == 412 { Ok(()) } else { ensure_done(&answer) }
    }

    /// The objects that come after a key.
    pub async fn list(
        &self,
        bucket: &str,
        after: Option<&str>,
    ) -> anyhow::Result<Vec<ListObjectsContent>> {
        let bucket = self.bucket(bucket)?;
        let mut action = bucket.list_objects_v2(Some(&self.credentials));
        if let Some(after) = after {
            action.with_start_after(after);
        }
        let answer = self.send(Method::GET, &action, "", None).await?;
        ensure_done(&answer)?;
        Ok(ListObjectsV2::parse_response(std::str::from_utf8(&answer.body)?)?.contents)
    }

    async fn send(
        &self,
        method: Method,
        action: &impl S3Action<'_>,
        text: &str,
        header: Option<(&str, &str)>,
    ) -> anyhow::Result<Answer> {
        let url = action.sign(EXPIRES);
        let mut request = Request::builder().method(method).uri(url.as_str());
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.caller.send(request.body(Full::new(Bytes::from(text.to_owned())))?).await
    }
}

fn ensure_done(answer: &Answer) -> anyhow::Result<()> {
    ensure!(answer.status.is_success(), "{answer:?}");
    Ok(())
}
