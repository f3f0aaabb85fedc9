//! The command line: parsed once, here, into the configuration of each role.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use hyper::Uri;
use ipnet::IpNet;
use rouse_core::function::BufferBounds;
use rouse_core::function::runtime::Runtimes;
use rouse_core::kept::KEPT_PORT;
use rouse_core::letter::LETTERS_PORT;
use rouse_core::resident::{PodTemplate, Resident, TemplateMistake};
use rouse_core::scaling::allowance::PodCaps;
use rouse_core::trigger::HostPolicy;

use crate::output::Form;
use crate::role::command::Command;
use crate::role::deploy::args::DeployArgs;
#[cfg(feature = "dev")]
use crate::role::dev::args::DevArgs;
use crate::role::dlq::args::Errand;
use crate::role::inspect::args::Question;
use crate::role::logs::args::LogsArgs;
use crate::{exit, otlp};

/// Where the help puts what only processes heed that stay.
const LOG: &str = "Log of processes that stay";

/// Functions on Kubernetes that sleep until they are called.
#[derive(Debug, Parser)]
#[command(name = "rouse", version, about, after_help = exit::CODES)]
pub struct Cli {
    /// Form of the log lines on standard error.
    #[arg(
        long,
        env = "ROUSE_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Json,
        global = true,
        help_heading = LOG
    )]
    pub log: LogFormat,
    /// What to log: a level, or `target=level` pairs with commas between.
    #[arg(long, env = "ROUSE_LOG", default_value = "info", global = true, help_heading = LOG)]
    pub log_filter: String,
    /// What this process does.
    #[command(subcommand)]
    pub role: Role,
}

impl Cli {
    /// Reads the command line of this process, which may be a plugin of `kubectl`.
    pub fn read() -> Self {
        let called = std::env::args_os().next().map(PathBuf::from);
        let is_plugin =
            called.is_some_and(|path| path.file_name() == Some("kubectl-rouse".as_ref()));
        let command = Self::in_order();
        let command = if is_plugin { command.bin_name("kubectl rouse") } else { command };
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// The command line, as its help shows it.
    fn in_order() -> clap::Command {
        let place = |command: clap::Command, (place, name): (usize, &&'static str)| {
            // The image has not all of them.
            match command.find_subcommand(*name) {
                Some(_) => command.mut_subcommand(*name, |one| one.display_order(place)),
                None => command,
            }
        };
        ORDER.iter().enumerate().fold(Self::command(), place)
    }
}

/// Commands as the help lists them: those of people as they come to need them, then what runs in a cluster.
const ORDER: [&str; 18] = [
    "init",
    "dev",
    "deploy",
    "invoke",
    "list",
    "status",
    "logs",
    "rollback",
    "why",
    "cold",
    "usage",
    "dlq",
    "simulate",
    "completion",
    "controller",
    "activator",
    "source",
    "keeper",
];

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Text,
}

/// What a process does.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Makes the children of Functions and writes all status; one of several leads.
    Controller(Box<ControllerArgs>),
    /// Carries requests, wakes and scales the Functions that it owns.
    Activator(Box<ActivatorArgs>),
    /// Brings the events of one namespace's brokers, buckets, databases and senders to its Functions.
    Source(Box<SourceArgs>),
    /// Keeps what the pods of one namespace's Functions with source printed, for when they are gone.
    Keeper(KeeperArgs),
    /// Runs the Functions of a folder on this machine, with no cluster: asleep until they are called.
    #[cfg(feature = "dev")]
    Dev(Box<DevArgs>),
    /// Replays a trace of requests under several scaling policies and compares them.
    ///
    /// A trace has the form of the public Azure Functions trace of 2019: a table of the calls of each
    /// function by minute, and one of its memory. Whoever shows figures of that trace has to credit it
    /// (CC-BY 4.0): Shahrad et al., "Serverless in the Wild", USENIX ATC 2020.
    Simulate(SimulateArgs),
    /// Makes a Function of a folder of code: gets its dependencies, packs it, applies it and waits.
    Deploy(Box<DeployArgs>),
    /// Looks after the dead letters that streams keep.
    #[command(subcommand)]
    Dlq(Errand),
    /// Shows what a Function printed, by request, also in pods that are gone.
    Logs(LogsArgs),
    /// Questions of users about Functions.
    #[command(flatten)]
    Inspect(Question),
    /// What people do with Functions.
    #[command(flatten)]
    Command(Command),
}

