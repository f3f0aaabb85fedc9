//! The command line of who calls a Function.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};

use crate::cluster::ClusterArgs;
use crate::output::Form;
use crate::role::deploy::args::parse_timeout;

/// Which Function to call, and with what.
#[derive(Debug, Args)]
pub struct InvokeArgs {
    /// Name of the Function.
    pub name: String,
    /// Path and query.
    #[arg(default_value = "/")]
    pub path: String,
    /// Where it is.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Method. Default: GET, or POST where there is a body.
    #[arg(long, short = 'X')]
    pub method: Option<Method>,
    /// A header, such as `Accept: text/html`. May be given more than once.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent.
    #[command(flatten)]
    pub body: BodyArgs,
    /// Where an activator answers, such as `http://127.0.0.1:8080`, or a URL by which the Function is
    /// reached from outside. Default: a port that is forwarded to an activator by way of the API
    /// server, for which it takes the right to do that in Rouse's namespace (role `rouse-invoke`).
    #[arg(long, env = "ROUSE_ADDRESS", value_name = "URL")]
    pub address: Option<String>,
    /// How long it may take to find the Function and to have all of its answer; 0s waits for ever.
    #[arg(long, default_value = "6m10s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// Form of the answer: `table` is the body as it is on standard output, and what the wait was made
    /// of on standard error; `wide` tells the headers too.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// What is sent.
#[derive(Debug, Default, Args)]
pub struct BodyArgs {
    /// A text as the body.
    #[arg(long, short, group = "body")]
    pub data: Option<String>,
    /// A file as the body; `-` for standard input.
    #[arg(long, group = "body", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A CloudEvent in its JSON form, as `rouse dlq show -o json` prints one, from a file; `-` for
    /// standard input. It is sent as Triggers send it.
    #[arg(long, group = "body", value_name = "FILE")]
    pub event: Option<PathBuf>,
    /// Make a CloudEvent of this type, of the body as its data.
    #[arg(long, value_name = "TYPE", conflicts_with = "event")]
    pub event_type: Option<String>,
    /// Hand the body to a handler of Lambda as its event (JSON), or the CloudEvent as one of
    /// `EventBridge`, instead of a request.
    #[arg(long, requires = "body")]
    pub lambda: bool,
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = |why: String| format!("{text:?} is no header such as \"Accept: text/html\"{why}");
    let (name, value) = text.split_once(':').ok_or_else(|| wrong(String::new()))?;
    let name = HeaderName::try_from(name.trim()).map_err(|error| wrong(format!(": {error}")))?;
    let value = HeaderValue::try_from(value.trim()).map_err(|error| wrong(format!(": {error}")))?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_a_name_and_a_value() {
        let (name, value) = parse_header("X-A: b: c").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-a", &b"b: c"[..]));
        for wrong in ["X-A", "X A: b", ": b"] {
            assert!(parse_header(wrong).is_err(), "{wrong:?}");
        }
    }
}
