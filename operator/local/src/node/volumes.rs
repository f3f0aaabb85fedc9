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
        let secret = api.get_opt(&source.name).await?.unwrap_or_default();
        write_keys(&secret, source, folder)?;
    }
    Ok(())
}

fn write_keys(secret: &Secret, source: &SecretProjection, folder: &Path) -> io::Result<()> {
    for item in source.items.iter().flatten() {
        let path = folder.join(&item.path);
        let Some(value) = secret.data.as_ref().and_then(|data| data.get(&item.key)) else {
            // What is taken out of the Secret lets nobody in any more.
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => continue,
            }
        };
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_what_the_secret_has() {
        let source: SecretProjection = serde_json::from_value(json!({
            "name": "s", "items": [{"key": "a", "path": "s/a"}, {"key": "b", "path": "s/b"}],
        }))
        .unwrap();
        let secret = |data| serde_json::from_value(json!({"data": data})).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let text = |key: &str| std::fs::read_to_string(folder.path().join("s").join(key)).ok();
        let write = |data| write_keys(&secret(data), &source, folder.path()).unwrap();
        write(json!({"a": "MQ==", "b": "Mg=="}));
        assert_eq!((text("a").as_deref(), text("b").as_deref()), (Some("1"), Some("2")));
        write(json!({"a": "Mw=="}));
        assert_eq!((text("a").as_deref(), text("b")), (Some("3"), None));
    }
}
