//! The command lines of questions.

use clap::{Args, Subcommand};
use rouse_core::usage::price::Prices;

use crate::cluster::ClusterArgs;
use crate::output::Form;

/// A question about Functions.
#[derive(Debug, Subcommand)]
pub enum Question {
    /// Tells why a Function has as many pods as it has: the last decisions, and from what.
    Why(FunctionArgs),
    /// Tells what the last cold starts of a Function were made of, and what would shorten them.
    Cold(FunctionArgs),
    /// Tells what Functions used: requests, GB-seconds of requests and of pods that were kept warm,
    /// and what that costs.
    Usage(UsageArgs),
}

/// One Function.
#[derive(Debug, Args)]
pub struct FunctionArgs {
    /// Name of the Function.
    pub name: String,
    /// Where it is.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// Whose usage, since when, at which prices.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Name of a Function. Default: all of the namespace.
    pub name: Option<String>,
    /// Where they are.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Functions of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Count from this day on: a date such as 2026-11-01, or so many days before today such as 7d.
    /// Days are those of UTC and counted whole; the last 32 on which something was used are known.
    /// Default: all that was ever counted.
    #[arg(long)]
    pub since: Option<String>,
    /// A row for each of the revisions that were used last, beside that of the Function.
    #[arg(long, conflicts_with = "since")]
    pub revisions: bool,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
    /// Prices.
    #[command(flatten)]
    pub prices: PriceArgs,
}

/// Prices, in any currency. Without any there are no costs.
#[derive(Clone, Copy, Debug, Args)]
pub struct PriceArgs {
    /// Price of a million requests.
    #[arg(long = "price-million-requests", env = "ROUSE_PRICE_MILLION_REQUESTS", default_value_t = 0.0, value_parser = parse_price)]
    pub million_requests: f64,
    /// Price of a GB-second of requests: their time, rounded up to milliseconds and shared among
    /// those in a pod, times the pod's memory.
    #[arg(long = "price-gb-second", env = "ROUSE_PRICE_GB_SECOND", default_value_t = 0.0, value_parser = parse_price)]
    pub gb_second: f64,
    /// Price of a GB-second of pods that were kept warm, busy or idle.
    #[arg(long = "price-warm-gb-second", env = "ROUSE_PRICE_WARM_GB_SECOND", default_value_t = 0.0, value_parser = parse_price)]
    pub warm_gb_second: f64,
}

impl PriceArgs {
    /// The prices.
    pub const fn prices(&self) -> Prices {
        let Self { million_requests, gb_second, warm_gb_second } = *self;
        Prices { million_requests, gb_second, warm_gb_second }
    }
}

fn parse_price(text: &str) -> Result<f64, String> {
    let price: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if price.is_finite() && price >= 0.0 {
        Ok(price)
    } else {
        Err(format!("{text:?} is no price: it must be 0 or more"))
    }
}
