//! The source against a real server, which `cargo xtask test` finds or installs.

mod database;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rouse_core::delivery::Outcome;
use rouse_core::event::Message;
use rouse_core::function::FunctionKey;
use rouse_core::postgres::Lsn;
use rouse_core::simulation::chance::Chance;
use rouse_peer::Call;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::database::{Database, Setup};
use crate::stage::{Function, until};

fn changes(function: &Function) -> Vec<Value> {
    function.bodies().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
}

fn ids(function: &Function) -> Vec<i64> {
    let of = |change: &Value| change["after"]["id"].as_i64().unwrap();
    changes(function).iter().map(of).collect()
}

async fn confirmed(client: &mut database::Client) -> Lsn {
    const SQL: &str = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
    client.value(SQL).await.parse().unwrap()
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn changes_are_told_in_their_order_with_what_was_and_what_is() {
    let database = Database::start(&[]).await;
    let mut client = database.client().await;
    client.run("CREATE TABLE log (a int, b float8)").await;
    client.run("ALTER TABLE log REPLICA IDENTITY FULL").await;
    let function = Function::new(1);
    let more = json!({
        "tables": [{"name": "public.orders"}, {"name": "public.log", "columns": ["b"]}],
        "operations": ["Insert", "Update", "Delete", "Truncate"],
    });
    let mut setup = Setup::new(&database, &more);
    setup.play.in_flight = 1;
    let mut source = setup.start(&function);
    source.connects().await;
    for sql in [
        "INSERT INTO orders VALUES (1, false, 'it''s')",
        "UPDATE orders SET paid = true",
        "DELETE FROM orders",
        "INSERT INTO log VALUES (1, 2.5); UPDATE log SET b = 3; TRUNCATE log",
    ] {
        client.run(sql).await;
    }
    until(async || function.count() == 6).await;
    let told: Vec<Value> = changes(&function);
    let row = |paid: bool| json!({"id": 1, "paid": paid, "note": "it's"});
    let expected = [
        ("insert", "orders", Value::Null, row(false)),
        ("update", "orders", Value::Null, row(true)),
        ("delete", "orders", json!({"id": 1}), Value::Null),
        ("insert", "log", Value::Null, json!({"b": 2.5})),
        ("update", "log", json!({"b": 2.5}), json!({"b": 3.0})),
        ("truncate", "log", Value::Null, Value::Null),
    ];
    for (told, (op, table, before, after)) in told.iter().zip(&expected) {
        assert_eq!((&told["op"], &told["table"]["name"]), (&json!(op), &json!(table)));
        assert_eq!((&told["before"], &told["after"]), (before, after), "{told}");
    }
    let seen = function.seen.lock().unwrap();
    let header =
        |name: &str| seen.headers.iter().find(|(other, _)| other == name).unwrap().1.clone();
    assert_eq!(header("ce-type"), "dev.rouse.postgres.truncate");
    assert_eq!(header("ce-source"), "/namespaces/shop/triggers/t");
    assert!(header("ce-id").starts_with("rouse_t/0/"), "{}", header("ce-id"));
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn only_what_was_asked_for_is_told_and_the_log_is_let_go_all_the_same() {
    let database = Database::start(&[]).await;
    let mut client = database.client().await;
    client.run("CREATE TABLE other (id int PRIMARY KEY)").await;
    client.run("CREATE PUBLICATION rouse_t FOR ALL TABLES").await;
    let function = Function::new(1);
    let more = json!({
        "tables": [{"name": "public.orders", "columns": ["note"]}],
        "operations": ["Insert"],
    });
    let mut source = Setup::new(&database, &more).start(&function);
    source.connects().await;
    client.run("INSERT INTO orders VALUES (1, true, 'a'); UPDATE orders SET note = 'b'").await;
    client.run("INSERT INTO other SELECT generate_series(1, 1000)").await;
    let end: Lsn = client.value("SELECT pg_current_wal_lsn()").await.parse().unwrap();
    until(async || confirmed(&mut client).await >= end).await;
    let told = changes(&function);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["after"], json!({"note": "a"}));
    source.lags(0).await;
    let checkpoint = source.outlook.borrow().progress.checkpoint.clone().unwrap();
    let told: Lsn = checkpoint.strip_prefix("rouse_t/").unwrap().parse().unwrap();
    assert!(told >= end);
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn nothing_is_lost_when_the_server_and_the_source_are_killed() {
    const KEYS: u32 = 10;
    const ROUNDS: u32 = 100;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut database = Database::start(&[]).await;
    let mut function = Function::new(seed);
    (function.takes, function.fails) = (Duration::from_millis(5), 2);
    let setup = Setup::new(&database, &json!({}));
    let mut source = setup.start(&function);
    source.connects().await;
    let mut client = database.steady();
    let writer = tokio::spawn(async move {
        for number in 0..KEYS * ROUNDS {
            // What was committed without a word is not done twice.
            let (key, round) = (number % KEYS, number / KEYS);
            let sql = format!(
                "INSERT INTO orders VALUES ({key}, true, '{round}') ON CONFLICT (id) DO UPDATE \
                 SET note = '{round}' WHERE orders.note <> '{round}'"
            );
            client.insist(&sql).await;
        }
    });
    let mut chance = Chance::new(seed, 2);
    while !writer.is_finished() {
        sleep(Duration::from_millis(chance.number() % 1500)).await;
        if chance.below(2) == 0 {
            database.restart().await;
        } else {
            drop(source);
            source = setup.start(&function);
        }
    }
    writer.await.unwrap();
    let last = (ROUNDS - 1).to_string();
    let rounds = |key: u32| -> Vec<String> {
        let of_key = changes(&function).into_iter().filter(|c| c["after"]["id"] == json!(key));
        of_key.map(|change| change["after"]["note"].as_str().unwrap().to_owned()).collect()
    };
    until(async || (0..KEYS).all(|key| rounds(key).contains(&last))).await;
    for key in 0..KEYS {
        // In the order in which they came first: what is told again was told before.
        let mut first: Vec<String> = Vec::new();
        for round in rounds(key) {
            if !first.contains(&round) {
                first.push(round);
            }
        }
        let all: Vec<String> = (0..ROUNDS).map(|round| round.to_string()).collect();
        assert_eq!(first, all, "seed {seed}: of key {key}");
    }
    for (body, ids) in &function.seen.lock().unwrap().ids {
        assert!(ids.iter().all(|id| *id == ids[0]), "seed {seed}: {body}: {ids:?}");
    }
    source.lags(0).await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn a_transaction_that_was_broken_off_is_told_to_its_end() {
    const ROWS: usize = 300;
    let database = Database::start(&[]).await;
    let mut client = database.client().await;
    let mut function = Function::new(1);
    function.takes = Duration::from_millis(10);
    let mut setup = Setup::new(&database, &json!({}));
    setup.play.in_flight = 4;
    let mut source = setup.start(&function);
    source.connects().await;
    client.run(&format!("INSERT INTO orders SELECT generate_series(1, {ROWS})")).await;
    until(async || function.count() > 50).await;
    // Only the connection breaks: what is done is not sent again.
    client.run("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots").await;
    until(async || function.count() > 100).await;
    assert_eq!(function.count(), function.bodies().len());
    // All that was known is gone: what is not confirmed comes again, under the same ids.
    drop(source);
    let before = function.count();
    let mut source = setup.start(&function);
    until(async || function.count() == ROWS).await;
    source.lags(0).await;
    assert!(function.bodies().len() >= ROWS + before - 4, "{before}");
    for ids in function.seen.lock().unwrap().ids.values() {
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn the_order_of_a_row_is_kept_where_its_key_changes() {
    let database = Database::start(&[]).await;
    let mut client = database.client().await;
    let mut function = Function::new(7);
    (function.takes, function.fails) = (Duration::from_millis(30), 3);
    let mut source = Setup::new(&database, &json!({})).start(&function);
    source.connects().await;
    client
        .run(
            "INSERT INTO orders VALUES (1), (2); UPDATE orders SET id = 3 WHERE id = 1; \
             INSERT INTO orders VALUES (4), (5); UPDATE orders SET note = 'x' WHERE id = 3",
        )
        .await;
    until(async || function.count() == 6).await;
    let mut told = ids(&function);
    told[..2].sort_unstable();
    told[3..].sort_unstable();
    assert_eq!(told, [1, 2, 3, 3, 4, 5]);
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn a_slot_that_is_gone_is_told_and_not_made_again() {
    const DROP: &str = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots; \
                        SELECT pg_drop_replication_slot('rouse_t')";
    let database = Database::start(&[]).await;
    let mut client = database.client().await;
    let function = Function::new(1);
    let mut setup = Setup::new(&database, &json!({}));
    let mut source = setup.start(&function);
    source.connects().await;
    while client.try_run(DROP).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    source.says("PositionLost").await;
    drop(source);
    // So it is in another life, which knows of it by the status only.
    setup.remember("rouse_t/0/1");
    let mut source = setup.start(&function);
    source.says("PositionLost").await;
    client.run("SELECT pg_create_logical_replication_slot('rouse_t', 'pgoutput')").await;
    source.connects().await;
    client.run("INSERT INTO orders VALUES (1)").await;
    until(async || function.count() == 1).await;
    drop(source);
    // A slot of another name was never there.
    setup.trigger().slot = "rouse_u".into();
    setup.start(&function).connects().await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn a_slot_that_lost_what_it_kept_is_told_and_mended_by_hand() {
    let database = Database::start(&["max_slot_wal_keep_size=1", "max_wal_size=32"]).await;
    let mut client = database.client().await;
    let function = Function::new(1);
    let setup = Setup::new(&database, &json!({}));
    let mut source = setup.start(&function);
    source.connects().await;
    drop(source);
    client.run("INSERT INTO orders VALUES (1)").await;
    until(async || {
        client
            .run("SELECT pg_switch_wal(); INSERT INTO orders VALUES (1) ON CONFLICT DO NOTHING")
            .await;
        client
            .run("CREATE TABLE IF NOT EXISTS filler (id int); INSERT INTO filler VALUES (1)")
            .await;
        client.run("CHECKPOINT").await;
        client.value("SELECT wal_status FROM pg_replication_slots").await == "lost"
    })
    .await;
    let mut source = setup.start(&function);
    source.says("PositionLost").await;
    let trouble = source.outlook.borrow().trouble.clone().unwrap();
    assert!(trouble.message.contains("pg_drop_replication_slot('rouse_t')"), "{trouble:?}");
    assert_eq!(function.count(), 0);
    client.run("SELECT pg_drop_replication_slot('rouse_t')").await;
    client.run("SELECT pg_create_logical_replication_slot('rouse_t', 'pgoutput')").await;
    source.connects().await;
    client.run("INSERT INTO orders VALUES (2)").await;
    until(async || function.count() == 1).await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn what_is_wrong_is_told_and_mended() {
    let mut database = Database::start(&["wal_level=replica"]).await;
    let function = Function::new(1);
    let setup = Setup::new(&database, &json!({}));
    let mut source = setup.start(&function);
    source.says("SourceInvalid").await;
    database.restart_with("wal_level=logical").await;
    source.connects().await;
    Setup::new(&database, &json!({})).start(&function).says("SourceInUse").await;
    database.kill();
    source.says("ServerAway").await;
    database.start_again().await;
    source.connects().await;
    let mut client = database.client().await;
    client.run("CREATE TABLE keyless (id int)").await;
    client.run("CREATE ROLE weak LOGIN PASSWORD 'secret'").await;
    for (more, reason, text) in [
        (json!({"database": "none"}), "SourceMissing", "no database none"),
        (json!({"tables": [{"name": "public.none"}]}), "SourceMissing", "no table public.none"),
        (json!({"tables": [], "publication": "none"}), "SourceMissing", "no publication none"),
        (json!({"operations": ["Truncate"]}), "SourceInvalid", "SET (publish ="),
        (
            json!({"tables": [{"name": "public.keyless"}]}),
            "SourceInvalid",
            "ADD TABLE public.keyless",
        ),
        (
            json!({"tables": [{"name": "public.keyless"}], "publication": "p"}),
            "SourceInvalid",
            "no primary key",
        ),
        (
            json!({"tables": [{"name": "public.orders", "columns": ["none"]}]}),
            "SourceInvalid",
            "no column none",
        ),
        (json!({"user": "weak"}), "AccessDenied", "ALTER ROLE \"weak\" REPLICATION"),
        (json!({"host": "169.254.169.254"}), "AddressForbidden", "may not connect"),
        (json!({"plaintext": false}), "SourceInvalid", "does not speak TLS"),
        (json!({"password": {"name": "db", "key": "none"}}), "SecretMissing", "create it"),
        (json!({"password": null}), "AccessDenied", "spec.postgres.password"),
    ] {
        let mut source = Setup::new(&database, &more).start(&function);
        source.says(reason).await;
        let trouble = source.outlook.borrow().trouble.clone().unwrap();
        assert!(trouble.message.contains(text), "{more}: {trouble:?}");
    }
    client.run("ALTER ROLE weak REPLICATION").await;
    let more = json!({"user": "weak", "publication": "q", "slot": "q"});
    let mut weak = Setup::new(&database, &more).start(&function);
    weak.says("AccessDenied").await;
    let trouble = weak.outlook.borrow().trouble.clone().unwrap();
    assert!(trouble.message.contains("CREATE PUBLICATION \"q\""), "{trouble:?}");
    client.run("CREATE PUBLICATION q FOR TABLE orders").await;
    weak.connects().await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn the_password_is_read_at_each_connection() {
    let database = Database::start(&[]).await;
    let function = Function::new(1);
    let mut source = Setup::new(&database, &json!({})).start(&function);
    source.connects().await;
    let mut client = database.client().await;
    client.run("ALTER ROLE postgres PASSWORD 'other'").await;
    client.run("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots").await;
    source.says("AccessDenied").await;
    database.write_secret("password", "other\n");
    source.connects().await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn the_server_is_known_by_its_certificate_and_may_want_one() {
    let mut database = Database::start(&[]).await;
    database.encrypt().await;
    let function = Function::new(1);
    let mut setup = Setup::new(&database, &json!({}));
    setup.encrypt(false);
    setup.start(&function).connects().await;
    // Its name is another than the one that was dialled.
    setup.trigger().host = "127.0.0.1".into();
    setup.start(&function).says("SourceInvalid").await;
    setup.encrypt(false);
    setup.trigger().tls = None;
    setup.start(&function).says("SourceInvalid").await;
    // Only who shows a certificate is let in.
    let rules = "hostssl all all 127.0.0.1/32 cert\nhostnossl all all 127.0.0.1/32 scram-sha-256\n";
    database.let_in(rules).await;
    setup.encrypt(false);
    setup.start(&function).says("AccessDenied").await;
    setup.encrypt(true);
    let mut source = setup.start(&function);
    source.connects().await;
    database.client().await.run("INSERT INTO orders VALUES (1)").await;
    until(async || function.count() == 1).await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn the_lag_is_the_log_that_the_function_is_not_done_with() {
    let database = Database::start(&[]).await;
    let mut client = database.client().await;
    let mut function = Function::new(1);
    function.fails = 10;
    let mut setup = Setup::new(&database, &json!({}));
    setup.play.in_flight = 1;
    let mut source = setup.start(&function);
    source.connects().await;
    for _ in 0..10 {
        let rows =
            "INSERT INTO orders SELECT generate_series(1, 1000), true, 'a'; DELETE FROM orders";
        client.run(rows).await;
    }
    source.lags_at_least(1 << 20).await;
    drop(source);
    function.fails = 0;
    (setup.play.batch, setup.play.in_flight) = (1000, 4);
    let mut source = setup.start(&function);
    source.lags(0).await;
    let told: usize =
        changes(&function).iter().map(|batch| batch.as_array().map_or(1, Vec::len)).sum();
    assert_eq!(told, 20_000);
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn a_function_that_fails_does_not_keep_the_server_from_ending() {
    let mut database = Database::start(&[]).await;
    let mut client = database.client().await;
    let mut function = Function::new(1);
    function.fails = 10;
    let mut source = Setup::new(&database, &json!({})).start(&function);
    source.connects().await;
    client.run("INSERT INTO orders VALUES (1)").await;
    source.lags_at_least(1).await;
    drop(client);
    database.stop();
    until(async || database.has_ended()).await;
    source.says("ServerAway").await;
}

/// A Function that counts, and remembers nothing.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Call for Counter {
    fn call(&self, _: &FunctionKey, message: Message, _: Duration) -> BoxFuture<'static, Outcome> {
        let events = str::from_utf8(&message.body).unwrap().matches("\"detail-type\"").count();
        self.0.fetch_add(events.try_into().unwrap(), Ordering::Relaxed);
        std::future::ready(Outcome::Done).boxed()
    }
}

fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test finds"]
async fn a_large_transaction_takes_no_more_memory_than_a_small_one() {
    let rows = std::env::var("ROUSE_TEST_ROWS").ok().and_then(|rows| rows.parse().ok());
    let rows: u64 = rows.unwrap_or(200_000);
    let database = Database::start(&[]).await;
    let mut client = database.client().await;
    let counter = Counter::default();
    let mut setup = Setup::new(&database, &json!({}));
    (setup.play.batch, setup.play.in_flight) = (100, 8);
    let mut source = setup.start_with(Arc::new(counter.clone()));
    source.connects().await;
    let insert = |from: u64, to: u64| {
        format!(
            "INSERT INTO orders SELECT n, true, repeat('x', 200) FROM generate_series({from}, {to}) n"
        )
    };
    client.run(&insert(1, 10_000)).await;
    until(async || counter.0.load(Ordering::Relaxed) >= 10_000).await;
    let before = resident();
    client.run(&insert(10_001, 10_000 + rows)).await;
    let mut most = before;
    let told = async {
        while counter.0.load(Ordering::Relaxed) < 10_000 + rows {
            most = most.max(resident());
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(5), told).await.unwrap();
    let (before, most) = (before >> 20, most >> 20);
    println!("{rows} rows in one transaction: resident {before} MiB before, {most} MiB at most");
    assert!(most - before < 48, "{before} MiB, then {most} MiB");
}
