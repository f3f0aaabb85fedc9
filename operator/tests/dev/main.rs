//! `rouse dev` as a user meets it: the program itself over a folder of files, called over HTTP. Takes
//! Python, as the samples do.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a panic is how a test fails, and what it prints says how to repeat it"
)]

mod chaos;
mod command_line;
mod files;
mod life;
mod processes;
mod rig;
mod samples;
