//! What each hop tells the next: traces, requests' ids, clients, and what the log says in the end.

use std::io::Write;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use http::Request;
use rouse_core::function::RequestRules;
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;

use super::rig::{self, Rig, address, http1_over, text};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// A pod that answers with the headers that reached it.
fn mirror(rig: &Rig) {
    rig.pod(1, Protocol::Http1, |request| {
        let lines =
            request.headers().iter().map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap()));
        let seen: String = lines.collect();
        async { text(seen) }.boxed()
    });
}

async fn told(rig: &Rig, listener: Listener, fields: &[(&str, &str)]) -> String {
    let host = if listener == Listener::Public { "f.shop.fn.example.org" } else { rig::HOST };
    let mut request = Request::get("/").header("host", host).body(rig::empty()).unwrap();
    for (name, value) in fields {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let mut sender = http1_over(rig.connect(listener)).await;
    rig::read(sender.send_request(request).await.unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_trace_is_passed_on_or_begun() {
    let rig = Rig::owner();
    mirror(&rig);
    for listener in [Listener::Cluster, Listener::Public] {
        let given = [("traceparent", TRACE), ("tracestate", "a=b"), ("x-request-id", "mine")];
        let seen = told(&rig, listener, &given).await;
        for (name, value) in given {
            assert!(seen.contains(&format!("{name}: {value}\n")), "{seen}");
        }
        let seen =
            told(&rig, listener, &[("traceparent", "nonsense"), ("tracestate", "a=b")]).await;
        assert!(seen.contains("traceparent: 00-") && !seen.contains("nonsense"), "{seen}");
        assert!(seen.contains("x-request-id: ") && !seen.contains("tracestate"), "{seen}");
    }
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn the_trace_that_was_begun_is_the_same_at_the_owner() {
    let owner = Rig::owner();
    mirror(&owner);
    let near = Rig::new(owner.world.clone());
    near.give_to(&owner.join("owner", address(9)));
    let seen = told(&near, Listener::Public, &[("x-forwarded-for", "9.9.9.9")]).await;
    assert_eq!(seen.matches("traceparent: ").count(), 1, "{seen}");
    assert!(seen.contains("x-forwarded-for: 192.0.2.7\n"), "{seen}");
    near.at_rest().await;
    owner.at_rest().await;
}

/// Where the lines of a test go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<serde_json::Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_it_gets_a_line_for_each_request() {
    let lines = Lines::default();
    let written = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_env_filter("off,rouse::access=info")
        .with_writer(move || written.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let owner = Rig::owner();
    let near = Rig::new(owner.world.clone());
    near.give_to(&owner.join("owner", address(9)));
    owner.pod(1, Protocol::Http1, |_| async { text("Hello") }.boxed());
    let secret = "/a%20b?token=secret";
    assert_eq!(near.get(secret).await.0, 200);
    assert!(lines.take().is_empty(), "nobody asked for it");
    for rig in [&owner, &near] {
        rig.handle.set_rules(RequestRules { body_limit: None, access_log: true });
    }
    for rig in [&owner, &near] {
        assert_eq!(rig.get(secret).await.0, 200);
        rig.at_rest().await;
        let logged = lines.take();
        let [line] = logged.as_slice() else { panic!("one line, not {logged:?}") };
        let fields = &line["fields"];
        assert_eq!(line["target"], "rouse::access");
        assert_eq!(
            (&fields["namespace"], &fields["function"]),
            (&"shop".into(), &"f".into()),
            "{line}"
        );
        assert_eq!((&fields["method"], &fields["path"]), (&"GET".into(), &"/a%20b".into()));
        assert_eq!((&fields["status"], &fields["bytes"]), (&200.into(), &5.into()));
        assert_eq!(fields["pod"], "pod-1", "{line}");
        assert_eq!(fields["trace_id"].as_str().unwrap().len(), 32);
        assert!(fields["duration_ms"].is_number() && fields["wait_ms"].is_number(), "{line}");
        assert!(!line.to_string().contains("secret"), "{line}");
    }
    owner.gate.retire("pod-1");
    let mut sender = owner.http1().await;
    let waiting = tokio::spawn(async move { sender.send_request(rig::get("/")).await });
    owner.waiting(1).await;
    waiting.abort();
    owner.waiting(0).await;
    owner.at_rest().await;
    let logged = lines.take();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0]["fields"]["status"], 499, "who left before there was an answer");
    assert!(logged[0]["fields"]["pod"].is_null());
}