/// Threads beside those for requests where a whole cluster is one process: each has memory of its own.
#[cfg(feature = "dev")]
const DEV_THREADS: usize = 2;

/// Threads of a namespace's sources. What an event takes there is so short that handing it from thread
/// to thread costs more than a second thread brings: one tells 0.84 times as many objects as a plain
/// consumer, two 0.74 times as many, and rows and messages come through as fast by one.
const SOURCE_THREADS: usize = 1;

impl Role {
    /// Threads that it works with; as many as can run at once where it does not say.
    pub const fn threads(&self) -> Option<usize> {
        match self {
            #[cfg(feature = "dev")]
            Self::Dev(_) => Some(DEV_THREADS),
            Self::Source(_) => Some(SOURCE_THREADS),
            _ => None,
        }
    }
}

/// What both roles are told.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Namespace that Rouse runs in.
    #[arg(long, env = "ROUSE_NAMESPACE", default_value = "rouse-system")]
    pub namespace: String,
    /// DNS domain of the cluster.
    #[arg(long, env = "ROUSE_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Domain below which Functions with `exposure: Public` are reached from outside, as
    /// `NAME.NAMESPACE.DOMAIN`. Without it only the hosts of Triggers are.
    #[arg(long, env = "ROUSE_PUBLIC_DOMAIN")]
    pub public_domain: Option<String>,
    /// Suffix of hosts that the Triggers of a namespace may claim (`*` for every namespace).
    /// May be given more than once.
    #[arg(long, env = "ROUSE_HOST_SUFFIX", value_name = "NAMESPACE=SUFFIX", value_delimiter = ',', value_parser = parse_suffix)]
    pub host_suffix: Vec<HostSuffix>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "ROUSE_ADMIN_ADDR", default_value = "0.0.0.0:9090")]
    pub admin_addr: SocketAddr,
    /// File with the token by which this process proves itself to its peers.
    #[arg(
        long,
        env = "ROUSE_PEER_TOKEN_FILE",
        default_value = "/var/run/secrets/rouse.dev/peer/token"
    )]
    pub peer_token_file: PathBuf,
    /// Name of this process's pod.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// UID of this process's pod.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: String,
}

impl CommonArgs {
    /// What the administrator says about hosts.
    pub fn host_policy(&self) -> HostPolicy {
        let mut policy = HostPolicy {
            cluster_domain: self.cluster_domain.clone(),
            public_domain: self.public_domain.clone().filter(|domain| !domain.is_empty()),
            ..HostPolicy::default()
        };
        for HostSuffix { namespace, suffix } in &self.host_suffix {
            policy.suffixes.entry(namespace.clone()).or_default().push(suffix.clone());
        }
        policy
    }
}

/// One `--host-suffix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSuffix {
    /// The namespace, or `*`.
    pub namespace: String,
    /// The suffix, in lower case and without a leading dot.
    pub suffix: String,
}

fn parse_suffix(text: &str) -> Result<HostSuffix, String> {
    let (namespace, suffix) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not NAMESPACE=SUFFIX, such as shop=example.com"))?;
    let suffix = suffix.trim_start_matches('.').to_ascii_lowercase();
    if namespace.is_empty() || suffix.is_empty() {
        return Err(format!("{text:?} lacks a namespace or a suffix"));
    }
    Ok(HostSuffix { namespace: namespace.to_owned(), suffix })
}

