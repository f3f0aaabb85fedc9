//! The command lines of those who look after dead letters.

use clap::{Args, Subcommand};

use crate::cluster::ClusterArgs;
use crate::output::Form;

/// What to do with dead letters that streams keep (`delivery.deadLetter.nats` of a Trigger). It takes
/// the right to forward ports of pods in the namespace, which the role `edit` has.
#[derive(Debug, Subcommand)]
pub enum Errand {
    /// Lists dead letters, those of each Trigger oldest first.
    List(ListArgs),
    /// Shows a dead letter: the whole event.
    Show(ShowArgs),
    /// Sends dead letters to their Function again, one after the other and with their ids. Each is
    /// removed once the Function has answered 2xx; the others stay.
    Redrive(Chosen),
    /// Removes dead letters for good.
    Purge(PurgeArgs),
}

/// Whose letters to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Name of a Trigger. Default: all of the namespace.
    pub trigger: Option<String>,
    /// Most letters to list.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Where they are.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Triggers of all namespaces.
    #[arg(long, short = 'A', conflicts_with_all = ["trigger", "namespace"])]
    pub all_namespaces: bool,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// One letter.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Name of the Trigger.
    pub trigger: String,
    /// Number of the letter, as `list` tells it.
    pub letter: u64,
    /// Where it is.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// Some letters of a Trigger, or all.
#[derive(Debug, Args)]
pub struct Chosen {
    /// Name of the Trigger.
    pub trigger: String,
    /// Numbers of the letters, as `list` tells them.
    #[arg(required_unless_present = "all")]
    pub letters: Vec<u64>,
    /// All letters of the Trigger.
    #[arg(long, conflicts_with = "letters")]
    pub all: bool,
    /// Where they are.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// What to remove.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Which letters.
    #[command(flatten)]
    pub chosen: Chosen,
    /// Don't ask.
    #[arg(long, short)]
    pub yes: bool,
}
