//! The command line of who reads what Functions printed.

use std::time::Duration;

use clap::{Args, ValueEnum};
use rouse_core::function::parse_duration;

use crate::cluster::ClusterArgs;

/// Whose lines, and which.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name of the Function.
    pub name: String,
    /// Where it is.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Only lines of this request: its `X-Request-Id`, which each answer has.
    #[arg(long)]
    pub request: Option<String>,
    /// Go on with what is printed from now on, also by pods that come later.
    #[arg(long, short)]
    pub follow: bool,
    /// Only lines that are not older, such as 10m. Default: all that are there.
    #[arg(long, value_parser = parse_age)]
    pub since: Option<Duration>,
    /// Only so many of the last of these lines; with -f of each pod that is there when it begins.
    #[arg(long)]
    pub tail: Option<usize>,
    /// Form of the lines: for people, or as they were written.
    #[arg(long, short, value_enum, default_value_t = LineForm::Text)]
    pub output: LineForm,
}

/// Form of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LineForm {
    /// Time, pod, request and text.
    Text,
    /// One JSON object a line.
    Json,
}

fn parse_age(text: &str) -> Result<Duration, String> {
    parse_duration("--since", text).map_err(|error| error.to_string())
}