/// What the controller is told.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// What both roles are told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Host of the activators' Service, to which the Service of every Function points.
    #[arg(
        long,
        env = "ROUSE_ACTIVATOR_HOST",
        default_value = "rouse-activator.rouse-system.svc.cluster.local"
    )]
    pub activator_host: String,
    /// Port on which activators listen for their peers.
    #[arg(long, env = "ROUSE_PEER_PORT", default_value_t = 8082)]
    pub peer_port: u16,
    /// Pod template, as JSON, of the pods that run the sources of Triggers, one in each namespace that
    /// needs it. Without it nobody runs them.
    #[arg(long, env = "ROUSE_SOURCE_TEMPLATE", value_name = "JSON", value_parser = parse_source_template)]
    pub source_template: Option<PodTemplate>,
    /// Pod template, as JSON, of the pods that keep what Functions with source printed, one in each
    /// namespace that has such Functions. Without it nobody keeps it.
    #[arg(long, env = "ROUSE_KEEPER_TEMPLATE", value_name = "JSON", value_parser = parse_keeper_template)]
    pub keeper_template: Option<PodTemplate>,
    /// Table, as JSON, of the runtimes that Functions with `spec.source` can name: for each its image
    /// and the command that starts the code, for all contracts or for each. Without it there are none.
    #[arg(long, env = "ROUSE_RUNTIMES", value_name = "JSON", value_parser = Runtimes::parse)]
    pub runtimes: Option<Runtimes>,
}

fn parse_source_template(text: &str) -> Result<PodTemplate, TemplateMistake> {
    PodTemplate::parse(Resident::Source, text)
}

fn parse_keeper_template(text: &str) -> Result<PodTemplate, TemplateMistake> {
    PodTemplate::parse(Resident::Keeper, text)
}

/// What an activator is told.
#[derive(Debug, Args)]
pub struct ActivatorArgs {
    /// What both roles are told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Address for callers in the cluster.
    #[arg(long, env = "ROUSE_HTTP_ADDR", default_value = "0.0.0.0:8080")]
    pub http_addr: SocketAddr,
    /// Address for callers from outside.
    #[arg(long, env = "ROUSE_PUBLIC_ADDR", default_value = "0.0.0.0:8081")]
    pub public_addr: SocketAddr,
    /// The port for callers from outside that speak TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Range of addresses, such as 10.0.0.0/8, of proxies in front of the ports for callers from
    /// outside: what they say in X-Forwarded-* and Forwarded is believed. May be given more than
    /// once.
    #[arg(long, env = "ROUSE_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',', value_parser = parse_range)]
    pub trusted_proxy: Vec<IpNet>,
    /// Address for other activators and the controller.
    #[arg(long, env = "ROUSE_PEER_ADDR", default_value = "0.0.0.0:8082")]
    pub peer_addr: SocketAddr,
    /// Connections of callers that each port may have. A full port closes those that stand idle
    /// first, and refuses new ones when all serve requests.
    #[arg(long, env = "ROUSE_MAX_CONNECTIONS", default_value_t = 16384, value_parser = parse_most)]
    pub max_connections: usize,
    /// How long a stopping activator goes on with what it serves.
    #[arg(long, env = "ROUSE_DRAIN", default_value = "300s", value_parser = parse_drain)]
    pub drain: Duration,
    /// Threads that carry requests. Without it as many as can run at once: the processors of the
    /// node, or fewer where the container has a limit.
    #[arg(long, env = "ROUSE_THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// Memory that waiting requests may hold, those of all Functions together, as `128Mi`. No
    /// Function may hold more than a third of it. Default: a quarter of the container's memory
    /// limit, or 128Mi without one.
    #[arg(long, env = "ROUSE_BUFFER_BYTES", value_parser = parse_buffer)]
    pub buffer_bytes: Option<u64>,
    /// Pods that the Functions of a namespace may have all together (`*` for each namespace that is not
    /// named). May be given more than once.
    #[arg(long, env = "ROUSE_POD_CAP", value_name = "NAMESPACE=PODS", value_delimiter = ',', value_parser = parse_cap)]
    pub pod_cap: Vec<(String, u32)>,
    /// Address of an OpenTelemetry collector that takes OTLP over HTTP, such as
    /// `http://collector.observability:4318`: each waking by a request whose trace is recorded is told it
    /// as spans. Without it nothing is told.
    #[arg(long, env = "ROUSE_TRACING_ENDPOINT", value_parser = otlp::parse_endpoint)]
    pub tracing_endpoint: Option<Uri>,
    /// Requests that may wait, those of all Functions together. No Function may have more than a
    /// third of them. Default: one for each 32Ki of the container's memory limit, or 16384.
    #[arg(long, env = "ROUSE_BUFFER_REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    pub buffer_requests: Option<u32>,
}

