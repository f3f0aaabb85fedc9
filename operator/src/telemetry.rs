//! Log lines of the process: on standard error, structured, never with a secret.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::LogFormat;

/// Starts logging what `filter` says in the form `format`.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    init_to(format, filter, std::io::stderr)
}

/// The same, to another place, which leads to standard error in the end.
pub fn init_to<W>(format: LogFormat, filter: &str, writer: W) -> anyhow::Result<()>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log-filter {filter:?} is not a level or target=level list"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}
