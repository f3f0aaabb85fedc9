//! Keeps a program that needs no shim: starts it, passes on what it prints and the signal to end, and
//! leaves nothing of it behind. For `rouse dev`, where no container does that.

use std::ffi::OsString;
use std::io;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::log::Log;
use crate::process::{Exit, Reaper, Requests, Running, Start, adopt_orphans, is_own};
use crate::tether::Tether;

/// The exit code where there is nothing to run, as shells have it.
const NOT_FOUND: u8 = 127;
/// What shells add to the number of a signal.
const BY_SIGNAL: i32 = 128;

/// How long the program has to end once nobody is left who would ask it to: one that runs a container
/// ends that too.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long it may take to take away what is left after that.
const CLEANUP: Duration = Duration::from_secs(10);

/// Runs `command` to its end, here, with this process's environment. Where nobody is left to do it,
/// `cleanup` takes away what the command leaves behind beside processes.
pub async fn keep(command: &[String], cleanup: &[String], log: &Log) -> io::Result<ExitCode> {
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
            // Arguments may have secrets in them.
            let program = command.first().map_or("", String::as_str);
            let why = format!("starting {program:?}: {error}");
            log.note("the program can't be run", json!({"why": why}));
            return Ok(ExitCode::from(NOT_FOUND));
        }
    };
    let mut patience = FAREWELL;
    loop {
        tokio::select! {
            // Who asked before it is cut off has waited.
            biased;
            _ = running.ended() => break,
            _ = terminate.recv() => {
                running.signal(Signal::TERM);
                patience = Duration::ZERO;
            }
            () = &mut cut => {
                let exit = running.terminate(patience).await;
                clean_up(cleanup).await;
                return Ok(code_of(exit));
            }
        }
    }
    // What it left behind goes too.
    Ok(code_of(running.kill().await))
}

/// Runs what takes away the rest. Nobody is left to hear that it failed.
async fn clean_up(command: &[String]) {
    let Some((program, arguments)) = command.split_first() else { return };
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = timeout(CLEANUP, command.status()).await;
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
