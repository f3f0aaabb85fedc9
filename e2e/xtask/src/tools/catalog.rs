//! The table of programs that the chores build from Go modules, with their versions.
//! Must not build anything.

use std::path::{Path, PathBuf};

use crate::{digest, folders};

/// Version of Kubernetes, and of nothing else: the staging modules follow in `go.mod`.
pub const KUBERNETES_VERSION: &str = "v1.37.2";
/// Version of `CoreDNS`, also the tag of its image.
pub const COREDNS_VERSION: &str = "v1.15.0";

/// Oldest Go that the modules below accept, as (major, minor).
pub const OLDEST_GO: (u32, u32) = (1, 26);

/// How to build one or more programs that come from one Go module.
#[derive(Debug)]
pub struct Recipe {
    /// Name of the part, unique in the table.
    pub name: &'static str,
    /// Version of the module.
    pub version: &'static str,
    /// Where the sources are.
    pub source: Source,
    /// Packages to build, below the module; empty for the module itself.
    pub packages: &'static [&'static str],
    /// Names by which the program is called beside its own.
    pub links: &'static [&'static str],
    /// Go build tags.
    pub tags: &'static str,
    /// Whether it holds C.
    pub cgo: bool,
    /// Variables to set by the linker, as `package.name=value`.
    pub stamps: &'static [&'static str],
    /// CPU seconds to build it with an empty build cache, as measured.
    pub cpu_seconds: u32,
}

/// Where the sources of a part are.
#[derive(Debug)]
pub enum Source {
    /// A module in this checkout, with its own `go.sum`.
    Checkout(&'static str),
    /// A public module. Go's checksum database vouches for it.
    Module(&'static str),
}

/// Kubernetes, all components in one program.
pub const KUBERNETES: Recipe = Recipe {
    name: "kubernetes",
    version: KUBERNETES_VERSION,
    source: Source::Checkout("e2e/cluster/kubernetes"),
    packages: &[],
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
    cpu_seconds: 360,
};

/// The API server's store.
pub const ETCD: Recipe = Recipe {
    name: "etcd",
    version: "v3.7.3",
    source: Source::Module("go.etcd.io/etcd/server/v3"),
    packages: &[],
    links: &["etcd"],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 40,
};

/// The container runtime, its shim and its client.
pub const CONTAINERD: Recipe = Recipe {
    name: "containerd",
    version: "v2.4.2",
    source: Source::Module("github.com/containerd/containerd/v2"),
    packages: &["cmd/containerd", "cmd/containerd-shim-runc-v2", "cmd/ctr"],
    links: &[],
    tags: "no_btrfs no_devmapper no_zfs",
    cgo: false,
    stamps: &["github.com/containerd/containerd/v2/version.Version=v2.4.2"],
    cpu_seconds: 100,
};

/// What starts the containers. Debian's own is too old for this containerd.
pub const RUNC: Recipe = Recipe {
    name: "runc",
    version: "v1.5.2",
    source: Source::Module("github.com/opencontainers/runc"),
    packages: &[],
    links: &[],
    tags: "seccomp",
    cgo: true,
    stamps: &[],
    cpu_seconds: 20,
};

/// The network plugins that the cluster's configuration names.
pub const CNI: Recipe = Recipe {
    name: "cni-plugins",
    version: "v1.9.1",
    source: Source::Module("github.com/containernetworking/plugins"),
    packages: &["plugins/main/ptp", "plugins/ipam/host-local"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 15,
};

/// The cluster's DNS server, which runs in it.
pub const COREDNS: Recipe = Recipe {
    name: "coredns",
    version: COREDNS_VERSION,
    source: Source::Module("github.com/coredns/coredns"),
    packages: &[],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &[],
    cpu_seconds: 180,
};

/// Renders and installs the chart.
pub const HELM: Recipe = Recipe {
    name: "helm",
    version: "v4.3.1",
    source: Source::Module("helm.sh/helm/v4"),
    packages: &["cmd/helm"],
    links: &[],
    tags: "",
    cgo: false,
    stamps: &["helm.sh/helm/v4/internal/version.version=v4.3.1"],
    cpu_seconds: 150,
};

/// What a local cluster is made of; the longest build first.
pub const CLUSTER: &[&Recipe] = &[&KUBERNETES, &COREDNS, &CONTAINERD, &ETCD, &RUNC, &CNI];

impl Recipe {
    /// The packages to build, as arguments of `go build`.
    pub fn targets(&self) -> Vec<String> {
        match self.source {
            Source::Checkout(_) => vec![".".to_owned()],
            Source::Module(module) if self.packages.is_empty() => vec![module.to_owned()],
            Source::Module(module) => {
                self.packages.iter().map(|package| format!("{module}/{package}")).collect()
            }
        }
    }

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
        let mut key = format!(
            "{:?} {} {} {} {:?} {}",
            self.targets(),
            self.tags,
            self.cgo,
            self.linker_flags(),
            self.links,
            std::env::consts::ARCH
        )
        .into_bytes();
        if let Source::Checkout(module) = self.source {
            for file in ["main.go", "go.mod", "go.sum"] {
                let path = folders::workspace().join(module).join(file);
                key.extend(std::fs::read(path).unwrap_or_default());
            }
        }
        let digest = digest::short(&key);
        cache.join("tools").join(format!("{}-{}-{digest}", self.name, self.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_versions_are_stamped_as_they_are_named() {
        let all: Vec<_> = CLUSTER.iter().copied().chain([&HELM]).collect();
        let names: std::collections::BTreeSet<_> = all.iter().map(|recipe| recipe.name).collect();
        assert_eq!(names.len(), all.len());
        for recipe in all {
            for stamp in recipe.stamps.iter().filter(|stamp| stamp.contains("ersion=")) {
                assert!(stamp.ends_with(&format!("={}", recipe.version)), "{stamp}");
            }
        }
    }

    #[test]
    fn the_kubernetes_module_requires_the_version_that_the_table_names() {
        let module = folders::workspace().join("e2e/cluster/kubernetes/go.mod");
        let module = std::fs::read_to_string(module).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}\n")));
    }

    #[test]
    fn folders_tell_recipes_apart() {
        let cache = Path::new("/cache");
        let folder = ETCD.folder(cache);
        assert!(folder.to_string_lossy().starts_with("/cache/tools/etcd-v3.7.3-"));
        let other = Recipe { tags: "other", ..ETCD };
        assert_ne!(other.folder(cache), folder);
    }

    #[test]
    fn targets_are_packages_or_the_module() {
        assert_eq!(KUBERNETES.targets(), ["."]);
        assert_eq!(RUNC.targets(), ["github.com/opencontainers/runc"]);
        assert_eq!(HELM.targets(), ["helm.sh/helm/v4/cmd/helm"]);
    }
}
