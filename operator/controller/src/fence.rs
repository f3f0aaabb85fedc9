//! Until when this process may write: the leader's lease, as a moment on the monotonic clock. The
//! client that is made here lets no write through after it, whoever asks.

use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Longest time that a single write may take: several times what a busy API server needs, and well
/// below the time after which an operator is taken for stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The lead is lost, or not certain any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lead is not certain any more; nothing is written")]
pub struct FenceFallen;

/// Moves the moment. When it is dropped the fence falls at once.
#[derive(Debug)]
pub struct FenceKeeper {
    until: watch::Sender<Instant>,
}

/// Tells whether writes are still allowed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fence {
    until: watch::Receiver<Instant>,
}

impl Fence {
    /// A fence that falls at `until` unless it is moved.
    pub fn new(until: Instant) -> (FenceKeeper, Self) {
        let (sender, receiver) = watch::channel(until);
        (FenceKeeper { until: sender }, Self { until: receiver })
    }

    /// Whether writes are allowed at this moment.
    pub fn holds(&self) -> bool {
        self.until.has_changed().is_ok() && Instant::now() < *self.until.borrow()
    }

    /// Waits until writes are no longer allowed.
    pub async fn fallen(&self) {
        let mut until = self.until.clone();
        loop {
            let moment = *until.borrow_and_update();
            if until.has_changed().is_err() || Instant::now() >= moment {
                return;
            }
            tokio::select! {
                () = sleep_until(moment) => {}
                moved = until.changed() => if moved.is_err() { return },
            }
        }
    }
}

impl FenceKeeper {
    /// Allows writes until `until`.
    pub fn move_to(&self, until: Instant) {
        self.until.send_replace(until);
    }
}

/// A client that reads as `client` does, and writes only while `fence` holds: what has not been
/// answered when it falls is given up.
pub(crate) fn fenced(client: Client, fence: Fence) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, fence) = (client.clone(), fence.clone());
        async move {
            if request.method() == Method::GET {
                return Ok(client.send(request).await?);
            }
            if !fence.holds() {
                return Err(tower::BoxError::from(FenceFallen));
            }
            tokio::select! {
                biased;
                () = fence.fallen() => Err(FenceFallen.into()),
                answer = timeout(WRITE_TIMEOUT, client.send(request)) => Ok(answer??),
            }
        }
    });
    Client::new(service, namespace)
}

#[cfg(test)]
mod tests {
    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, DeleteParams};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_fence_falls_when_its_time_is_over() {
        let (_keeper, fence) = Fence::new(Instant::now() + LEASE);
        assert!(fence.holds());
        tokio::time::advance(LEASE).await;
        assert!(!fence.holds());
        fence.fallen().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_fence_holds_on() {
        let start = Instant::now();
        let (keeper, fence) = Fence::new(start + LEASE);
        tokio::time::advance(LEASE / 2).await;
        keeper.move_to(start + 2 * LEASE);
        fence.fallen().await;
        assert_eq!(start.elapsed(), 2 * LEASE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_keeper_lets_the_fence_fall_at_once() {
        let (keeper, fence) = Fence::new(Instant::now() + LEASE);
        drop(keeper);
        assert!(!fence.holds());
        fence.fallen().await;
    }

    /// A client whose server never answers, and the count of requests that reached it.
    fn silent() -> (Client, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            seen.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<Response<Body>, tower::BoxError>>()
        });
        (Client::new(service, "default"), count)
    }

    async fn delete(client: &Client) -> String {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), "a");
        format!("{:?}", api.delete("x", &DeleteParams::default()).await.unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_given_up_when_the_fence_falls() {
        let start = Instant::now();
        let (_keeper, fence) = Fence::new(start + LEASE);
        let (client, count) = silent();
        let client = fenced(client, fence);
        assert!(delete(&client).await.contains("FenceFallen"));
        assert_eq!(start.elapsed(), LEASE);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(delete(&client).await.contains("FenceFallen"));
        assert_eq!(count.load(Ordering::SeqCst), 1, "nothing is sent any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_an_answer_times_out() {
        let start = Instant::now();
        let (_keeper, fence) = Fence::new(start + 100 * LEASE);
        let client = fenced(silent().0, fence);
        assert!(delete(&client).await.contains("Elapsed"));
        assert_eq!(start.elapsed(), WRITE_TIMEOUT);
    }
}
