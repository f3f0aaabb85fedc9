//! The table of programs that the chores build from Go modules, with their versions.
//! Must not build anything.

use std::path::{Path, PathBuf};

use crate::{digest, folders};

/// Version of Kubernetes, and of nothing else: the staging modules follow in `go.mod`.
pub const KUBERNETES_VERSION: &str = "v1.37.2";
/// Version of `CoreDNS`, also the tag of its image.
pub const COREDNS_VERSION: &str = "v1.15.0";

/// The Go module with the sources of the cluster's programs, below the checkout.
const CLUSTER_MODULE: &str = "e2e/cluster";
/// Oldest Go that the modules accept.
pub const OLDEST_GO: (u32, u32, u32) = (1, 26, 6);

/// How to build one or more programs that come from one project.
#[derive(Debug)]
pub struct Recipe {
    /// Name of the part, unique in the table.
    pub name: &'static str,
    /// Version of the project.
    pub version: &'static str,
    /// The Go module that names its sources, below the checkout.
    pub module: &'static str,
    /// Packages to build: one program each, named as the last element.
    pub packages: &'static [&'static str],
    /// Names by which the first program is called beside its own.
    pub links: &'static [&'static str],
    /// Go build tags.
    pub tags: &'static str,
    /// Whether it holds C.
    pub cgo: bool,
    /// Variables to set by the linker, as `package.name=value`.
    pub stamps: &'static [&'static str],
    /// CPU seconds to build it after those before it in [`CLUSTER`], as measured with an empty
    /// build cache.
    pub cpu_seconds: u32,
}

/// Kubernetes, all components in one program.
pub const KUBERNETES: Recipe = Recipe {
    name: "kubernetes",
    version: KUBERNETES_VERSION,
    module: CLUSTER_MODULE,
    packages: &["./kubernetes"],
    links: &[
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ],
    tags: "",
    cgo: false,
    // Without them the server calls itself v0.0.0, and charts' kubeVersion checks fail.
    stamps: &[
        "k8s.io/component-base/version.gitVersion=v1.37.2",
        "k8s.io/component-base/version.gitMajor=1",
        "k8s.io/component-base/version.gitMinor=37",
        "k8s.io/client-go/pkg/version.gitVersion=v1.37.2",
    ],
    cpu_seconds: 640,
};

/// The API server's store.
pub const ETCD: Recipe = Recipe {
    name: "etcd",
    version: "v3.7.3",
    module: CLUSTER_MODULE,
    packages: &["go.etcd.io/etcd/server/v3"],
    links: &["etcd"],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 14,
};

/// The container runtime, its shim and its client.
pub const CONTAINERD: Recipe = Recipe {
    name: "containerd",
    version: "v2.4.2",
    module: CLUSTER_MODULE,
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    links: &[],
    tags: "no_btrfs no_devmapper no_zfs",
    cgo: false,
    stamps: &["github.com/containerd/containerd/v2/version.Version=v2.4.2"],
    cpu_seconds: 70,
};

/// What starts the containers. Debian's own is too old for this containerd.
pub const RUNC: Recipe = Recipe {
    name: "runc",
    version: "v1.5.2",
    module: CLUSTER_MODULE,
    packages: &["github.com/opencontainers/runc"],
    links: &[],
    tags: "seccomp",
    cgo: true,
    stamps: &[],
    cpu_seconds: 16,
};

/// The network plugins that the cluster's configuration names.
pub const CNI: Recipe = Recipe {
    name: "cni-plugins",
    version: "v1.9.1",
    module: CLUSTER_MODULE,
    packages: &[
        "github.com/containernetworking/plugins/plugins/ipam/host-local",
        "github.com/containernetworking/plugins/plugins/main/ptp",
    ],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 2,
};

