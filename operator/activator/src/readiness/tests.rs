use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use rouse_core::membership::Membership;
use tokio::net::TcpListener;

use super::*;
use crate::instances::shim::ShimState;
use crate::instances::{
    CallError, Claimed, CostError, DeploymentRef, PodRef, RecordRef, ScaleError, Scaled,
};

#[test]
fn pauses_grow_from_one_to_two_milliseconds_to_ten_and_then_with_patience() {
    let at = |tries, millis| pause(tries, Duration::from_millis(millis)).as_millis();
    let first: Vec<u128> = (0..6).map(|tries| at(tries, 0)).collect();
    assert_eq!(first, [1, 2, 2, 2, 2, 2]);
    assert_eq!((at(90, 99), at(90, 100)), (2, 10));
    assert_eq!((at(90, 999), at(90, 1_000), at(90, 10_000)), (10, 50, 250));
    assert_eq!(at(u32::MAX, u64::MAX / 2), 1_000);
}

/// Instances that are ready at a moment, and count how often they were asked.
struct ReadyAt(Instant, AtomicU32);

impl Instances for ReadyAt {
    async fn apply_scale(&self, _: &DeploymentRef, _: u32) -> Result<Scaled, ScaleError> {
        Err(ScaleError::Missing)
    }

    async fn apply_deletion_cost(&self, _: &PodRef, _: i32) -> Result<(), CostError> {
        Ok(())
    }

    async fn apply_claim(&self, _: &PodRef, _: &str, _: &str) -> Result<Claimed, CallError> {
        Ok(Claimed::Gone)
    }

    async fn delete_pod(&self, _: &PodRef, _: &str) -> Result<(), CallError> {
        Ok(())
    }

    async fn fetch_membership(&self) -> Result<Membership, CallError> {
        Ok(Membership::default())
    }

    async fn fetch_readiness(&self, _: &Question) -> bool {
        self.1.fetch_add(1, Ordering::Relaxed);
        Instant::now() >= self.0
    }

    async fn fetch_code(&self, _: &RecordRef) -> Result<Bytes, CallError> {
        Ok(Bytes::new())
    }

    async fn push_code(&self, _: SocketAddr, _: Bytes) -> Result<(), CallError> {
        Ok(())
    }

    async fn fetch_state(&self, _: SocketAddr) -> Result<ShimState, CallError> {
        Err(CallError("nobody is there".into()))
    }
}

fn question(address: SocketAddr, protocol: Protocol, path: Option<&str>) -> Question {
    Question { address, protocol, path: path.map(Into::into) }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_up_is_noticed_within_ten_milliseconds() {
    let begun = Instant::now();
    let ready = ReadyAt(begun + Duration::from_millis(303), AtomicU32::new(0));
    let question = question(([127, 0, 0, 1], 1).into(), Protocol::Http1, None);
    let noticed = ask_until_ready(&ready, &question).await;
    let late = noticed - ready.0;
    assert!(late <= Duration::from_millis(10), "{late:?}");
    // Every 2 ms for a tenth of a second, then every 10.
    assert!(ready.1.load(Ordering::Relaxed) < 80);
}

/// A server that answers `/ready` with 204 and all else with 503.
async fn serve(protocol: Protocol) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let io = TokioIo::new(listener.accept().await.unwrap().0);
            let answer = service_fn(|request: Request<Incoming>| async move {
                let ready = request.uri().path() == "/ready";
                let status = if ready { 204 } else { 503 };
                let response = Response::builder().status(status).body(Empty::<Bytes>::new());
                Ok::<_, Infallible>(response.unwrap())
            });
            let served = async move {
                match protocol {
                    Protocol::Http1 => {
                        drop(
                            hyper::server::conn::http1::Builder::new()
                                .serve_connection(io, answer)
                                .await,
                        );
                    }
                    Protocol::H2c => {
                        let builder =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(builder.serve_connection(io, answer).await);
                    }
                }
            };
            tokio::spawn(served);
        }
    });
    address
}

#[tokio::test]
async fn a_path_must_answer_well_over_either_protocol() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let address = serve(protocol).await;
        assert!(fetch_readiness(&question(address, protocol, Some("/ready"))).await);
        assert!(!fetch_readiness(&question(address, protocol, Some("/not"))).await);
        assert!(fetch_readiness(&question(address, protocol, None)).await);
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(!fetch_readiness(&question(address, Protocol::Http1, None)).await);
}
