//! Asking other activators to release Functions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use rouse_core::handover::{RELEASE_PATH, Release, ReleaseLine};
use rouse_core::membership::Member;
use tokio::time::timeout;

use super::Refused;
use super::asker::Asker;
use super::link::PeerDialer;
use crate::release::{Released, Rest};

/// How long another activator may take to say the first word. One that lives takes milliseconds;
/// the pods of one that does not are replaced.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks other activators.
#[derive(Debug)]
pub(crate) struct Releases(Asker);

impl Releases {
    pub fn new(token_file: PathBuf, dialer: PeerDialer) -> Self {
        Self(Asker::new(token_file, dialer))
    }

    /// Asks `member`.
    pub fn ask(self: Arc<Self>, member: Member, release: Release) -> BoxFuture<'static, Released> {
        async move {
            match timeout(PATIENCE, self.try_ask(&member, &release)).await {
                Ok(Ok(released)) => released,
                Ok(Err(error)) => {
                    tracing::info!(activator = member.name, %error, "asking for a Function");
                    Released::Silent
                }
                Err(_elapsed) => Released::Silent,
            }
        }
        .boxed()
    }

    async fn try_ask(&self, member: &Member, release: &Release) -> Result<Released, Refused> {
        let question = serde_json::to_vec(release).unwrap_or_default();
        let (response, mut stream) = self.0.post(member, RELEASE_PATH).await?;
        stream.send_data(Bytes::from(question), true)?;
        let Some(mut lines) = self.0.lines(response).await? else { return Ok(Released::Refused) };
        Ok(match lines.next().await {
            Some(ReleaseLine::Estate(estate)) => Released::Gave { estate, rest: Some(Rest(lines)) },
            Some(ReleaseLine::Refused { .. }) => Released::Refused,
            _ => Released::Silent,
        })
    }
}
