//! The Secrets that pods of Rouse's own read as files: the projected volumes of their specs, written
//! into folders. Functions have no volumes here.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Secret, SecretProjection};
use kube::{Api, Client};

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file could not be written.
    #[error("writing a Secret into a file: {0}")]
    File(#[from] io::Error),
    /// The API did not answer.
    #[error("reading a Secret: {0}")]
    Api(#[from] kube::Error),
}

/// Writes the keys of Secrets that the volumes of `pod` name below `folder`. What is not there stays
/// away, as it is optional.
pub async fn write(client: &Client, pod: &Pod, folder: &Path) -> Result<(), VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let projected = volumes.filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|volume| volume.sources.iter().flatten());
    for source in sources.filter_map(|source| source.secret.as_ref()) {
        if let Some(secret) = api.get_opt(&source.name).await? {
            write_keys(&secret, source, folder)?;
        }
    }
    Ok(())
}

fn write_keys(secret: &Secret, source: &SecretProjection, folder: &Path) -> io::Result<()> {
    for item in source.items.iter().flatten() {
        let Some(value) = secret.data.as_ref().and_then(|data| data.get(&item.key)) else {
            continue;
        };
        let path = folder.join(&item.path);
        if std::fs::read(&path).is_ok_and(|there| there == value.0) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // Never there in part: it is read at any moment.
        let part = path.with_extension("part");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&value.0)?;
        std::fs::rename(&part, &path)?;
    }
    Ok(())
}