/// What a source process is told.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Namespace whose Triggers it runs: its own.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Host of the activators' Service, at which Functions are called.
    #[arg(
        long,
        env = "ROUSE_ACTIVATOR_HOST",
        default_value = "rouse-activator.rouse-system.svc.cluster.local"
    )]
    pub activator_host: String,
    /// Folder of the Secrets that Triggers name: a folder for each, a file for each key.
    #[arg(long, env = "ROUSE_SECRETS", default_value = "/var/run/secrets/rouse.dev/source")]
    pub secrets: PathBuf,
    /// Address to which activators pass on what senders of webhooks and CloudEvents send.
    #[arg(long, env = "ROUSE_DOORS_ADDR", default_value = "0.0.0.0:8083")]
    pub doors_addr: SocketAddr,
    /// Port at which it is asked for dead letters, on the loopback address alone: whoever asks comes
    /// by way of the API server (`pods/portforward`), which says who may.
    #[arg(long, env = "ROUSE_LETTERS_PORT", default_value_t = LETTERS_PORT)]
    pub letters_port: u16,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "ROUSE_ADMIN_ADDR", default_value = "0.0.0.0:9090")]
    pub admin_addr: SocketAddr,
    /// Range of addresses to which sources may connect whatever else is said. May be given more than
    /// once.
    #[arg(long, env = "ROUSE_ALLOW_ADDRESS", value_name = "CIDR", value_delimiter = ',', value_parser = parse_range)]
    pub allow_address: Vec<IpNet>,
    /// Range of addresses to which sources may not connect, beside loopback, link-local and the like:
    /// those of nodes and API servers. May be given more than once.
    #[arg(long, env = "ROUSE_FORBID_ADDRESS", value_name = "CIDR", value_delimiter = ',', value_parser = parse_range)]
    pub forbid_address: Vec<IpNet>,
    /// Address of the API server in the cluster, as Kubernetes tells each pod: forbidden too.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_parser = parse_range)]
    pub api_server: Option<IpNet>,
    /// Addresses of the node that the pod is on: forbidden too.
    #[arg(long, env = "HOST_IP", value_delimiter = ',', value_parser = parse_range)]
    pub host_ip: Vec<IpNet>,
}

/// What a keeper is told.
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// Namespace whose Functions it serves: its own.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// UID of this process's pod.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: String,
    /// Folder in which lines are kept.
    #[arg(long, env = "ROUSE_KEPT", default_value = "/var/lib/rouse/kept")]
    pub kept: PathBuf,
    /// Port at which it is asked for lines, on the loopback address alone: whoever asks comes by way of
    /// the API server (`pods/portforward`), which says who may.
    #[arg(long, env = "ROUSE_KEPT_PORT", default_value_t = KEPT_PORT)]
    pub kept_port: u16,
    /// Address at which the next keeper of the namespace takes over what is kept.
    #[arg(long, env = "ROUSE_HEIR_ADDR", default_value = "0.0.0.0:8086")]
    pub heir_addr: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "ROUSE_ADMIN_ADDR", default_value = "0.0.0.0:9090")]
    pub admin_addr: SocketAddr,
}

/// Memory that is counted on where the container has no limit.
const MEMORY_WITHOUT_LIMIT: u64 = 512 << 20;

impl ActivatorArgs {
    /// What the administrator says about pods.
    pub fn pod_caps(&self) -> PodCaps {
        PodCaps(self.pod_cap.iter().cloned().collect())
    }

