//! Keeps a program that needs no shim: starts it, passes on what it prints and the signal to end, and
//! leaves nothing of it behind. For `rouse dev`, where no container does that.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::log::Log;
use crate::process::{Exit, Reaper, Requests, Running, Start, adopt_orphans, is_own};
use crate::tether::Tether;

/// The exit code where there is nothing to run, as shells have it.
const NOT_FOUND: u8 = 127;
/// What shells add to the number of a signal.
const BY_SIGNAL: i32 = 128;

/// Runs `command` to its end, here, with this process's environment.
pub async fn keep(command: &[String], log: &Log) -> io::Result<ExitCode> {
    adopt_orphans();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut cut = std::pin::pin!(Tether::cut(Some(Tether::of_stdin()?)));
    let reaper = Arc::new(Reaper::default());
    let reaping = Arc::clone(&reaper);
    tokio::spawn(async move { reaping.run().await });
    let folder = std::env::current_dir()?;
    let mark = format!("{}-1", std::process::id());
    let start = Start { command, variables: own_variables(), folder: &folder, mark };
    let mut running = match Running::start(start, &reaper, log, &Arc::<Requests>::default()) {
        Ok(running) => running,
        Err(error) => {
            let why = format!("starting {:?}: {error}", command.join(" "));
            log.note("the program can't be run", json!({"why": why}));
            return Ok(ExitCode::from(NOT_FOUND));
        }
    };
    loop {
        tokio::select! {
            _ = running.ended() => break,
            _ = terminate.recv() => running.signal(Signal::TERM),
            () = &mut cut => break,
        }
    }
    // What it left behind goes too.
    Ok(code_of(running.kill().await))
}

/// What a shim has for itself, and a program that needs none may be told as well.
fn own_variables() -> Vec<(String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let all = std::env::vars_os().filter_map(text);
    all.filter(|(name, _)| is_own(name.as_bytes())).collect()
}

fn code_of(exit: Exit) -> ExitCode {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => BY_SIGNAL.saturating_add(signal),
        Exit::Unknown => return ExitCode::FAILURE,
    };
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
