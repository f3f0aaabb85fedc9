//! Exactness of a hard limit with real processes: `bench exact` in short, with fixed seeds.

#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::process::Command;

/// What each run must have seen at least: some fifteen seconds.
const LEAST: [&str; 4] = ["--requests", "10000", "--disturbances", "8"];

#[test]
#[ignore = "needs the programs of a control plane: cargo xtask test"]
fn a_hard_limit_of_one_holds_while_activators_and_pods_are_disturbed() {
    for seed in ["1", "2"] {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
        bench.args(["exact", "--seed", seed]).args(LEAST);
        let status = bench.status().expect("the benchmark can be started");
        assert!(status.success(), "seed {seed}: {status}");
    }
}
