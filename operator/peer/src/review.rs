//! Asking the API server whose a token is.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Api;
use kube::api::PostParams;
use tokio::time::timeout;

/// How long the API server may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why the API server did not say whose a token is.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The request failed.
    #[error("asking the API server whose a token is")]
    Api(#[from] kube::Error),
    /// There was no answer.
    #[error("the API server did not say in time whose a token is")]
    Late,
}

/// Asks whose `token` is, if it is good for `audience`.
pub async fn review(
    reviews: &Api<TokenReview>,
    token: &str,
    audience: &str,
) -> Result<Option<TokenReviewStatus>, ReviewError> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            audiences: Some(vec![audience.to_owned()]),
        },
        ..TokenReview::default()
    };
    let params = PostParams::default();
    let reviewed = timeout(TIMEOUT, reviews.create(&params, &review)).await;
    Ok(reviewed.map_err(|_elapsed| ReviewError::Late)??.status)
}
