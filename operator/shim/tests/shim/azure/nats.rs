//! What a function sends to a queue, with a real server of NATS.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use hyper::Request;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{app, host, sending};
use crate::rig::{Shim, call, folder, get};

/// A server of NATS, killed with this.
struct Broker(Child, u16, PathBuf);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = std::fs::remove_dir_all(&self.2);
    }
}

impl Broker {
    /// One that asks for a user's password.
    fn start() -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = folder();
        let program = std::env::var_os("ROUSE_NATS_SERVER").unwrap();
        let mut server = Command::new(program);
        server.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream"]);
        server.args(["--user", "shop", "--pass", "p@ss"]).arg("--store_dir").arg(&folder);
        let quiet = Stdio::null;
        Self(server.stdout(quiet()).stderr(quiet()).spawn().unwrap(), port, folder)
    }

    async fn context(&self) -> jetstream::Context {
        let options = || ConnectOptions::with_user_and_password("shop".into(), "p@ss".into());
        let wait = async {
            loop {
                match options().connect(format!("127.0.0.1:{}", self.1)).await {
                    Ok(client) => return jetstream::new(client),
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(Duration::from_secs(30), wait).await.unwrap()
    }
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_goes_out_to_a_queue_is_stored_in_its_stream_or_the_call_fails() {
    let broker = Broker::start();
    let context = broker.context().await;
    let url = format!("nats://shop:p%40ss@127.0.0.1:{}", broker.1);
    let queue = json!({"bindings": [
        {"type": "queueTrigger", "direction": "in", "name": "item", "queueName": "in"},
        {"type": "queue", "direction": "out", "name": "sent", "queueName": "orders",
            "connection": "Shop"},
    ]});
    let code = app(&host(true), &[("f", sending("Shop")), ("g", queue)]);
    let variables = [("ROUSE_CONTRACT", "azure"), ("Shop", &url)];
    let (_shim, port) = Shim::serving_code(code, &[], &variables).await;
    let answer = get(port, "/api/f").await;
    assert_eq!(answer.status, 502, "there is no stream");
    assert!(
        answer.text().contains("no stream has the subject \\\"orders\\\""),
        "{}",
        answer.text()
    );

    let config = stream::Config { name: "orders".into(), ..stream::Config::default() };
    let stream = context.create_stream(config).await.unwrap();
    assert_eq!(get(port, "/api/f").await.status, 201);
    let stored = async |number| stream.get_raw_message(number).await.unwrap().payload;
    assert_eq!((stored(1).await, stored(2).await), ("one".into(), "{\"two\":2}".into()));

    // An event that is delivered twice sends its messages once.
    for _ in 0..2 {
        let event = Request::post("/").header("ce-id", "S:7").header("ce-source", "/nats/in");
        let event = event.header("ce-type", "dev.rouse.nats.message");
        assert_eq!(call(port, event.body("hello".into()).unwrap()).await.status, 200);
    }
    assert_eq!(context.get_stream("orders").await.unwrap().cached_info().state.messages, 4);
}
