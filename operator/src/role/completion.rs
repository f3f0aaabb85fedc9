//! `rouse completion`: what makes a shell complete this command line. `kubectl` asks the program itself, by a
//! name of its own.

use std::path::Path;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
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

/// By this name `kubectl` calls what completes a plugin.
const OF_KUBECTL: &str = "kubectl_complete-rouse";
/// What follows may be a file, or not.
const FILES: &str = ":0\n";
const NO_FILES: &str = ":4\n";

/// Answers `kubectl` what may follow the words that somebody has typed; gives whether it asks.
pub fn answer_kubectl(mut words: impl Iterator<Item = String>) -> anyhow::Result<bool> {
    let program = words.next().unwrap_or_default();
    if Path::new(&program).file_name() != Some(OF_KUBECTL.as_ref()) {
        return Ok(false);
    }
    let words: Vec<String> = words.collect();
    output::print(&follow(&Cli::command(), &words)).map(|()| true)
}

/// What may stand in the place of the last of `words`, each on a line of its own.
fn follow(command: &Command, words: &[String]) -> String {
    let Some((last, before)) = words.split_last() else { return NO_FILES.to_owned() };
    let command = before.iter().fold(command, |command, word| {
        command.get_subcommands().find(|one| one.get_name() == word).unwrap_or(command)
    });
    let line = |(name, about): (String, Option<String>)| {
        format!("{name}\t{}\n", about.unwrap_or_default())
    };
    if last.starts_with('-') {
        let options =
            command.get_arguments().filter_map(|one| Some((one.get_long()?, one.get_help())));
        let options =
            options.map(|(name, help)| (format!("--{name}"), help.map(ToString::to_string)));
        let fits = options.filter(|(name, _)| name.starts_with(last.as_str()));
        return fits.map(line).collect::<String>() + NO_FILES;
    }
    if !command.has_subcommands() {
        return FILES.to_owned();
    }
    let commands =
        command.get_subcommands().map(|one| (one.get_name().to_owned(), one.get_about()));
    let commands = commands.map(|(name, about)| (name, about.map(ToString::to_string)));
    let fits = commands.filter(|(name, _)| name.starts_with(last.as_str()));
    fits.map(line).collect::<String>() + NO_FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_is_told_what_may_follow() {
        let follow = |typed: &str| {
            let words: Vec<String> = typed.split(' ').map(ToOwned::to_owned).collect();
            let said = super::follow(&Cli::command(), &words);
            let names = said.lines().map(|line| line.split('\t').next().unwrap_or_default());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(follow("roll"), "rollback :4");
        assert_eq!(follow("dlq re"), "redrive :4");
        assert_eq!(follow("rollback hello --ti"), "--timeout :4");
        assert_eq!(follow("deploy "), ":0");
        assert!(!answer_kubectl(["/usr/bin/rouse", "list"].map(String::from).into_iter()).unwrap());
    }

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
