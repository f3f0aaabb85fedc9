//! What people do with Functions, beside deploying them and asking about them.

use clap::Subcommand;

use super::completion::CompletionArgs;
use super::init::args::InitArgs;
use super::invoke::args::InvokeArgs;
use super::list::ListArgs;
use super::rollback::RollbackArgs;
use super::status::StatusArgs;
use super::{completion, init, invoke, list, rollback, status};

/// Something to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Begins a Function: a folder with code that `rouse deploy` takes as it is.
    Init(InitArgs),
    /// Calls a Function, and tells what the wait was made of.
    Invoke(Box<InvokeArgs>),
    /// Lists Functions, and how each is.
    List(ListArgs),
    /// Tells all of one Function: conditions, revisions, pods, Triggers, what is wrong and what to do.
    Status(StatusArgs),
    /// Makes a Function what it was at an earlier revision.
    Rollback(RollbackArgs),
    /// Prints what makes a shell complete this command line.
    ///
    /// In Bash: `source <(rouse completion bash)`, in `~/.bashrc` to have it always. In zsh: `rouse
    /// completion zsh > "${fpath[1]}/_rouse"`. In fish: `rouse completion fish >
    /// ~/.config/fish/completions/rouse.fish`. `kubectl` completes its plugin where the program is on the
    /// path under the name `kubectl_complete-rouse` too.
    Completion(CompletionArgs),
}

/// Does it.
pub async fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(args),
        Command::Invoke(args) => Box::pin(invoke::run(args)).await,
        Command::List(args) => list::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Rollback(args) => Box::pin(rollback::run(args)).await,
        Command::Completion(args) => completion::run(args),
    }
}
