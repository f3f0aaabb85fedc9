//! `rouse completion`: what makes a shell complete this command line.

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::output;

/// For which shell.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints it.
pub fn run(args: &CompletionArgs) -> anyhow::Result<()> {
    output::print(&script(args.shell)?)
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "rouse", &mut script);
    String::from_utf8(script).context("writing the script")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = script(shell).unwrap();
            for command in ["invoke", "rollback", "deploy", "dlq"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}
