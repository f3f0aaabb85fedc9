//! Benchmarks of Rouse on a real cluster. `cargo xtask bench NAME` builds this, finds the cluster
//! and runs it; each prints a table and, with `--json`, one object on its last line.

#![allow(clippy::print_stdout, reason = "the output is what this program is for")]

mod cold;
mod report;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Cli {
    /// Print the raw figures and the bars as one JSON object on the last line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// What Rouse adds to a cold start, against a bare Deployment scaled by hand.
    Cold {
        /// Starts of each kind.
        #[arg(long, default_value_t = 30)]
        starts: usize,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let report = match cli.bench {
        Bench::Cold { starts } => cold::run(starts).await?,
    };
    println!("{}", report.table());
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    anyhow::ensure!(report.holds(), "a bar does not hold");
    Ok(())
}
