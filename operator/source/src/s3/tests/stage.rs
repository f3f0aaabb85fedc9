//! A server of S3 for a test, its client, and a source that reads it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use http::Method;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rouse_core::delivery::Outcome;
use rouse_core::event::Message;
use rouse_core::function::FunctionKey;
use rouse_core::s3::Scope;
use rouse_core::simulation::chance::Chance;
use rouse_crds::v1alpha1::{S3Credentials, S3Event, S3Start, SecretKey};
use rouse_peer::Call;
use rusty_s3::actions::S3Action;
use rusty_s3::{Bucket, Credentials, UrlStyle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::credentials::Secrets;
use crate::s3::{Notifications, S3, Server, Servers, Settings};
use crate::stage::{Play, Running, free_port, loopback, until};
use crate::webhook::{Doors, Hung, serve};

const USER: &str = "rouse";
const PASSWORD: &str = "not-a-secret";
/// What the server shows at the door.
const TOKEN: &str = "knock-knock";
const REGION: &str = "us-east-1";
pub const BUCKET: &str = "pictures";

/// The server, killed with this.
pub struct Minio {
    pub folder: PathBuf,
    port: u16,
    child: Child,
    /// Where it tells of objects.
    doors: Doors,
    hung: Mutex<Option<Hung>>,
    door: std::net::SocketAddr,
    is_tls: bool,
    /// What else its environment says.
    more: Vec<(&'static str, String)>,
    _stop: watch::Sender<bool>,
}

impl Drop for Minio {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Minio {
    pub async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// With `more` in its environment.
    pub async fn start_with(more: Vec<(&'static str, String)>) -> Self {
        let minio = Self::set_up(false, more).await;
        minio.client().make(BUCKET).await;
        minio
    }

    /// With certificates for 127.0.0.1, that of the authority in the Secret `tls`.
    pub async fn begin(is_tls: bool) -> Self {
        Self::set_up(is_tls, Vec::new()).await
    }

    async fn set_up(is_tls: bool, more: Vec<(&'static str, String)>) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("rouse-s3-{}-{port}", std::process::id()));
        let secrets = folder.join("secrets");
        for (secret, keys) in [
            ("s3", &[("id", USER), ("secret", PASSWORD)][..]),
            ("wrong", &[("id", USER), ("secret", "wrong-secret")]),
            ("door", &[("token", TOKEN)]),
        ] {
            std::fs::create_dir_all(secrets.join(secret)).unwrap();
            for (key, value) in keys {
                std::fs::write(secrets.join(secret).join(key), format!("{value}\n")).unwrap();
            }
        }
        if is_tls {
            certify(&folder);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = listener.local_addr().unwrap();
        let (doors, (stop, stopped)) = (Doors::default(), watch::channel(false));
        tokio::spawn(serve(listener, doors.clone(), stopped));
        let (child, hung) = (spawn(&folder, port, door, &more), Mutex::default());
        let minio = Self { folder, port, child, doors, hung, door, is_tls, more, _stop: stop };
        minio.listens().await;
        minio
    }

    async fn listens(&self) {
        let client = self.client();
        until(async || self.is_tls || client.status("minio/health/live").await == Some(200)).await;
        until(async || tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok())
            .await;
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, self.port, self.door, &self.more);
        self.listens().await;
    }

    /// Nobody is at the door any more.
    pub fn close_door(&self) {
        self.hung.lock().unwrap().take();
    }

    pub fn endpoint(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub fn client(&self) -> ObjectClient {
        ObjectClient {
            endpoint: self.endpoint(),
            credentials: Credentials::new(USER, PASSWORD),
            http: Client::builder(TokioExecutor::new()).build_http(),
        }
    }
}

fn spawn(
    folder: &std::path::Path,
    port: u16,
    door: std::net::SocketAddr,
    more: &[(&str, String)],
) -> Child {
    let program = std::env::var_os("ROUSE_MINIO").expect("cargo xtask test sets it");
    let mut command = Command::new(program);
    command.arg("server").arg(folder.join("drive"));
    command.arg("--certs-dir").arg(folder.join("certs"));
    command.args(["--quiet", "--address", &format!("127.0.0.1:{port}")]);
    command.env_clear().envs([
        ("HOME", &*folder.to_string_lossy()),
        ("MINIO_ROOT_USER", USER),
        ("MINIO_ROOT_PASSWORD", PASSWORD),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
        ("MINIO_SITE_REGION", REGION),
        ("MINIO_NOTIFY_WEBHOOK_ENABLE_ROUSE", "on"),
        ("MINIO_NOTIFY_WEBHOOK_ENDPOINT_ROUSE", &format!("http://{door}/s3")),
        ("MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_ROUSE", TOKEN),
    ]);
    command.envs(more.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Writes a certificate for the server, and the authority's into a Secret.
fn certify(folder: &std::path::Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&own, &issuer).unwrap();
    let (certs, secret) = (folder.join("certs"), folder.join("secrets/tls"));
    for folder in [&certs, &secret] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(certs.join("public.crt"), server.pem()).unwrap();
    std::fs::write(certs.join("private.key"), own.serialize_pem()).unwrap();
    std::fs::write(secret.join("ca.crt"), signed.pem()).unwrap();
}

/// Writes and removes objects.
#[derive(Clone)]
pub struct ObjectClient {
    endpoint: String,
    credentials: Credentials,
    http: Client<HttpConnector, Full<Bytes>>,
}

const EXPIRES: Duration = Duration::from_mins(5);

impl ObjectClient {
    fn bucket(&self, name: &str) -> Bucket {
        let endpoint = self.endpoint.parse().unwrap();
        Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), REGION).unwrap()
    }

    async fn send(&self, method: Method, url: &str, body: String) -> Option<u16> {
        let request = http::Request::builder().method(method).uri(url);
        let request = request.body(Full::new(body.into())).unwrap();
        Some(self.http.request(request).await.ok()?.status().as_u16())
    }

    async fn status(&self, path: &str) -> Option<u16> {
        self.send(Method::GET, &format!("{}/{path}", self.endpoint), String::new()).await
    }

    pub async fn make(&self, bucket: &str) {
        let bucket = self.bucket(bucket);
        let url = bucket.create_bucket(&self.credentials).sign(EXPIRES);
        let made = async || self.send(Method::PUT, url.as_str(), String::new()).await == Some(200);
        until(made).await;
    }

    /// Lets the server tell of all that happens to objects, by HTTP.
    pub async fn notify(&self) {
        self.notify_by("webhook").await;
    }

    /// The same by another way of the server's.
    pub async fn notify_by(&self, way: &str) {
        let text = format!(
            "<NotificationConfiguration><QueueConfiguration>\
             <Queue>arn:minio:sqs:us-east-1:ROUSE:{way}</Queue><Event>s3:ObjectCreated:*</Event>\
             <Event>s3:ObjectRemoved:*</Event></QueueConfiguration></NotificationConfiguration>"
        );
        let bucket = self.bucket(BUCKET);
        let mut action = bucket.create_bucket(&self.credentials);
        action.query_mut().insert("notification", "");
        let url = action.sign(EXPIRES);
        // It knows where to send a moment after it listens.
        let told = async || self.send(Method::PUT, url.as_str(), text.clone()).await == Some(200);
        until(told).await;
    }

    /// Writes an object; whether the server said that it did.
    pub async fn try_put(&self, key: &str, text: &str) -> bool {
        let bucket = self.bucket(BUCKET);
        let url = bucket.put_object(Some(&self.credentials), key).sign(EXPIRES);
        self.send(Method::PUT, url.as_str(), text.to_owned()).await == Some(200)
    }

    pub async fn put(&self, key: &str, text: &str) {
        assert!(self.try_put(key, text).await, "{key}");
    }

    pub async fn put_all(&self, keys: impl IntoIterator<Item = String>) {
        let puts = keys.into_iter().map(|key| async move { self.put(&key, "x").await });
        stream::iter(puts).buffer_unordered(16).collect::<()>().await;
    }

    pub async fn remove(&self, key: &str) {
        let bucket = self.bucket(BUCKET);
        let url = bucket.delete_object(Some(&self.credentials), key).sign(EXPIRES);
        assert_eq!(self.send(Method::DELETE, url.as_str(), String::new()).await, Some(204));
    }
}

/// What a Function was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub kind: String,
    pub key: String,
    pub id: String,
    pub body: Vec<u8>,
}

/// A Function that takes its time, and fails now and then.
#[derive(Clone)]
pub struct Recorder {
    told: Arc<Mutex<Vec<Told>>>,
    /// How often it was called.
    pub calls: Arc<AtomicUsize>,
    pub takes: Duration,
    /// Of ten calls, so many fail.
    pub fails: usize,
    chance: Arc<Mutex<Chance>>,
}

impl Recorder {
    pub fn new(seed: u64) -> Self {
        let chance = Arc::new(Mutex::new(Chance::new(seed, 1)));
        let (told, calls) = (Arc::default(), Arc::default());
        Self { told, calls, takes: Duration::ZERO, fails: 0, chance }
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// What happened to which object, in their order, and what is told twice twice.
    pub fn news(&self) -> Vec<String> {
        let mut news: Vec<_> =
            self.told().iter().map(|told| format!("{} {}", told.kind, told.key)).collect();
        news.sort_unstable();
        news
    }

    /// Waits until this is told, and no more than this.
    pub async fn hears(&self, news: &[&str]) {
        until(async || self.told().len() >= news.len()).await;
        assert_eq!(self.news(), news);
    }
}

impl Call for Recorder {
    fn call(&self, _: &FunctionKey, message: Message, _: Duration) -> BoxFuture<'static, Outcome> {
        let function = self.clone();
        async move {
            function.calls.fetch_add(1, Ordering::Relaxed);
            sleep(function.takes).await;
            if function.chance.lock().unwrap().below(10) < function.fails {
                return Outcome::Failed;
            }
            let header = |name: &str| message.header(name).unwrap_or_default().to_owned();
            let data: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
            let kind = header("ce-type").trim_start_matches("dev.rouse.s3.").to_owned();
            let key = data["key"].as_str().unwrap().to_owned();
            let told = Told { kind, key, id: header("ce-id"), body: message.body };
            function.told.lock().unwrap().push(told);
            Outcome::Done
        }
        .boxed()
    }
}

/// How a source is set up.
pub struct Setup<'a> {
    minio: &'a Minio,
    pub settings: Settings,
    pub is_told: bool,
    /// Where it is told else.
    pub through: Option<crate::nats::Settings>,
    pub play: Play,
}

pub fn key(name: &str, key: &str) -> SecretKey {
    SecretKey { name: name.into(), key: key.into() }
}

pub fn access(secret: &str) -> S3Credentials {
    let (id, secret) = (key(secret, "id"), key(secret, "secret"));
    S3Credentials { access_key_id: id, secret_access_key: secret, session_token: None }
}

impl<'a> Setup<'a> {
    /// All objects and all that becomes of them, listed so seldom that a test has one list.
    pub fn new(minio: &'a Minio) -> Self {
        let server = Server {
            endpoint: minio.endpoint(),
            region: REGION.into(),
            credentials: Some(access("s3")),
            tls: None,
            policy: loopback(),
        };
        let scope = Scope { bucket: BUCKET.into(), prefix: String::new(), suffix: String::new() };
        let settings = Settings {
            server,
            scope,
            events: [S3Event::Created, S3Event::Removed].into(),
            start: S3Start::Earliest,
            interval: Duration::from_hours(1),
            ledger_bucket: BUCKET.into(),
            own: "uid".into(),
        };
        Self { minio, settings, is_told: false, through: None, play: Play::default() }
    }

    pub fn start(&self, function: &Recorder) -> Running {
        let secrets = Secrets::below(self.minio.folder.join("secrets"));
        let (mut notifications, mut hung) = (None, None);
        if self.is_told {
            let token = key("door", "token");
            let (told, door) = Notifications::at_door(BUCKET, token, secrets.clone());
            hung = Some(self.minio.doors.hang("127.0.0.1", "/s3", door));
            notifications = Some(told);
        }
        if let Some(settings) = self.through.clone() {
            notifications = Some(super::published::hear(settings, &secrets));
        }
        *self.minio.hung.lock().unwrap() = hung;
        let source = S3::new(self.settings.clone(), Servers::new(secrets), notifications);
        self.play.start(source, Arc::new(function.clone()))
    }
}
