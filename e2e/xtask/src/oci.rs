//! Writes container images as OCI archives, byte for byte the same for the same contents.
//! Must not know what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::digest;

/// User and group of every image that is written: nobody's, and not 0.
pub const USER: u32 = 65532;

/// Date of all that is in an image: no build differs from the next by its date.
const EPOCH: &str = "1970-01-01T00:00:00Z";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image to write.
#[derive(Debug, Default)]
pub struct Image {
    /// Full name with tag, as pods give it.
    pub name: String,
    /// The program, which is also the entry point, as a path on this machine.
    pub program: PathBuf,
    /// Its absolute path in the image.
    pub entry: &'static str,
    /// Other files: where each is in the image, and on this machine.
    pub files: BTreeMap<PathBuf, PathBuf>,
    /// A folder on this machine whose files, folders and links are the image's, too.
    pub tree: Option<PathBuf>,
    /// Variables, as `NAME=VALUE`.
    pub variables: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<&'static str, String>,
}

/// A written archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive {
    /// Digest of the manifest: what a registry would call the image's.
    pub digest: String,
    /// Bytes of the archive.
    pub size: u64,
}

/// A content-addressed part of the archive.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), bytes }
    }

    fn json(value: &Value) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// Writes `image` to `path`. The file appears whole or not at all.
pub fn write(image: &Image, path: &Path) -> Result<Archive> {
    let mut files = image.files.clone();
    files.insert(image.entry.into(), image.program.clone());
    let layer_tar = layer(&files, image.tree.as_deref())?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&layer_tar)?;
    let layer = Blob::new(gzip.finish()?);
    let config = Blob::json(&config(image, &sha256(&layer_tar)))?;
    let manifest = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer.descriptor(LAYER)],
    }))?;
    let index = index(image, &manifest)?;
    let digest = manifest.digest.clone();
    let bytes = archive(&index, &[config, layer, manifest])?;

    let unfinished = path.with_extension("unfinished");
    std::fs::create_dir_all(path.parent().context("an archive needs a folder")?)?;
    let mut file = File::create(&unfinished)?;
    file.write_all(&bytes)?;
    std::fs::rename(&unfinished, path)?;
    Ok(Archive { digest, size: bytes.len() as u64 })
}

/// Name and digest of the image in an archive that [`write`] wrote.
pub fn identify(path: &Path) -> Result<(String, String)> {
    let mut archive = tar::Archive::new(File::open(path)?);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.as_os_str() == "index.json" {
            let index: Value = serde_json::from_reader(entry)?;
            let text = |pointer| index.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let name = text("/manifests/0/annotations/io.containerd.image.name");
            if let (Some(name), Some(digest)) = (name, text("/manifests/0/digest")) {
                return Ok((name, digest));
            }
        }
    }
    bail!("{} is no image archive", path.display());
}

/// The machine's name among images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn config(image: &Image, layer: &str) -> Value {
    json!({
        "created": EPOCH,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": [image.entry],
            "Env": image.variables,
            "WorkingDir": "/",
            "Labels": image.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created": EPOCH, "created_by": "cargo xtask"}],
    })
}

fn index(image: &Image, manifest: &Blob) -> Result<Vec<u8>> {
    let mut entry = manifest.descriptor(MANIFEST);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("platform".to_owned(), json!({"architecture": architecture(), "os": "linux"}));
        // The first is read by containerd and Docker, the second by Podman and skopeo.
        entry.insert(
            "annotations".to_owned(),
            json!({
                "io.containerd.image.name": image.name,
                "org.opencontainers.image.ref.name": image.name,
            }),
        );
    }
    Ok(serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))?)
}

