//! Asks the source pod of a namespace about dead letters: the servers that keep them, and the Secrets
//! that let one in, are the pod's to know.

use anyhow::{Context, anyhow, bail};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use rouse_core::letter::{LETTERS_PORT, Letters};
use rouse_core::resident::Resident;

use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::role::loopback::Way;

/// What came of one letter.
pub(super) enum Answer {
    Done(Bytes),
    /// There is no such letter, or Trigger.
    Missing(String),
    /// It concerns this letter alone.
    Refused(String),
}

/// The way to a source pod.
pub(super) struct Office(Way);

impl Office {
    /// The way to the source pod of `namespace`.
    pub async fn reach(cluster: &Cluster, namespace: &str) -> anyhow::Result<Self> {
        let way = Way::reach(cluster, namespace, (Resident::Source, LETTERS_PORT)).await?;
        let way = way.with_context(|| {
            format!(
                "the source pod of namespace {namespace} does not run, and only it reaches the \
                 streams: see `kubectl -n {namespace} get pods -l {}`",
                Resident::Source.selector()
            )
        })?;
        Ok(Self(way))
    }

    /// A part of the letters of `trigger`.
    pub async fn list(
        &mut self,
        trigger: &str,
        from: u64,
        limit: usize,
    ) -> anyhow::Result<Letters> {
        let path = format!("/v1/triggers/{trigger}/letters?from={from}&limit={limit}");
        match self.ask(Method::GET, &path).await? {
            Answer::Done(body) => serde_json::from_slice(&body).context("reading the answer"),
            Answer::Missing(text) => Err(Failure::Missing(text).into()),
            Answer::Refused(text) => bail!(text),
        }
    }

    /// Does `method` with a letter, at the end of whose path stands `verb`.
    pub async fn act(
        &mut self,
        method: Method,
        (trigger, letter): (&str, u64),
        verb: &str,
    ) -> anyhow::Result<Answer> {
        self.ask(method, &format!("/v1/triggers/{trigger}/letters/{letter}{verb}")).await
    }

    async fn ask(&mut self, method: Method, path: &str) -> anyhow::Result<Answer> {
        let (status, body) = self.0.ask(method, path).await?;
        read(status, body)
    }
}

fn read(status: StatusCode, body: Bytes) -> anyhow::Result<Answer> {
    if status.is_success() {
        return Ok(Answer::Done(body));
    }
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    if status == StatusCode::NOT_FOUND {
        return Ok(Answer::Missing(text));
    }
    if status.is_client_error() { Ok(Answer::Refused(text)) } else { Err(anyhow!(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_letter_does_not_end_the_errand() {
        let answer = read(StatusCode::FAILED_DEPENDENCY, "it failed\n".into()).unwrap();
        assert!(matches!(answer, Answer::Refused(text) if text == "it failed"));
        let answer = read(StatusCode::NOT_FOUND, "there is no letter 9".into()).unwrap();
        assert!(matches!(answer, Answer::Missing(text) if text == "there is no letter 9"));
        assert!(read(StatusCode::BAD_GATEWAY, "the server is away".into()).is_err());
    }
}
