//! Events come through whatever is killed: `soak events` in short, with a seed that is printed.

#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::process::Command;

#[test]
#[ignore = "needs the programs of a control plane and a server of NATS: cargo xtask test"]
fn events_come_through_while_all_parts_are_killed() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["soak-events", "--seconds", "20"]);
    let status = bench.status().expect("the soak can be started");
    assert!(status.success(), "its seed is printed above: {status}");
}
