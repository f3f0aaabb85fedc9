//! How long an API server may take until it begins to answer. What is to go on for long (watches, logs
//! that are followed) is waited for by whoever asks.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::Request;
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

/// Queries whose answer may begin late.
const LONG: [&str; 2] = ["watch=true", "follow=true"];

/// For each question; none where it is zero.
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

/// An API server that has not answered.
#[derive(Debug, thiserror::Error)]
#[error("it did not answer within {0:?} (--request-timeout waits longer)")]
struct NoAnswer(Duration);

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient { inner, patience: self.0 }
    }
}

/// Asks with patience.
#[derive(Clone, Debug)]
pub struct Patient<S> {
    inner: S,
    patience: Duration,
}

impl<S, B> Service<Request<B>> for Patient<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        let is_long = query.split('&').any(|one| LONG.contains(&one));
        let (patience, answer) = (self.patience, self.inner.call(request));
        Box::pin(async move {
            if is_long || patience.is_zero() {
                return answer.await.map_err(Into::into);
            }
            match timeout(patience, answer).await {
                Ok(answered) => answered.map_err(Into::into),
                Err(_) => Err(NoAnswer(patience).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_may_go_on_for_long_is_waited_for_beyond_patience() {
        let silent = service_fn(|_: Request<()>| std::future::pending::<Result<(), Infallible>>());
        let patient = Patience(Duration::from_secs(30)).layer(silent);
        let ask = |uri: &str| patient.clone().oneshot(Request::get(uri).body(()).unwrap());
        let error = ask("/api?limit=500").await.unwrap_err().to_string();
        assert!(error.contains("within 30s") && error.contains("--request-timeout"), "{error}");
        let mut watch = ask("/api?limit=5&watch=true").boxed();
        let waits = timeout(Duration::from_hours(1), &mut watch).await;
        assert!(waits.is_err(), "{waits:?}");
    }
}
