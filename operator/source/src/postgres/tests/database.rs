//! A server of PostgreSQL for a test. It runs as nobody where the test is root, which the server
//! refuses to be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rouse_crds::v1alpha1::{PostgresTrigger, SecretKey, SourceTls};
use rouse_peer::Call;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::postgres::connection::{self, Mode};
use crate::postgres::wire::{Fault, Row, Wire};
use crate::postgres::{Access, Postgres, Settings};
use crate::stage::{Function, Play, Running, free_port, loopback, until};

/// Numbers of the user and group `nobody`.
const NOBODY: u32 = 65_534;
/// How long a statement may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// The server, killed with this.
pub struct Database {
    pub port: u16,
    folder: PathBuf,
    options: Vec<String>,
    child: Child,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Database {
    /// A server with `wal_level=logical` and a table `orders`.
    pub async fn start(options: &[&str]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("rouse-pg-{}-{port}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        for name in ["db", "secrets"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        own(&folder);
        fs::write(folder.join("password"), "secret").unwrap();
        own(&folder.join("password"));
        let mut initdb = program("initdb");
        initdb.args([
            "--no-sync",
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
        ]);
        initdb
            .arg("--no-locale")
            .arg("--pwfile")
            .arg(folder.join("password"))
            .arg(folder.join("db"));
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let options: Vec<String> = ["wal_level=logical"]
            .iter()
            .chain(options)
            .map(|option| (*option).to_owned())
            .collect();
        let child = spawn(&folder, port, &options);
        let database = Self { port, folder, options, child };
        database.write_secret("password", "secret");
        database.listens().await;
        let mut client = database.client().await;
        client.run("CREATE TABLE orders (id int PRIMARY KEY, paid bool, note text)").await;
        database
    }

    async fn listens(&self) {
        until(async || self.connect().await.is_ok()).await;
    }

    /// Ends it as a crash would: all its processes at once.
    pub fn kill(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        let _ = self.child.kill();
        for child in children.split_whitespace() {
            // Those that the server left would keep its files open.
            let pid = child.parse().ok().and_then(rustix::process::Pid::from_raw);
            let _ =
                pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        let _ = self.child.wait();
    }

    /// Asks it to end by itself, as it does when nobody is busy with it any more.
    pub fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub async fn restart(&mut self) {
        self.kill();
        self.start_again().await;
    }

    pub async fn restart_with(&mut self, option: &str) {
        self.options.push(option.to_owned());
        self.restart().await;
    }

    pub async fn start_again(&mut self) {
        until(async || {
            // It does not start while a process of the former one lives.
            if self.has_ended() {
                self.child = spawn(&self.folder, self.port, &self.options);
            }
            self.connect().await.is_ok()
        })
        .await;
    }

    /// Gives it a certificate for `localhost`; Secrets have what its clients need.
    pub async fn encrypt(&mut self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let sign = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
        };
        self.write_secret("ca", &authority.pem());
        let (certificate, key) = sign("postgres");
        self.write_secret("tls.crt", &certificate);
        self.write_secret("tls.key", &key);
        let (certificate, key) = sign("localhost");
        for (name, text) in
            [("ca.pem", authority.pem()), ("crt.pem", certificate), ("key.pem", key)]
        {
            let path = self.folder.join("db").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            own(&path);
        }
        for option in
            ["ssl=on", "ssl_ca_file=ca.pem", "ssl_cert_file=crt.pem", "ssl_key_file=key.pem"]
        {
            self.options.push(option.to_owned());
        }
        self.restart().await;
    }

    /// Lets clients in as `rules` say.
    pub async fn let_in(&mut self, rules: &str) {
        fs::write(self.folder.join("db/pg_hba.conf"), rules).unwrap();
        self.restart().await;
    }

    pub fn write_secret(&self, key: &str, text: &str) {
        let folder = self.folder.join("secrets/db");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(key), text).unwrap();
    }

    fn access(&self, trigger: PostgresTrigger) -> Access {
        let settings =
            Settings { trigger, source: "/namespaces/shop/triggers/t".into(), checkpoint: None };
        Access {
            settings,
            secrets: Secrets::below(self.folder.join("secrets")),
            policy: loopback(),
        }
    }

    async fn connect(&self) -> Result<Wire, Failure> {
        connection::open(&self.access(trigger(self, &json!({}))), Mode::Questions).await
    }

    pub fn steady(&self) -> Steady {
        Steady { access: self.access(trigger(self, &json!({}))), client: None }
    }

    /// A client of the server, as its superuser.
    pub async fn client(&self) -> Client {
        Client(self.connect().await.unwrap())
    }
}

/// A client that comes again after each failure.
pub struct Steady {
    access: Access,
    client: Option<Client>,
}

impl Steady {
    /// Runs `sql` until the server says that it did.
    pub async fn insist(&mut self, sql: &str) {
        loop {
            if self.client.is_none() {
                self.client =
                    connection::open(&self.access, Mode::Questions).await.ok().map(Client);
            }
            let Some(client) = &mut self.client else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            if client.try_run(sql).await.is_ok() {
                return;
            }
            self.client = None;
        }
    }
}

/// A client that may do anything.
pub struct Client(Wire);

impl Client {
    pub async fn try_run(&mut self, sql: &str) -> Result<Vec<Row>, String> {
        self.0.query(sql, PATIENCE).await.map_err(|fault| match fault {
            Fault::Refused(refusal) => refusal.to_string(),
            Fault::Broken(failure) => rouse_peer::chain(&failure),
        })
    }

