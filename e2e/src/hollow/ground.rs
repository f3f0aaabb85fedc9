//! What the servers of a run stand on: loopback addresses that no other run uses, a folder that goes with
//! the run, and the programs that `cargo xtask` gathered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context;
use tokio::net::TcpListener;

use super::programs;

/// The ground of a run, as long as this value lives.
pub struct Ground {
    /// The addresses that are this run's.
    pub block: Arc<Block>,
    folder: Folder,
    programs: PathBuf,
}

impl Ground {
    /// Takes what nobody has, for servers that are programs of the folder `programs`.
    pub async fn claim(programs: PathBuf) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        Ok(Self { block: Arc::new(Block::claim().await?), folder, programs })
    }

    /// The folder of the run, deleted in the end.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// A program.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        programs::find(&self.programs, name)
    }
}

/// A folder that is deleted with this value.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        // Sockets live in it, whose paths may have 107 bytes at most.
        let path = std::env::temp_dir().join(format!("rouse-hollow-{}", std::process::id()));
        std::fs::create_dir(&path)
            .with_context(|| format!("making the run's folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_none() {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
}

/// Set to anything, it leaves the folder with its logs for whoever looks for the cause of a failure.
const KEEP: &str = "ROUSE_HOLLOW_KEEP";

/// Loopback addresses that no other run uses: `127.N.0.0/16`.
#[derive(Debug)]
pub struct Block {
    second: u8,
    /// Holds the block: who can listen here has it.
    _claim: TcpListener,
    next: AtomicU16,
}

/// The port whose owner has the block.
const CLAIM_PORT: u16 = 61_999;
/// Pods get addresses below this third number, activators above.
const OWN: u8 = 250;

impl Block {
    async fn claim() -> anyhow::Result<Self> {
        for second in 64..=127 {
            let address = SocketAddr::from((Ipv4Addr::new(127, second, OWN, 254), CLAIM_PORT));
            if let Ok(claim) = TcpListener::bind(address).await {
                return Ok(Self { second, _claim: claim, next: AtomicU16::new(0) });
            }
        }
        anyhow::bail!("no block of loopback addresses is free: 64 runs at once?")
    }

    /// An address for a pod. It comes again only after 62,500 others.
    pub fn pod(&self) -> Ipv4Addr {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % 62_500;
        let [high, low] = [next / 250, next % 250].map(|part| part.to_le_bytes()[0]);
        Ipv4Addr::new(127, self.second, high, low + 1)
    }

    /// The address of a part of the control plane or of an activator.
    pub const fn own(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, OWN, number)
    }
}
