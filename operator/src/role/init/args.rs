//! The command line of who begins a Function.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::output::Form;

/// What to begin with.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder to make, whose name becomes that of the Function.
    #[arg(required_unless_present = "list")]
    pub folder: Option<PathBuf>,
    /// Language of the code.
    #[arg(long, short, value_enum, required_unless_present = "list")]
    pub language: Option<Language>,
    /// What the code speaks. Default: http, and lambda in Bash, which can't listen.
    #[arg(long, short, value_enum)]
    pub contract: Option<Contract>,
    /// Name of the Function. Default: that of the folder.
    #[arg(long)]
    pub name: Option<String>,
    /// List what there is to begin with.
    #[arg(long, conflicts_with_all = ["folder", "name"])]
    pub list: bool,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Python 3.
    Python,
    /// JavaScript on Node.js.
    Node,
    /// Bash.
    Bash,
    /// Go, which `rouse deploy` builds.
    Go,
    /// Rust, which `rouse deploy` builds.
    Rust,
}

/// What code speaks, as a word of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contract {
    /// HTTP on `$PORT`.
    Http,
    /// A handler of AWS Lambda.
    Lambda,
    /// A function for Google's functions framework.
    FunctionsFramework,
    /// CloudEvents on `$PORT`.
    Cloudevents,
    /// A custom handler of Azure Functions.
    Azure,
}