    /// What all waiting requests may hold together, in a container with this limit on its memory.
    pub fn buffer(&self, memory_limit: Option<u64>) -> BufferBounds {
        let memory = memory_limit.unwrap_or(MEMORY_WITHOUT_LIMIT);
        // A waiting request costs its connection and its task, beside what is counted as bytes.
        let requests = u32::try_from(memory / (32 << 10)).unwrap_or(u32::MAX).max(1);
        BufferBounds {
            requests: self.buffer_requests.unwrap_or(requests),
            bytes: self.buffer_bytes.unwrap_or(memory / 4),
        }
    }
}

fn parse_cap(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("{text:?} is not NAMESPACE=PODS, such as shop=40");
    let (namespace, pods) = text.split_once('=').ok_or_else(wrong)?;
    match pods.parse() {
        Ok(pods) if !namespace.is_empty() => Ok((namespace.to_owned(), pods)),
        _ => Err(wrong()),
    }
}

fn parse_buffer(text: &str) -> Result<u64, String> {
    rouse_core::function::parse_bytes("--buffer-bytes", text).map_err(|error| error.to_string())
}

/// What an activator is told of TLS.
#[derive(Debug, Args)]
pub struct TlsArgs {
    /// Address for callers from outside that speak TLS, with the certificate and key of the two files
    /// below. Without it there is no such port.
    #[arg(long = "public-tls-addr", env = "ROUSE_PUBLIC_TLS_ADDR", requires_all = ["cert", "key"])]
    pub addr: Option<SocketAddr>,
    /// PEM file with the chain of certificates of that port. Read again when it changes.
    #[arg(long = "public-tls-cert", env = "ROUSE_PUBLIC_TLS_CERT", requires = "addr")]
    pub cert: Option<PathBuf>,
    /// PEM file with the key of that port. Read again when it changes.
    #[arg(long = "public-tls-key", env = "ROUSE_PUBLIC_TLS_KEY", requires = "addr")]
    pub key: Option<PathBuf>,
}

/// A range, or an address as a range of one.
fn parse_range(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| {
        format!("{text:?} is no range of addresses, such as 10.0.0.0/8 or 2001:db8::/32")
    })
}

fn parse_most(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one connection must be allowed".into()),
        Ok(most) => Ok(most),
        Err(error) => Err(format!("{error}")),
    }
}

/// What to replay.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Calls by function and minute: columns `HashFunction`, perhaps `Trigger`, and one for each
    /// minute. May be compressed by gzip.
    #[arg(long, value_name = "FILE")]
    pub calls: PathBuf,
    /// Memory by function: columns `HashFunction` and `AverageAllocatedMb`. May be compressed by
    /// gzip. Without it all functions take the same.
    #[arg(long, value_name = "FILE")]
    pub memory: Option<PathBuf>,
    /// First seed of the calls' places within their minutes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seeds to replay; each figure is the median of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: u64,
    /// Replay only the functions of one part, such as `0/2`: tune on one, and judge by the other.
    #[arg(long, value_name = "PART/PARTS", value_parser = parse_part)]
    pub part: Option<(u64, u64)>,
    /// How dear warm memory is held against cold starts by the learned policy.
    #[arg(long, value_enum, default_value_t = EconomyName::Balanced)]
    pub economy: EconomyName,
    /// Form of the figures.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
    /// Also show cold starts and waste by class of functions: rare, periodic, bursty and steady. Wide
    /// tables, JSON and YAML have them always.
    #[arg(long)]
    pub classes: bool,
    /// Also draw the figures into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// A level of economy, from cheap to warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EconomyName {
    /// As much memory as a fixed idle time of 5 minutes.
    Cheap,
    /// As much as 15 minutes.
    Balanced,
    /// As much as an hour.
    Warm,
}

fn parse_part(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is not PART/PARTS, such as 0/2");
    let (part, parts) = text.split_once('/').ok_or_else(wrong)?;
    let part = (part.parse().map_err(|_| wrong())?, parts.parse().map_err(|_| wrong())?);
    if part.0 < part.1 { Ok(part) } else { Err(wrong()) }
}

