//! A Function that is given as source: its code, and the runtime and contract that it is written
//! for.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Bytes that code may have which stands in the object itself.
pub const MOST_INLINE: usize = 700 << 10;

/// Code that runs in one of the cluster's runtimes. Pods are made of the runtime's image as it is
/// when the revision is made, and keep it; the code comes to them as they wake.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.files) != has(self.archive)")
    .message("source needs exactly one of files (texts by their paths) and archive (a zip or tar.gz)"))]
#[x_kube(validation = Rule::new("self.signature == 'Http' || self.contract == 'FunctionsFramework'")
    .message("source.signature is of the functions frameworks: set contract: FunctionsFramework or leave it out"))]
#[x_kube(validation = Rule::new("(self.processes == 1 && self.processConcurrency == 1) || self.contract == 'Lambda'")
    .message("source.processes and source.processConcurrency are of Lambda: set contract: Lambda or leave them out"))]
pub struct FunctionSource {
    /// Runtime that the code is made for, such as `python3.11`, `node18`, `provided` (a program
    /// `bootstrap` in the archive), `shell` or `java17`: a key of the chart's value `runtimes`, where
    /// administrators add theirs.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub runtime: String,
    /// What in the code is called, as the contract and the language name it: `app.handler`,
    /// `index.handler`, `rouse.Handler::handleRequest`, `hello`. At most 256 characters, without
    /// white space. Default: none; runtimes that need one say so in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$"))]
    pub handler: Option<String>,
    /// What the code speaks. Default: `Http`, it listens on `$PORT`.
    #[serde(default)]
    pub contract: Contract,
    /// What the function takes, with `contract: FunctionsFramework`. Default: `Http`.
    #[serde(default)]
    pub signature: Signature,
    /// The code as texts by their paths below the code's folder, such as `app.py` or `lib/words.py`:
    /// from 1 to 200, 700 KiB together. One that begins with `#!` can be run. Beyond 256 KiB
    /// `kubectl apply` needs `--server-side`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "files_schema")]
    #[x_kube(validation = Rule::new(
        "self.all(p, p.size() <= 256 && p.matches('^[^/]+(/[^/]+)*$') && !p.matches('(^|/)[.][.]?(/|$)'))")
        .message("each path of source.files must lead below the code's folder: at most 256 characters, no '/' at its ends, no '//', '.' or '..'"))]
    pub files: BTreeMap<String, String>,
    /// The code as an archive, its dependencies in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<CodeArchive>,
    /// Language processes in a pod with `contract: Lambda`, from 1 to 64. The scaler aims at no more
    /// requests per pod than these take: `processes` times `processConcurrency`. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub processes: u16,
    /// Requests that one process takes at once with `contract: Lambda`, from 1 to 1000: it is told by
    /// `AWS_LAMBDA_MAX_CONCURRENCY`, which the clients for Go, Java and Python know. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub process_concurrency: u16,
}

const fn one() -> u16 {
    1
}

/// Without a bound of its own a text could be as long as a request may be, two hundred times.
fn files_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 200,
        "additionalProperties": {"type": "string", "maxLength": MOST_INLINE}
    })
}

/// What code speaks.
#[derive(
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    schemars::JsonSchema,
)]
pub enum Contract {
    /// HTTP on `$PORT`.
    #[default]
    Http,
    /// Handlers of AWS Lambda: the Runtime API. Triggers bring their events with `format: Lambda`.
    Lambda,
    /// Functions of Google's functions frameworks.
    FunctionsFramework,
    /// HTTP on `$PORT`, for CloudEvents and nothing else.
    CloudEvents,
    /// A custom handler of Azure Functions, with its `host.json`.
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
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema,
)]
pub enum Signature {
    /// A request.
    #[default]
    Http,
    /// A CloudEvent.
    CloudEvent,
    /// An event as before there were CloudEvents.
    Event,
}

/// Code as a zip or a tar.gz: exactly one of `inline` and `url`. What is unpacked may have 256 MiB
/// and 50000 files; no entry may lead out of the code's folder.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.inline) != has(self.url)")
    .message("archive needs exactly one of inline (base64) and url"))]
#[x_kube(validation = Rule::new("!has(self.url) || has(self.sha256)")
    .message("archive.url needs archive.sha256, what 'sha256sum' prints of the archive"))]
pub struct CodeArchive {
    /// The archive in base64 without line breaks (`base64 -w0`), of at most 700 KiB before that.
    /// Beyond 256 KiB `kubectl apply` needs `--server-side`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 955_736))]
    pub inline: Option<String>,
    /// Where the pod itself fetches the archive, by http or https, at most 2048 characters: the
    /// network and the credentials in the URL are the Function's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[!-~]+$"))]
    pub url: Option<String>,
    /// SHA-256 of the archive in 64 hexadecimal digits: other bytes are not run. Needed with `url`;
    /// checked with `inline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
}
