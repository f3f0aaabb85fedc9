//! Waiting until something is so, with a deadline, told of by what was seen last.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::bail;
use futures::TryStreamExt;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// Waits until the object `name` makes `is_so` true, which sees none while there is no object, and
/// returns it. Fails with the last state seen when `deadline` is over.
pub async fn object<K>(
    api: &Api<K>,
    name: &str,
    deadline: Duration,
    mut is_so: impl FnMut(Option<&K>) -> bool,
) -> anyhow::Result<Option<K>>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut last: Option<K> = None;
    let waiting = async {
        let mut stream = Box::pin(watcher::watch_object(api.clone(), name).default_backoff());
        while let Some(seen) = stream.try_next().await? {
            last = seen;
            if is_so(last.as_ref()) {
                return Ok(());
            }
        }
        bail!("the watch of {name} ended")
    };
    match timeout(deadline, waiting).await {
        Ok(result) => result.map(|()| last),
        Err(_) => bail!("{name} was not as expected within {deadline:?}; last seen: {last:#?}"),
    }
}

/// Waits until the objects that `params` select make `is_so` true. Fails with their names when
/// `deadline` is over.
pub async fn list<K>(
    api: &Api<K>,
    selector: &str,
    deadline: Duration,
    mut is_so: impl FnMut(&[K]) -> bool,
) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let params = kube::api::ListParams::default().labels(selector);
    let mut last = api.list(&params).await?;
    let waiting = async {
        while !is_so(&last.items) {
            let version = last.metadata.resource_version.clone().unwrap_or_default();
            let watch = WatchParams::default().labels(selector);
            let mut changes = Box::pin(api.watch(&watch, &version).await?);
            if let Some(WatchEvent::Error(error)) = changes.try_next().await? {
                bail!("watching {selector}: {error}");
            }
            last = api.list(&params).await?;
        }
        Ok(())
    };
    match timeout(deadline, waiting).await {
        Ok(result) => result.map(|()| last.items),
        Err(_) => bail!("{selector} was not as expected within {deadline:?}: {:#?}", last.items),
    }
}