fn parse_drain(text: &str) -> Result<Duration, String> {
    rouse_core::function::parse_duration("--drain", text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::in_order().debug_assert();
    }

    #[test]
    fn the_help_has_a_place_for_every_command() {
        let command = Cli::command();
        let mut named: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut placed = ORDER.to_vec();
        named.sort_unstable();
        placed.sort_unstable();
        assert_eq!(named, placed);
        let help = Cli::in_order().render_help().to_string();
        assert!(
            help.find("  init ") < help.find("  logs ")
                && help.find("  dlq ") < help.find("  controller ")
        );
    }

    #[test]
    fn ranges_and_addresses_are_trusted() {
        assert_eq!(parse_range("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_range("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(parse_range("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        for wrong in ["", "10.0.0.0/33", "10.0.0", "all"] {
            assert!(parse_range(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_port_for_tls_needs_both_files() {
        let parse = |more: &[&str]| {
            let base = ["rouse", "activator", "--pod-name", "p", "--pod-uid", "u"];
            Cli::try_parse_from(base.iter().chain(more))
        };
        let address = ["--public-tls-addr", "0.0.0.0:8443"];
        assert!(parse(&address).is_err());
        let both = ["--public-tls-cert", "tls.crt", "--public-tls-key", "tls.key"];
        assert!(parse(&both).is_err());
        assert!(parse(&[address, [both[0], both[1]]].concat()).is_err());
        assert!(parse(&[&address[..], &both[..]].concat()).is_ok());
    }

    #[test]
    fn the_buffer_follows_the_memory_limit_unless_it_is_given() {
        let args = |more: &[&str]| {
            let all = ["rouse", "activator", "--pod-name", "p", "--pod-uid", "u"];
            let cli = Cli::try_parse_from(all.iter().chain(more));
            let Ok(Cli { role: Role::Activator(args), .. }) = cli else {
                panic!("the command line must parse: {cli:?}");
            };
            args
        };
        let of = |more: &[&str], limit| {
            let BufferBounds { requests, bytes } = args(more).buffer(limit);
            (requests, bytes)
        };
        assert_eq!(of(&[], Some(256 << 20)), (8192, 64 << 20));
        assert_eq!(of(&[], None), (16_384, 128 << 20));
        let given = ["--buffer-bytes=1Gi", "--buffer-requests=7"];
        assert_eq!(of(&given, Some(256 << 20)), (7, 1 << 30));
    }

    #[test]
    fn caps_on_pods_are_collected_by_namespace() {
        let all = ["rouse", "activator", "--pod-name", "p", "--pod-uid", "u"];
        let caps = ["--pod-cap=shop=40", "--pod-cap=*=200"];
        let cli = Cli::try_parse_from(all.iter().chain(&caps));
        let Ok(Cli { role: Role::Activator(args), .. }) = cli else {
            panic!("the command line must parse: {cli:?}");
        };
        let caps = args.pod_caps();
        assert_eq!((caps.of("shop"), caps.of("other")), (Some(40), Some(200)));
        assert!(["shop", "=4", "shop=", "shop=-1"].iter().all(|text| parse_cap(text).is_err()));
    }

    #[test]
    fn a_part_is_one_of_so_many() {
        assert_eq!(parse_part("1/2"), Ok((1, 2)));
        assert!(["", "1", "2/2", "a/2", "0/0"].iter().all(|text| parse_part(text).is_err()));
    }

    #[test]
    fn host_suffixes_are_collected_by_namespace() {
        let cli = Cli::try_parse_from([
            "rouse",
            "controller",
            "--pod-name",
            "p",
            "--pod-uid",
            "u",
            "--host-suffix",
            "shop=.Example.com",
            "--host-suffix",
            "shop=example.org",
        ]);
        let Ok(Cli { role: Role::Controller(args), .. }) = cli else {
            panic!("the command line must parse: {cli:?}");
        };
        let policy = args.common.host_policy();
        assert_eq!(policy.suffixes["shop"], ["example.com", "example.org"]);
        assert!(parse_suffix("example.com").is_err());
        assert!(parse_suffix("shop=").is_err());
    }
}
