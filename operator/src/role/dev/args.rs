//! The command line of who runs Functions on a laptop.

use std::path::PathBuf;

use clap::Args;

/// A folder of Functions, and where they are called.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Folder with Functions and Triggers, and the Secrets and ConfigMaps that they name, as YAML
    /// files, also in folders below. A folder with a file `function.yaml` is the code of that
    /// Function, as for `rouse deploy`. What changes is read again at once.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Port at which Functions are called, on this machine alone; 0 takes any that is free.
    #[arg(long, short, default_value_t = 8080)]
    pub port: u16,
    /// Namespace of what names none.
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
    /// Folder for what is kept while it runs; it may be deleted after. Default: `.rouse` in FOLDER.
    #[arg(long)]
    pub state: Option<PathBuf>,
}