/// The files of the image, and the least that libraries expect of a system.
fn layer(files: &BTreeMap<PathBuf, PathBuf>, tree: Option<&Path>) -> Result<Vec<u8>> {
    let passwd = format!("root:x:0:0:root:/:/\nrouse:x:{USER}:{USER}:rouse:/:/\n");
    let group = format!("root:x:0:\nrouse:x:{USER}:\n");
    let mut layer = Layer { tar: Builder::new(Vec::new()), paths: BTreeSet::new() };
    layer.folder("etc/", 0o755)?;
    layer.file("etc/group", 0o644, group.as_bytes())?;
    layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    layer.file("etc/passwd", 0o644, passwd.as_bytes())?;
    layer.folder("tmp/", 0o1777)?;
    for (path, of) in files {
        layer.above(text(path)?)?;
        layer.copy(text(path)?, of)?;
    }
    if let Some(tree) = tree {
        layer.tree(tree, "")?;
    }
    Ok(layer.tar.into_inner()?)
}

/// Files as they come to lie in an image. What is there already stays.
struct Layer {
    tar: Builder<Vec<u8>>,
    paths: BTreeSet<String>,
}

impl Layer {
    fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        if self.paths.insert(path.to_owned()) { folder(&mut self.tar, path, mode) } else { Ok(()) }
    }

    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        if self.paths.insert(path.to_owned()) {
            file(&mut self.tar, path, mode, bytes)?;
        }
        Ok(())
    }

    /// The folders that a path lies in.
    fn above(&mut self, path: &str) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            self.folder(path.get(..=end).unwrap_or_default(), 0o755)?;
        }
        Ok(())
    }

    /// A file of this machine. Of its rights, whether it is run is all that an image keeps.
    fn copy(&mut self, path: &str, of: &Path) -> Result<()> {
        let bytes =
            std::fs::read(of).with_context(|| format!("could not read {}", of.display()))?;
        let mode =
            if std::fs::metadata(of)?.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        self.file(path, mode, &bytes)
    }

    /// What a folder holds, in the order of names. A folder that is everybody's stays that.
    fn tree(&mut self, folder: &Path, path: &str) -> Result<()> {
        let mut entries = folder.read_dir()?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (of, kind) = (entry.path(), entry.file_type()?);
            let name = entry.file_name();
            let path = format!("{path}{}", name.to_str().context("a name is no text")?);
            if kind.is_dir() {
                let everybody = entry.metadata()?.permissions().mode() & 0o1000 != 0;
                self.folder(&format!("{path}/"), if everybody { 0o1777 } else { 0o755 })?;
                self.tree(&of, &format!("{path}/"))?;
            } else if kind.is_symlink() {
                self.link(path, &std::fs::read_link(of)?)?;
            } else if kind.is_file() {
                self.copy(&path, &of)?;
            }
        }
        Ok(())
    }

    fn link(&mut self, path: String, target: &Path) -> Result<()> {
        let mut header = header(0o777, EntryType::Symlink, 0);
        self.tar.append_link(&mut header, &path, target)?;
        self.paths.insert(path);
        Ok(())
    }
}

/// A path as archives have it.
fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().context("a path is no text")?.trim_start_matches('/'))
}

fn archive(index: &[u8], blobs: &[Blob]) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    file(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    file(&mut tar, "index.json", 0o644, index)?;
    folder(&mut tar, "blobs/", 0o755)?;
    folder(&mut tar, "blobs/sha256/", 0o755)?;
    for blob in blobs {
        let name = blob.digest.replace(':', "/");
        file(&mut tar, &format!("blobs/{name}"), 0o644, &blob.bytes)?;
    }
    Ok(tar.into_inner()?)
}

fn folder(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32) -> Result<()> {
    entry(tar, path, mode, EntryType::Directory, &[])
}

fn file(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    entry(tar, path, mode, EntryType::Regular, bytes)
}

fn entry(
    tar: &mut Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    kind: EntryType,
    bytes: &[u8],
) -> Result<()> {
    tar.append_data(&mut header(mode, kind, bytes.len() as u64), path, bytes)?;
    Ok(())
}

