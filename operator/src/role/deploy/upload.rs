//! Puts an archive into a bucket that the user names, by the user's own credentials, where pods find
//! it by its digest.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use rouse_core::function::code::Code;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tokio::time::timeout;
use url::Url;

use super::args::BucketArgs;
use crate::https::{Http, client};
use crate::progress::say;

/// How long an upload may take, and a question.
const UPLOAD: Duration = Duration::from_mins(10);
const QUESTION: Duration = Duration::from_secs(20);
/// How long a signature holds.
const EXPIRES: Duration = Duration::from_mins(15);

/// A bucket, and how pods reach it.
#[derive(Debug)]
pub struct Store {
    bucket: Bucket,
    credentials: Credentials,
    prefix: String,
    fetch_url: Option<Url>,
}

impl Store {
    /// The bucket that the user named.
    pub fn of(args: &BucketArgs, name: &str) -> anyhow::Result<Self> {
        let path = name.strip_prefix("s3://").with_context(|| {
            format!("--bucket {name} is no bucket of S3: write it as s3://BUCKET/PREFIX")
        })?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        ensure!(!bucket.is_empty(), "--bucket {name} names no bucket");
        let region = args.region.clone();
        let endpoint = match &args.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let endpoint: Url = endpoint.parse().with_context(|| {
            format!("--endpoint {endpoint} is no URL, such as https://minio:9000")
        })?;
        let fetch_url = args.fetch_url.as_deref().map(|url| {
            let slash = if url.ends_with('/') { "" } else { "/" };
            format!("{url}{slash}").parse().with_context(|| format!("--fetch-url {url} is no URL"))
        });
        let credentials = Credentials::from_env().context(
            "the code has to be uploaded, and there are no credentials for the bucket: set \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )?;
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region)
            .map_err(|error| anyhow!("--endpoint is no server of S3: {error}"))?;
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(Self { bucket, credentials, prefix, fetch_url: fetch_url.transpose()? })
    }

    /// Uploads `archive` unless it is there, and gives the URL at which pods find it.
    pub async fn put(&self, archive: &Code) -> anyhow::Result<String> {
        let file = format!("{}.tar.gz", archive.digest);
        let key = if self.prefix.is_empty() { file } else { format!("{}/{file}", self.prefix) };
        let client = client();
        let plain = self.bucket.object_url(&key);
        let head = self.bucket.head_object(Some(&self.credentials), &key).sign(EXPIRES);
        let there = ask(&client, Method::HEAD, &head, Bytes::new(), QUESTION).await?;
        if there.0.is_success() {
            say("the same archive is in the bucket already");
        } else {
            say(&format!("{} KiB go to {plain}", archive.bytes.len().div_ceil(1024)));
            let put = self.bucket.put_object(Some(&self.credentials), &key).sign(EXPIRES);
            let bytes = Bytes::from(archive.bytes.clone());
            let (status, text) = ask(&client, Method::PUT, &put, bytes, UPLOAD).await?;
            ensure!(status.is_success(), refused(status, &text, self.bucket.name()));
        }
        let Some(base) = &self.fetch_url else {
            self.check(&client, &plain).await?;
            return Ok(plain.into());
        };
        Ok(base.join(&key).context("naming the object")?.into())
    }

    /// Whether the archive can be fetched as pods do it, without a signature.
    async fn check(&self, client: &Http, url: &Url) -> anyhow::Result<()> {
        let (status, _) = ask(client, Method::HEAD, url, Bytes::new(), QUESTION).await?;
        if status.is_success() {
            return Ok(());
        }
        bail!(
            "the archive was uploaded, but pods may not fetch it: {url} answers {status} without a \
             signature. Let everybody who reaches the server read below the prefix (action \
             s3:GetObject of a bucket policy), or say by --fetch-url where pods find the bucket"
        )
    }
}

/// Sends a request; gives the status and what was said.
async fn ask(
    client: &Http,
    method: Method,
    url: &Url,
    body: Bytes,
    patience: Duration,
) -> anyhow::Result<(StatusCode, String)> {
    let request = Request::builder().method(method).uri(url.as_str()).body(Full::new(body));
    let request = request.context("writing a request")?;
    let host = url.host_str().unwrap_or_default();
    let exchange = async {
        let answer = client.request(request).await.with_context(|| {
            format!(
                "reaching {host}: see whether --endpoint is right and this machine may reach it"
            )
        })?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.with_context(|| format!("reading the answer of {host}"))?;
        Ok((head.status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    timeout(patience, exchange)
        .await
        .with_context(|| format!("{host} takes more than {patience:?}"))?
}

fn refused(status: StatusCode, text: &str, bucket: &str) -> String {
    let what = match status.as_u16() {
        401 | 403 => "the credentials of the environment may not write there",
        404 => "there is no such bucket: make it, or name another",
        300..=399 => "the bucket is elsewhere: set --region and --endpoint to where it is",
        _ => "the server refuses it",
    };
    format!("uploading to the bucket {bucket}: {status}, {what}. The server says: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(endpoint: &str) -> BucketArgs {
        let region = "us-east-1".to_owned();
        BucketArgs { bucket: None, endpoint: Some(endpoint.to_owned()), region, fetch_url: None }
    }

    #[test]
    fn what_is_no_bucket_is_told_with_what_one_is() {
        for (bucket, endpoint, said) in [
            ("code", "http://minio:9000", "s3://BUCKET"),
            ("s3://", "http://minio:9000", "names no bucket"),
            ("s3://code", "minio", "is no URL"),
        ] {
            let error = Store::of(&args(endpoint), bucket).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let said = refused(StatusCode::FORBIDDEN, "<Code>AccessDenied</Code>", "code");
        assert!(said.contains("may not write") && said.contains("AccessDenied"), "{said}");
        assert!(refused(StatusCode::NOT_FOUND, "", "code").contains("make it"));
    }
}
