//! The servers that the samples need, on this machine, and `rouse dev` over those samples, as somebody has
//! it who tries them. The names of the servers become their addresses, where he has them in /etc/hosts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use rouse_e2e::hollow::ground::Ground;
use rouse_e2e::hollow::minio::{MinioServer, PASSWORD, USER};
use rouse_e2e::hollow::nats::NatsServer;
use rouse_e2e::hollow::postgres::PostgresServer;
use rouse_e2e::hollow::programs;
use rouse_e2e::scope::PATIENCE;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{interval, timeout};

use super::{FOLDERS, Objects};
use crate::dev::{Dev, samples};

/// What stands in the samples for the program that is run instead of the image.
const PICTURES: &str = "../../../../target/release/pictures";
const TABLE: &str = "CREATE TABLE orders (id int PRIMARY KEY, paid bool, total numeric)";

/// The servers, which end with this value.
pub struct Laptop {
    /// The bucket.
    pub objects: Objects,
    minio: MinioServer,
    nats: NatsServer,
    postgres: PostgresServer,
    psql: PathBuf,
    // The last, as the others are in its folder.
    ground: Ground,
}

impl Laptop {
    pub async fn start() -> anyhow::Result<Self> {
        let ground = Ground::claim(programs::folder_from_environment()?).await?;
        let (minio, nats, postgres) = tokio::try_join!(
            MinioServer::start(&ground, Vec::new()),
            NatsServer::start(&ground),
            PostgresServer::start(&ground),
        )?;
        let objects = Objects::make(minio.address, (USER, PASSWORD)).await?;
        let psql = ground.program("postgresql/psql")?;
        let laptop = Self { objects, minio, nats, postgres, psql, ground };
        // It listens a moment before it lets anybody in.
        let mut tries = interval(Duration::from_millis(50));
        let coming = async {
            while laptop.run("SELECT 1").await.is_err() {
                tries.tick().await;
            }
        };
        timeout(PATIENCE, coming).await.context("PostgreSQL lets nobody in")?;
        laptop.run(TABLE).await?;
        Ok(laptop)
    }

    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// Runs a statement.
    pub async fn run(&self, sql: &str) -> anyhow::Result<()> {
        let host = self.postgres.address.ip().to_string();
        let mut psql = Command::new(&self.psql);
        psql.args(["-h", &host, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atqc", sql]);
        let said = psql.output().await?;
        ensure!(said.status.success(), "{sql}: {}", String::from_utf8_lossy(&said.stderr));
        Ok(())
    }

    /// Starts `rouse dev` over the samples.
    pub async fn dev(&self) -> anyhow::Result<Dev> {
        let folder = tempfile::tempdir()?;
        self.write(&folder)?;
        Dev::start(folder, &[]).await
    }

    /// Writes the samples with what is another on this machine. Nobody tells of uploads, so they are found
    /// by the list, which the sample makes once a minute.
    fn write(&self, folder: &TempDir) -> anyhow::Result<()> {
        let pictures = self.ground.program("pictures")?;
        let secret = format!("access-key-id: {USER}\n  secret-access-key: {PASSWORD}");
        let changes = [
            ("http://minio:9000", self.minio.url()),
            ("nats://nats:4222", self.nats.url()),
            ("host: postgres\n", format!("host: {}\n", self.postgres.address.ip())),
            (PICTURES, pictures.display().to_string()),
            ("access-key-id: pictures\n  secret-access-key: change-me", secret),
            ("interval: 1m", "interval: 5s".to_owned()),
        ];
        let mut seen = [false; 6];
        for sample in FOLDERS {
            for entry in std::fs::read_dir(samples().join("with-servers").join(sample))? {
                let path = entry?.path();
                let mut text = std::fs::read_to_string(&path)?;
                for ((from, to), seen) in changes.iter().zip(&mut seen) {
                    *seen |= text.contains(from);
                    text = text.replace(from, to);
                }
                std::fs::write(folder.path().join(path.file_name().context("a name")?), text)?;
            }
        }
        ensure!(seen == [true; 6], "the samples have changed: {changes:?} {seen:?}");
        Ok(())
    }
}
