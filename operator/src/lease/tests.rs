use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_test::mock;

use super::*;

/// An API server with a Lease in it, and the candidates' connections to it.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    version: Arc<AtomicUsize>,
}

/// What happens to a candidate's requests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Line {
    Good,
    /// Nothing gets through.
    Dead,
    /// Requests arrive, answers do not.
    Deaf,
    /// Refused by an overloaded server.
    Busy,
}

impl Server {
    /// A client and what decides over its line.
    fn connect(&self) -> (Client, watch::Sender<Line>) {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let (sender, line) = watch::channel(Line::Good);
        let server = self.clone();
        tokio::spawn(async move {
            let mut lost = Vec::new();
            while let Some((request, answer)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let now = *line.borrow();
                match now {
                    Line::Good => answer.send_response(server.serve(&parts.method, body)),
                    Line::Dead => lost.push(answer),
                    Line::Deaf => {
                        server.serve(&parts.method, body);
                        lost.push(answer);
                    }
                    Line::Busy => answer.send_response(status(500, "InternalError")),
                }
            }
        });
        (Client::new(service, "default"), sender)
    }

    fn serve(&self, method: &Method, mut body: Value) -> Response<Body> {
        let mut lease = self.lease.lock().unwrap();
        match (method.as_str(), lease.as_ref()) {
            ("GET", Some(lease)) => answer(200, lease),
            ("GET" | "PUT", None) => status(404, "NotFound"),
            ("POST", Some(_)) => status(409, "AlreadyExists"),
            ("PUT", Some(there))
                if body["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"] =>
            {
                status(409, "Conflict")
            }
            _ => {
                let version = self.version.fetch_add(1, Ordering::SeqCst);
                body["metadata"]["resourceVersion"] = json!(version.to_string());
                *lease = Some(body.clone());
                answer(200, &body)
            }
        }
    }

    fn spec(&self, field: &str) -> Value {
        self.lease.lock().unwrap().as_ref().unwrap()["spec"][field].clone()
    }
}

fn answer(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    Response::builder().status(code).body(body).unwrap()
}

fn status(code: u16, reason: &str) -> Response<Body> {
    answer(code, &json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}))
}

/// A process that asks for the lead and, when it has it, works until it is told to stop.
struct Candidate {
    line: watch::Sender<Line>,
    stop: watch::Sender<bool>,
    /// Set while it works.
    fence: watch::Receiver<Option<Fence>>,
    task: JoinHandle<Result<Option<()>, LeaseLost>>,
}

impl Candidate {
    fn start(server: &Server, identity: &str) -> Self {
        let (client, line) = server.connect();
        let (stop, shutdown) = watch::channel(false);
        let (working, fence) = watch::channel(None);
        let config = LeaseConfig {
            namespace: "rouse-system".into(),
            name: "rouse-controller".into(),
            identity: identity.into(),
        };
        let mut stopped = shutdown.clone();
        let task = tokio::spawn(lead(client, config, shutdown, move |fence| async move {
            let working = Working(working);
            working.0.send_replace(Some(fence));
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Self { line, stop, fence, task }
    }

    fn leads(&self) -> bool {
        self.fence.borrow().as_ref().is_some_and(Fence::holds)
    }

    fn works(&self) -> bool {
        self.fence.borrow().is_some()
    }
}

/// Tells that the work was dropped.
struct Working(watch::Sender<Option<Fence>>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_goes_on_to() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(1).await;
    let two = Candidate::start(&server, "two");
    for _ in 0..120 {
        seconds(1).await;
        assert!(one.leads() && !two.leads());
    }
    assert_eq!(server.spec("holderIdentity"), "one");
    assert_eq!(server.spec("leaseTransitions"), 0);
    assert_eq!(server.spec("leaseDurationSeconds"), 15);
}

#[tokio::test(start_paused = true)]
async fn a_stop_hands_over_at_once() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(2).await;
    let two = Candidate::start(&server, "two");
    seconds(2).await;
    let start = Instant::now();
    one.stop.send_replace(true);
    assert!(matches!(one.task.await, Ok(Ok(Some(())))));
    while !two.leads() {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() <= 2 * LOOK_EVERY, "{:?}", start.elapsed());
    assert_eq!(server.spec("leaseTransitions"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_lead_ends_the_waiting() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(1).await;
    let two = Candidate::start(&server, "two");
    seconds(1).await;
    two.stop.send_replace(true);
    assert!(matches!(two.task.await, Ok(Ok(None))));
    assert!(one.leads());
}

/// Never do two lead, and whoever lost the lead stops its work before another begins.
async fn takes_over_from(line: Line) {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(2).await;
    let two = Candidate::start(&server, "two");
    seconds(7).await;
    one.line.send_replace(line);
    let start = Instant::now();
    while !two.leads() {
        assert!(start.elapsed() < 4 * DURATION, "{line:?}: nobody takes over");
        sleep(Duration::from_millis(50)).await;
        assert!(!(one.works() && two.works()), "{line:?}: two work");
    }
    assert!(!one.works());
    assert!(matches!(one.task.await, Ok(Err(LeaseLost::Expired))), "{line:?}");
    assert!(start.elapsed() <= DURATION + RENEW_EVERY + LOOK_EVERY, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_another_starts() {
    takes_over_from(Line::Dead).await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_renewals_are_refused_stops_before_another_starts() {
    takes_over_from(Line::Busy).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    let two = Candidate::start(&server, "two");
    seconds(2).await;
    let (first, second) = if one.leads() { (one, two) } else { (two, one) };
    for line in [Line::Dead, Line::Busy, Line::Deaf] {
        first.line.send_replace(line);
        seconds(6).await;
        first.line.send_replace(Line::Good);
        for _ in 0..30 {
            seconds(1).await;
            assert!(first.leads() && !second.works(), "{line:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_writes_nothing_more() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(2).await;
    assert!(one.leads());
    let fence = one.fence.borrow().clone().unwrap();
    // The clock jumps while no task runs: not even the one that would notice.
    tokio::time::advance(DURATION).await;
    assert!(!fence.holds(), "before any other task ran");
    assert!(matches!(one.task.await, Ok(Err(LeaseLost::Expired))));
    assert!(!*one.stop.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_took_is_lost_at_once() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(2).await;
    {
        let mut lease = server.lease.lock().unwrap();
        let lease = lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = json!("usurper");
        lease["metadata"]["resourceVersion"] = json!("usurped");
    }
    let lost = one.task.await.unwrap();
    assert!(matches!(lost, Err(LeaseLost::Taken(by)) if by == "usurper"));
}

#[tokio::test(start_paused = true)]
async fn an_edited_lease_is_kept() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(2).await;
    {
        let mut lease = server.lease.lock().unwrap();
        let lease = lease.as_mut().unwrap();
        lease["metadata"]["labels"] = json!({"seen": "yes"});
        lease["metadata"]["resourceVersion"] = json!("edited");
    }
    seconds(60).await;
    assert!(one.leads());
    let lease = server.lease.lock().unwrap();
    assert_eq!(lease.as_ref().unwrap()["metadata"]["labels"]["seen"], "yes");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_again_takes_its_own_lease_at_once() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(2).await;
    one.task.abort();
    let again = Candidate::start(&server, "one");
    seconds(1).await;
    assert!(again.leads());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lead_drops_the_work() {
    let server = Server::default();
    let one = Candidate::start(&server, "one");
    seconds(2).await;
    one.line.send_replace(Line::Dead);
    let start = Instant::now();
    while one.works() {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() < DURATION, "before anybody else may lead: {:?}", start.elapsed());
}
