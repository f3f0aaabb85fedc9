//! The program `rouse-shim`: its arguments are the command that starts the language process.

use std::process::ExitCode;

fn main() -> ExitCode {
    rouse_shim::run(std::env::args().skip(1).collect())
}