    pub async fn run(&mut self, sql: &str) -> Vec<Row> {
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The one value that `sql` asks for.
    pub async fn value(&mut self, sql: &str) -> String {
        let rows = self.run(sql).await;
        rows[0][0].clone().unwrap_or_default()
    }
}

/// A Trigger for `orders` of the database, with other fields as they are given.
fn trigger(database: &Database, more: &Value) -> PostgresTrigger {
    let mut trigger = json!({
        "host": "127.0.0.1",
        "port": database.port,
        "database": "postgres",
        "user": "postgres",
        "password": {"name": "db", "key": "password"},
        "plaintext": true,
        "slot": "rouse_t",
        "publication": "rouse_t",
        "tables": [{"name": "public.orders"}],
    });
    for (name, value) in more.as_object().unwrap() {
        trigger[name] = value.clone();
    }
    serde_json::from_value(trigger).unwrap()
}

/// How a source is set up.
pub struct Setup {
    access: Access,
    pub play: Play,
}

impl Setup {
    pub fn new(database: &Database, more: &Value) -> Self {
        Self { access: database.access(trigger(database, more)), play: Play::default() }
    }

    /// It knows that it was connected in another life.
    pub fn remember(&mut self, checkpoint: &str) {
        self.access.settings.checkpoint = Some(checkpoint.to_owned());
    }

    pub fn encrypt(&mut self, with_certificate: bool) {
        let key = |key: &str| Some(SecretKey { name: "db".into(), key: key.into() });
        let shown = |name: &str| key(name).filter(|_| with_certificate);
        let trigger = &mut self.access.settings.trigger;
        (trigger.plaintext, trigger.host) = (false, "localhost".into());
        trigger.tls =
            Some(SourceTls { ca: key("ca"), certificate: shown("tls.crt"), key: shown("tls.key") });
    }

    pub fn trigger(&mut self) -> &mut PostgresTrigger {
        &mut self.access.settings.trigger
    }

    pub fn start(&self, function: &Function) -> Running {
        self.start_with(Arc::new(function.clone()))
    }

    pub fn start_with(&self, caller: Arc<dyn Call>) -> Running {
        let Access { settings, secrets, policy } = &self.access;
        let source = Postgres::new(settings.clone(), secrets.clone(), policy.clone());
        self.play.start(source, caller)
    }
}

fn own(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path());
        }
    }
}

fn program(name: &str) -> Command {
    let folder = std::env::var_os("ROUSE_POSTGRES").expect("cargo xtask test sets it");
    let mut command = Command::new(Path::new(&folder).join(name));
    command.stdin(Stdio::null()).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn spawn(folder: &Path, port: u16, options: &[String]) -> Child {
    let mut command = program("postgres");
    command.arg("-D").arg(folder.join("db")).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
    for option in [format!("unix_socket_directories={}", folder.display()), "fsync=off".to_owned()]
    {
        command.args(["-c", &option]);
    }
    for option in options {
        command.args(["-c", option]);
    }
    let log = fs::File::create(folder.join("log")).unwrap();
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}
