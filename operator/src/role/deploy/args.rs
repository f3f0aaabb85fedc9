//! The command line of who deploys a folder.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rouse_core::function::parse_duration;

use crate::cluster::ClusterArgs;
use crate::output::Form;

/// A folder of code, and what of it can't be told by looking.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Folder with the code. A file `function.yaml` in it is the Function that gets the code: all
    /// else of its spec stands there. A file `.rouseignore` names what is left out, as `.gitignore`
    /// does.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Name of the Function. Default: that in function.yaml, or the folder's.
    #[arg(long)]
    pub name: Option<String>,
    /// Where it shall run.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What of the code is known.
    #[command(flatten)]
    pub code: CodeArgs,
    /// Where an archive goes that is too large for the object.
    #[command(flatten)]
    pub bucket: BucketArgs,
    /// Take fields of the Function that somebody else wrote, and put into the bucket what looks like a
    /// secret.
    #[arg(long)]
    pub force: bool,
    /// Print the Function that would be applied, as YAML unless `-o` says json or name, and change
    /// nothing anywhere.
    #[arg(long)]
    pub dry_run: bool,
    /// Form of what is told of the Function that is ready.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
    /// How long to wait until the Function is ready, and what it was changed to serves; 0s does not
    /// wait.
    #[arg(long, default_value = "120s", value_parser = parse_timeout)]
    pub timeout: Duration,
}

/// What the code is.
#[derive(Clone, Debug, Default, Args)]
pub struct CodeArgs {
    /// Runtime, such as python3.11, node18, provided, shell, java17, or one that the cluster's
    /// administrator added. Default: by the files in the folder.
    #[arg(long)]
    pub runtime: Option<String>,
    /// What in the code is called: `app.handler`, `index.handler`, `pkg.Type::method`, `hello`.
    /// Default: the first that is found.
    #[arg(long)]
    pub handler: Option<String>,
    /// What the code speaks. Default: by what is found in it.
    #[arg(long, value_enum, ignore_case = true)]
    pub contract: Option<Contract>,
    /// What the function takes, of a functions framework. Default: by what is found.
    #[arg(long, value_enum, ignore_case = true, requires = "contract")]
    pub signature: Option<Signature>,
    /// Machine that dependencies are got for.
    #[arg(long, value_enum, default_value_t = Machine::Amd64)]
    pub arch: Machine,
    /// Get no dependencies: they are in the folder, or there are none.
    #[arg(long)]
    pub no_vendor: bool,
}

/// Where archives go that don't fit into the object.
#[derive(Clone, Debug, Args)]
pub struct BucketArgs {
    /// Bucket of S3 and a prefix in it, as `s3://BUCKET/PREFIX`, for archives of more than 700 KiB.
    /// Pods fetch them without a signature, so they must be let. The credentials to write it are
    /// those of the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and perhaps
    /// `AWS_SESSION_TOKEN`.
    #[arg(long, env = "ROUSE_BUCKET")]
    pub bucket: Option<String>,
    /// URL of the server of S3. Default: that of AWS for the region.
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub region: String,
    /// URL under which pods find the bucket, if that is another: archives are below it by their
    /// keys.
    #[arg(long)]
    pub fetch_url: Option<String>,
}

/// What code speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Contract {
    /// HTTP on `$PORT`.
    Http,
    /// Handlers of AWS Lambda.
    Lambda,
    /// Functions of Google's functions frameworks.
    FunctionsFramework,
    /// HTTP on `$PORT`, for CloudEvents and nothing else.
    CloudEvents,
    /// A custom handler of Azure Functions.
    Azure,
}

impl Contract {
    /// As the manifest writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "Http",
            Self::Lambda => "Lambda",
            Self::FunctionsFramework => "FunctionsFramework",
            Self::CloudEvents => "CloudEvents",
            Self::Azure => "Azure",
        }
    }
}

/// What a function of a functions framework takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Signature {
    /// A request.
    Http,
    /// A CloudEvent.
    CloudEvent,
    /// An event as before there were CloudEvents.
    Event,
}

impl Signature {
    /// As the manifest writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "Http",
            Self::CloudEvent => "CloudEvent",
            Self::Event => "Event",
        }
    }
}

/// A kind of machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// x86-64.
    #[default]
    Amd64,
    /// ARM of 64 bits.
    Arm64,
}

/// A time to wait, or none.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    if text == "0s" || text == "0" {
        return Ok(Duration::ZERO);
    }
    parse_duration("--timeout", text).map_err(|error| error.to_string())
}
