//! Asks a server of S3: signs, sends, and says what an answer means. Redirects are not followed: where
//! a server sends others is no address that the Trigger names.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::DATE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use jiff::{SignedDuration, Timestamp};
use rouse_core::s3::Version;
use rouse_crds::v1alpha1::S3Credentials;
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use tokio::time::timeout;
use url::Url;

use super::dial::{Http, client};
use super::settings::Server;
use crate::credentials::Secrets;
use crate::failure::Failure;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is read of an answer: the longest list has 1000 keys of 1024 bytes, each three times as long
/// in percent.
const ANSWER: usize = 8 << 20;
/// How long a signature holds.
const EXPIRES: Duration = Duration::from_mins(5);
/// By how many seconds the server's clock may differ before its time is taken for signing.
const SKEW: i64 = 30;

/// A server of S3.
#[derive(Debug)]
pub(super) struct Objects {
    http: Http,
    credentials: Option<Credentials>,
    endpoint: Url,
    region: String,
    /// Seconds by which the server's clock is ahead.
    ahead: AtomicI64,
}

/// An object, as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub key: String,
    pub version: Version,
}

/// A part of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub objects: Vec<Listed>,
    /// Whether there are more.
    pub has_more: bool,
    /// When it was made, by the server's clock.
    pub made: Timestamp,
}

/// An answer that is none of success.
struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
}

struct Answer {
    status: StatusCode,
    made: Timestamp,
    body: Bytes,
}

impl Objects {
    /// A server, with the credentials as they are now.
    pub fn open(server: &Server, secrets: &Secrets) -> Result<Self, Failure> {
        let Server { endpoint, region, credentials, tls, policy } = server;
        let endpoint: Url = endpoint.parse().map_err(|_| {
            Failure::Invalid(format!("spec.s3.endpoint: {endpoint} is no URL of a server"))
        })?;
        let credentials = match credentials {
            None => None,
            Some(S3Credentials { access_key_id, secret_access_key, session_token }) => {
                let id = secrets.fetch_text(access_key_id)?;
                let secret = secrets.fetch_text(secret_access_key)?;
                Some(match session_token {
                    Some(token) => {
                        Credentials::new_with_token(id, secret, secrets.fetch_text(token)?)
                    }
                    None => Credentials::new(id, secret),
                })
            }
        };
        let http = client(tls.as_ref(), policy.clone(), secrets)?;
        let (region, ahead) = (region.clone(), AtomicI64::new(0));
        Ok(Self { http, credentials, endpoint, region, ahead })
    }

