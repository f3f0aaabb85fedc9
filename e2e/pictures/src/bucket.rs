//! Reads and writes the objects of one bucket.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rusty_s3::actions::S3Action;
use rusty_s3::{Credentials, UrlStyle};
use url::Url;

use crate::{Cause, variable};

/// What an object may have.
const MOST: usize = 32 << 20;
/// How long a signature holds.
const EXPIRES: Duration = Duration::from_mins(1);

/// A bucket.
pub(crate) struct Bucket {
    objects: rusty_s3::Bucket,
    credentials: Credentials,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Bucket {
    /// The bucket that the environment names.
    pub fn from_environment() -> Result<Self, Cause> {
        let endpoint: Url = variable("S3_ENDPOINT")?.parse()?;
        let name = variable("S3_BUCKET")?;
        let objects = rusty_s3::Bucket::new(endpoint, UrlStyle::Path, name, "us-east-1");
        let objects = objects.map_err(|error| format!("S3_ENDPOINT: {error:?}"))?;
        let id = variable("S3_ACCESS_KEY_ID")?;
        let credentials = Credentials::new(id, variable("S3_SECRET_ACCESS_KEY")?);
        let http = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { objects, credentials, http })
    }

    /// The bytes of an object; none where there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Cause> {
        let url = self.objects.get_object(Some(&self.credentials), key).sign(EXPIRES);
        match self.send(Method::GET, &url, Vec::new()).await? {
            (StatusCode::OK, bytes) => Ok(Some(bytes)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, text) => Err(unexpected(status, &text)),
        }
    }

    /// Writes an object.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), Cause> {
        let url = self.objects.put_object(Some(&self.credentials), key).sign(EXPIRES);
        match self.send(Method::PUT, &url, bytes).await? {
            (StatusCode::OK, _) => Ok(()),
            (status, text) => Err(unexpected(status, &text)),
        }
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Cause> {
        let request = Request::builder().method(method).uri(url.as_str());
        let answer = self.http.request(request.body(Full::new(body.into()))?).await?;
        let status = answer.status();
        Ok((status, Limited::new(answer.into_body(), MOST).collect().await?.to_bytes()))
    }
}

fn unexpected(status: StatusCode, text: &[u8]) -> Cause {
    format!("the bucket answers {status}: {}", String::from_utf8_lossy(text)).into()
}
