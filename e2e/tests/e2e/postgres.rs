//! Functions that are called with the changes of a database.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{AttachParams, PostParams};
use rouse_crds::v1alpha1::Trigger;
use rouse_e2e::cluster::POSTGRES_IMAGE;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use rouse_e2e::{activators, wait};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::{interval, timeout};

use crate::sources::{SOURCES, kill_sources};

/// Makes a server and runs it, as the first user that is not root.
const RUN: &str = "set -e; cd /usr/lib/postgresql/*/bin; echo change-me >/data/password; \
    ./initdb --pgdata=/data/db --username=postgres --auth=scram-sha-256 --auth-local=trust \
    --pwfile=/data/password --no-locale --encoding=UTF8; \
    echo host all all all scram-sha-256 >> /data/db/pg_hba.conf; exec ./postgres -D /data/db -h '*' \
    -c wal_level=logical -c unix_socket_directories=/data";

/// A server of PostgreSQL in the test's namespace, as `postgres.NAMESPACE:5432`.
pub struct Database<'a>(&'a Scope);

impl<'a> Database<'a> {
    pub async fn start(scope: &'a Scope) -> anyhow::Result<Self> {
        let secret =
            json!({"metadata": {"name": "database"}, "stringData": {"password": "change-me"}});
        let secrets = scope.api::<Secret>();
        secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
        let container = json!({"image": POSTGRES_IMAGE, "args": ["-c", RUN]});
        scope.serve("postgres", 5432, (container, json!({}))).await?;
        let database = Self(scope);
        database.run("CREATE TABLE orders (id int PRIMARY KEY, paid bool, total numeric)").await?;
        Ok(database)
    }

    /// What the server answers.
    pub async fn run(&self, sql: &str) -> anyhow::Result<String> {
        let psql = "/usr/lib/postgresql/*/bin/psql -h /data -U postgres -v ON_ERROR_STOP=1 -Atqc";
        let command = ["/bin/sh", "-c", &format!("{psql} \"$0\""), sql];
        let mut process =
            self.0.api::<Pod>().exec("postgres", command, &AttachParams::default()).await?;
        let status = process.take_status().context("a process has a status")?;
        let (mut said, mut wrong) = (String::new(), String::new());
        process.stdout().context("a process says something")?.read_to_string(&mut said).await?;
        process.stderr().context("a process says something")?.read_to_string(&mut wrong).await?;
        let status = status.await.and_then(|status| status.status);
        ensure!(status.as_deref() == Some("Success"), "{sql}: {wrong}");
        Ok(said.trim().to_owned())
    }

    fn trigger(&self) -> Value {
        json!({
            "function": "hello",
            "postgres": {
                "host": format!("postgres.{}", self.0.namespace),
                "database": "postgres",
                "user": "postgres",
                "password": {"name": "database", "key": "password"},
                "plaintext": true,
                "slot": "rouse_orders",
                "publication": "rouse_orders",
                "tables": [{"name": "public.orders"}],
            },
        })
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_changed_row_wakes_a_sleeping_function_and_a_lost_slot_is_told() {
    Scope::run("source-row", async |scope| {
        let database = Database::start(&scope).await?;
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        scope.apply_trigger("t", database.trigger()).await?;
        scope.trigger_is("t", "True", "Connected").await?;
        scope.asleep("hello", PATIENCE).await?;
        database.run("INSERT INTO orders VALUES (1, false)").await?;
        scope.pods("hello", PATIENCE, |pods| !pods.is_empty()).await?;
        let triggers = scope.api::<Trigger>();
        wait::object(&triggers, "t", PATIENCE, |trigger| {
            let source = trigger.and_then(|trigger| trigger.status.as_ref()?.source.as_ref());
            source.is_some_and(|source| {
                let is_told = source.checkpoint.iter().any(|at| at.starts_with("rouse_orders/"));
                source.delivered == 1 && source.lag == Some(0) && is_told
            })
        })
        .await?;
        scope.asleep("hello", PATIENCE).await?;

        // Neither the process that knew the slot nor the next one makes another.
        let mut tries = interval(Duration::from_millis(100));
        let drop = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots; \
                    SELECT pg_drop_replication_slot('rouse_orders')";
        let dropped = async {
            while database.run(drop).await.is_err() {
                tries.tick().await;
            }
        };
        timeout(PATIENCE, dropped).await.context("the slot is never free")?;
        scope.trigger_is("t", "False", "PositionLost").await?;
        let pods = scope.api::<Pod>();
        kill_sources(&scope).await?;
        wait::list(&pods, SOURCES, PATIENCE, |pods| pods.iter().any(activators::is_ready)).await?;
        scope.trigger_is("t", "False", "PositionLost").await?;
        ensure!(database.run("SELECT count(*) FROM pg_replication_slots").await? == "0");
        database
            .run("SELECT pg_create_logical_replication_slot('rouse_orders', 'pgoutput')")
            .await?;
        scope.trigger_is("t", "True", "Connected").await?;
        database.run("UPDATE orders SET paid = true").await?;
        scope.pods("hello", PATIENCE, |pods| !pods.is_empty()).await?;
        Ok(())
    })
    .await;
}