fn header(mode: u32, kind: EntryType, size: u64) -> Header {
    // Of this kind, so that long paths can be written.
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", digest::sha256(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn written(name: &str) -> (Archive, Vec<u8>) {
        let folder = std::env::temp_dir().join(format!("xtask-oci-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        std::fs::write(&program, "#!/bin/true\n".repeat(1000)).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let image = Image {
            name: "rouse.dev/test:v1".to_owned(),
            program,
            entry: "/bin/test",
            labels: BTreeMap::from([("a", "b".to_owned())]),
            ..Image::default()
        };
        let path = folder.join("image.tar");
        let archive = write(&image, &path).unwrap();
        let identity = identify(&path).unwrap();
        assert_eq!(identity, (image.name, archive.digest.clone()));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        (archive, bytes)
    }

    fn entries(bytes: impl Read) -> BTreeMap<String, (Header, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (path, (entry.header().clone(), bytes))
        });
        read.collect()
    }

    #[test]
    fn the_same_contents_make_the_same_bytes() {
        assert_eq!(written("one"), written("two"));
    }

    #[test]
    fn every_descriptor_leads_to_bytes_of_its_digest_and_size() {
        let (archive, bytes) = written("digests");
        assert_eq!(archive.size, bytes.len() as u64);
        let files = entries(&bytes[..]);
        let follow = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let (_, bytes) = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(sha256(bytes), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"].1).unwrap();
        let manifest = &index["manifests"][0];
        assert_eq!(manifest["annotations"]["io.containerd.image.name"], "rouse.dev/test:v1");
        assert_eq!(manifest["digest"], archive.digest.as_str());
        let manifest: Value = serde_json::from_slice(&follow(manifest)).unwrap();
        let config: Value = serde_json::from_slice(&follow(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/test");
        let mut layer = Vec::new();
        GzDecoder::new(&follow(&manifest["layers"][0])[..]).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], sha256(&layer));
    }

    #[test]
    fn the_layer_holds_the_program_and_no_date() {
        let program = std::env::temp_dir().join(format!("xtask-layer-{}", std::process::id()));
        std::fs::write(&program, "program").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let paths =
            ["/usr/bin/x", "/usr/bin/y", "/etc/z"].map(|path| (path.into(), program.clone()));
        let files = entries(&layer(&BTreeMap::from(paths), None).unwrap()[..]);
        std::fs::remove_file(program).unwrap();
        let paths: Vec<_> = files.keys().map(String::as_str).collect();
        let expected = [
            "etc/",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "etc/z",
            "tmp/",
            "usr/",
            "usr/bin/",
            "usr/bin/x",
            "usr/bin/y",
        ];
        assert_eq!(paths, expected);
        let (program, bytes) = &files["usr/bin/x"];
        assert_eq!((program.mode().unwrap(), bytes.as_slice()), (0o755, &b"program"[..]));
        assert!(files.values().all(|(header, _)| header.mtime().unwrap() == 0));
        assert_eq!(files["tmp/"].0.mode().unwrap(), 0o1777);
    }

    #[test]
    fn a_tree_keeps_its_links_and_what_is_everybodys() {
        let tree = std::env::temp_dir().join(format!("xtask-tree-{}", std::process::id()));
        let (etc, task) = (tree.join("etc"), tree.join("var/task"));
        for folder in [&etc, &task] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::set_permissions(&task, std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::write(etc.join("passwd"), "other").unwrap();
        let long = "a".repeat(120);
        std::fs::write(etc.join(&long), "long").unwrap();
        std::os::unix::fs::symlink("usr/lib", tree.join("lib")).unwrap();
        let files = entries(&layer(&BTreeMap::new(), Some(&tree)).unwrap()[..]);
        std::fs::remove_dir_all(tree).unwrap();
        assert_eq!(files["var/task/"].0.mode().unwrap(), 0o1777);
        assert_eq!(files["var/"].0.mode().unwrap(), 0o755);
        let link = files["lib"].0.link_name().unwrap().unwrap().into_owned();
        assert_eq!(link, Path::new("usr/lib"));
        assert_eq!(files[&format!("etc/{long}")].1, b"long");
        assert!(files["etc/passwd"].1.starts_with(b"root:"));
    }
}
