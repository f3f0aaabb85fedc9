//! Events come through whatever is killed: `soak events` in short for each source, with a seed that is
//! printed.

#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::process::Command;

/// Soaks one source; those of the others may run at the same time.
fn soak(source: &str) {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["soak-events", "--seconds", "20", "--source", source]);
    let status = bench.status().expect("the soak can be started");
    assert!(status.success(), "its seed is printed above: {status}");
}

#[test]
#[ignore = "needs the programs of a control plane and a server of NATS: cargo xtask test"]
fn messages_of_nats_come_through_while_all_parts_are_killed() {
    soak("nats");
}

#[test]
#[ignore = "needs the programs of a control plane and PostgreSQL: cargo xtask test"]
fn rows_of_postgres_come_through_while_all_parts_are_killed() {
    soak("postgres");
}

#[test]
#[ignore = "needs the programs of a control plane and MinIO: cargo xtask test"]
fn objects_of_s3_come_through_while_all_parts_are_killed() {
    soak("s3");
}