/// The cluster's DNS server, which runs in it.
pub const COREDNS: Recipe = Recipe {
    name: "coredns",
    version: COREDNS_VERSION,
    module: CLUSTER_MODULE,
    packages: &["./coredns"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 20,
};

/// Renders and installs the chart.
pub const HELM: Recipe = Recipe {
    name: "helm",
    version: "v4.3.1",
    module: CLUSTER_MODULE,
    packages: &["helm.sh/helm/v4/cmd/helm"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &["helm.sh/helm/v4/internal/version.version=v4.3.1"],
    cpu_seconds: 25,
};

/// The conformance tests of HTTP/2.
pub const H2SPEC: Recipe = Recipe {
    name: "h2spec",
    version: "v2.2.1+incompatible",
    module: "e2e/h2spec",
    packages: &["github.com/summerwind/h2spec/cmd/h2spec"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 35,
};

/// The server of the tests of the source `nats`.
pub const NATS: Recipe = Recipe {
    name: "nats-server",
    version: "v2.15.2",
    module: "e2e/nats",
    packages: &["github.com/nats-io/nats-server/v2"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 40,
};

/// A client and a server of gRPC by its own makers, with the cases that all their languages share.
pub const GRPC: Recipe = Recipe {
    name: "grpc-interop",
    version: "v1.84.0",
    module: "e2e/grpc",
    packages: &["google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 60,
};

/// The server of the tests of the source `s3`.
pub const MINIO: Recipe = Recipe {
    name: "minio",
    version: "v0.0.0-20260212201848-7aac2a2c5b7c",
    module: "e2e/minio",
    packages: &["github.com/minio/minio"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 240,
};

/// What a local cluster is made of, in the order of building.
pub const CLUSTER: &[&Recipe] = &[&KUBERNETES, &CONTAINERD, &ETCD, &RUNC, &CNI, &COREDNS];

impl Recipe {
    /// Value of `go build -ldflags`.
    pub fn linker_flags(&self) -> String {
        let stamps = self.stamps.iter().map(|stamp| format!(" -X {stamp}"));
        std::iter::once("-s -w".to_owned()).chain(stamps).collect()
    }

    /// Minutes that the build takes on `cores`.
    pub fn minutes(&self, cores: usize) -> f64 {
        let cores = u32::try_from(cores.max(1)).unwrap_or(u32::MAX);
        f64::from(self.cpu_seconds) / 60.0 / f64::from(cores)
    }

    /// Folder of the built programs in the cache. Another version or another way of building it
    /// gets another folder.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        let Self { packages, links, tags, cgo, .. } = self;
        let (flags, machine) = (self.linker_flags(), std::env::consts::ARCH);
        let mut key = format!("{packages:?} {links:?} {tags} {cgo} {flags} {machine}").into_bytes();
        let module = folders::workspace().join(self.module);
        let own = packages.iter().filter(|package| package.starts_with('.'));
        let own = own.map(|package| module.join(package).join("main.go"));
        for source in own.chain([module.join("go.mod")]) {
            key.extend(std::fs::read(source).unwrap_or_default());
        }
        let digest = digest::short(&key);
        cache.join("tools").join(format!("{}-{}-{digest}", self.name, self.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Recipe> {
        CLUSTER.iter().copied().chain([&HELM, &H2SPEC, &MINIO, &NATS, &GRPC])
    }

    fn module(recipe: &Recipe) -> String {
        std::fs::read_to_string(folders::workspace().join(recipe.module).join("go.mod")).unwrap()
    }

    #[test]
    fn names_are_unique_and_versions_are_stamped_as_they_are_named() {
        let names: std::collections::BTreeSet<_> = all().map(|recipe| recipe.name).collect();
        assert_eq!(names.len(), all().count());
        for recipe in all() {
            for stamp in recipe.stamps.iter().filter(|stamp| stamp.contains("ersion=")) {
                assert!(stamp.ends_with(&format!("={}", recipe.version)), "{stamp}");
            }
        }
    }

    #[test]
    fn the_modules_require_the_versions_that_the_table_names() {
        let requires = |recipe: &&Recipe| {
            let project = match recipe.name {
                "kubernetes" => "k8s.io/kubernetes",
                "coredns" => "github.com/coredns/coredns",
                _ => recipe.packages[0].split("/cmd/").next().unwrap(),
            };
            let project = project.split("/plugins/ipam").next().unwrap();
            let project = project.split("/interop/").next().unwrap();
            module(recipe).contains(&format!("\t{project} {}", recipe.version))
        };
        let missing: Vec<_> = all().filter(|recipe| !requires(recipe)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn the_modules_accept_the_oldest_go() {
        let (major, minor, patch) = OLDEST_GO;
        let line = format!("\ngo {major}.{minor}.{patch}\n");
        assert!(all().all(|recipe| module(recipe).contains(&line)));
    }

    #[test]
    fn folders_tell_recipes_apart() {
        let cache = Path::new("/cache");
        let folder = ETCD.folder(cache);
        assert!(folder.to_string_lossy().starts_with("/cache/tools/etcd-v3.7.3-"));
        let other = Recipe { tags: "other", ..ETCD };
        assert_ne!(other.folder(cache), folder);
    }
}