    /// The objects of a bucket whose keys begin with `prefix` and come after `after`.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Page, Failure> {
        const DOING: &str = "listing the bucket";
        let of = self.bucket(bucket)?;
        let mut action = of.list_objects_v2(self.credentials.as_ref());
        action.with_max_keys(most);
        if !prefix.is_empty() {
            action.with_prefix(prefix);
        }
        if let Some(after) = after {
            action.with_start_after(after);
        }
        let answer = self.ask(&Method::GET, &action, Bytes::new(), DOING).await?;
        let text =
            std::str::from_utf8(&answer.body).map_err(|error| Failure::away(DOING, error))?;
        if !answer.status.is_success() {
            return Err(self.failure(DOING, bucket, &refusal(answer.status, text)));
        }
        let list = ListObjectsV2::parse_response(text).map_err(|error| {
            Failure::away(DOING, format!("the server answers with no list: {error}"))
        })?;
        let has_more = list.next_continuation_token.is_some();
        let objects = list.contents.into_iter().map(|object| {
            let modified = object.last_modified.and_then(|at| at.parse::<Timestamp>().ok())?;
            let modified = Timestamp::from_millisecond(modified.as_millisecond()).ok()?;
            let etag = object.etag.unwrap_or_default().trim_matches('"').to_owned();
            let version = Version { etag, size: object.size.unwrap_or_default(), modified };
            Some(Listed { key: object.key, version })
        });
        let objects = objects.collect::<Option<Vec<_>>>().ok_or_else(|| {
            Failure::Invalid("the server lists objects without LastModified".into())
        })?;
        Ok(Page { objects, has_more, made: answer.made })
    }

    /// The bytes of an object; none where there is none.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Option<Bytes>, Failure> {
        const DOING: &str = "reading the ledger";
        let of = self.bucket(bucket)?;
        let action = of.get_object(self.credentials.as_ref(), key);
        let answer = self.ask(&Method::GET, &action, Bytes::new(), DOING).await?;
        self.outcome(DOING, bucket, answer).map(|answer| answer.map(|answer| answer.body))
    }

    /// Writes an object.
    pub async fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        const DOING: &str = "writing the ledger";
        let of = self.bucket(bucket)?;
        let action = of.put_object(self.credentials.as_ref(), key);
        let answer = self.ask(&Method::PUT, &action, bytes.into(), DOING).await?;
        self.outcome(DOING, bucket, answer).map(drop)
    }

    /// Removes an object, if it is there.
    pub async fn remove(&self, bucket: &str, key: &str) -> Result<(), Failure> {
        const DOING: &str = "tidying the ledger";
        let of = self.bucket(bucket)?;
        let action = of.delete_object(self.credentials.as_ref(), key);
        let answer = self.ask(&Method::DELETE, &action, Bytes::new(), DOING).await?;
        self.outcome(DOING, bucket, answer).map(drop)
    }

    /// What time it is where the server is.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.saturating_add(self.ahead()).unwrap_or(now)
    }

    fn ahead(&self) -> SignedDuration {
        SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    fn bucket(&self, name: &str) -> Result<Bucket, Failure> {
        let (endpoint, region) = (self.endpoint.clone(), self.region.clone());
        // One host for all buckets, so that one name is resolved and checked.
        Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), region).map_err(|_| {
            Failure::Invalid(format!("spec.s3.endpoint: {} is no server", self.endpoint))
        })
    }

    fn outcome(
        &self,
        doing: &'static str,
        bucket: &str,
        answer: Answer,
    ) -> Result<Option<Answer>, Failure> {
        if answer.status.is_success() {
            return Ok(Some(answer));
        }
        let refusal = refusal(answer.status, &String::from_utf8_lossy(&answer.body));
        if answer.status == StatusCode::NOT_FOUND && refusal.code != "NoSuchBucket" {
            return Ok(None);
        }
        Err(self.failure(doing, bucket, &refusal))
    }

    /// Sends a request, again with the server's time where it may have been refused for ours.
    async fn ask(
        &self,
        method: &Method,
        action: &impl S3Action<'_>,
        body: Bytes,
        doing: &'static str,
    ) -> Result<Answer, Failure> {
        for is_last in [false, true] {
            let (ahead, now) = (self.ahead(), Timestamp::now());
            let signed = action.sign_with_time(EXPIRES, &self.now());
            let request = Request::builder().method(method).uri(signed.as_str());
            let request = request.body(Full::new(body.clone()));
            let request = request.map_err(|error| Failure::Invalid(error.to_string()))?;
            let answer = timeout(PATIENCE, self.send(request, doing)).await;
            let answer = answer
                .unwrap_or_else(|_| Err(Failure::away(doing, "the server takes too long")))?;
            let differs = answer.made.duration_since(now).as_secs();
            let was_off = (differs - ahead.as_secs()).abs() > SKEW;
            if was_off {
                self.ahead.store(differs, Ordering::Relaxed);
            }
            let is_refused = matches!(answer.status.as_u16(), 400 | 403);
            if is_last || !(was_off && is_refused) {
                return Ok(answer);
            }
        }
        Err(Failure::away(doing, "the clocks differ"))
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        doing: &'static str,
    ) -> Result<Answer, Failure> {
        let answer = self.http.request(request).await;
        let (head, body) = answer.map_err(|error| unsent(doing, error))?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await;
        let body = body.map_err(|error| Failure::away(doing, error))?.to_bytes();
        let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let made = date.map_or_else(Timestamp::now, |date| date.timestamp());
        Ok(Answer { status: head.status, made, body })
    }

    fn failure(&self, doing: &'static str, bucket: &str, refusal: &Refusal) -> Failure {
        let Refusal { status, code, message } = refusal;
        let said = format!("{status}, {code}: {message}");
        let lower = message.to_ascii_lowercase();
        match (status.as_u16(), code.as_str()) {
            (_, "NoSuchBucket") | (404, _) => {
                Failure::Missing { what: "bucket", name: bucket.to_owned() }
            }
            (300..400, _)
            | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                self.elsewhere(bucket, &said)
            }
            (400, _) if lower.contains("region") => self.elsewhere(bucket, &said),
            (401 | 403, _) => Failure::denied(doing, said),
            (501, _) => Failure::Invalid(format!("{doing}: the server can't do that: {said}")),
            _ => Failure::away(doing, said),
        }
    }

    fn elsewhere(&self, bucket: &str, said: &str) -> Failure {
        Failure::Invalid(format!(
            "the bucket {bucket} is not in region {} at {}, or elsewhere: set spec.s3.region and \
             spec.s3.endpoint to where it is (redirects are not followed); the server says: {said}",
            self.region, self.endpoint
        ))
    }
}

/// What kept a request from being answered.
fn unsent(doing: &'static str, error: hyper_util::client::legacy::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(one) = cause {
        if let Some(Failure::Forbidden(text)) = one.downcast_ref() {
            return Failure::Forbidden(text.clone());
        }
        cause = one.source();
    }
    Failure::away(doing, error)
}

/// What the server says of itself; not all do.
fn refusal(status: StatusCode, text: &str) -> Refusal {
    let part = |name: &str| {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let (_, rest) = text.split_once(&open)?;
        rest.split_once(&close).map(|(part, _)| part.to_owned())
    };
    let code = part("Code").unwrap_or_else(|| "no code".into());
    Refusal { status, code, message: part("Message").unwrap_or_else(|| "no message".into()) }
}
