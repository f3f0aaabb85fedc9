//! The entry point of pods whose Function is given as source. It takes the code (only bytes of the
//! digest that the pod names), starts the language process, speaks its contract, and serves HTTP to
//! the activator. The port for requests opens when the process takes them, and not before.
//!
//! What it is told comes by the environment (`settings`); what it says goes to standard output as
//! lines of JSON (`log`), and to who asks at the control port (`control`).
//!
//! Outside of pods, where no kernel ends what a parent leaves behind, `rouse dev` runs the same by
//! a tether: its end is that of whoever holds the other end, however that came.

mod azure;
mod code;
mod control;
mod events;
mod front;
mod keep;
mod lambda;
mod log;
mod percent;
mod pod;
mod port;
mod problem;
mod process;
mod proxy;
mod recent;
mod serve;
mod settings;
mod state;
mod supervisor;
mod tether;
mod unsent;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use self::log::Log;
use self::settings::Settings;
use self::supervisor::World;
use self::tether::Tether;

pub use self::process::kill_left_behind;

/// The exit code of a pod that is set up wrong, as `sysexits.h` has it.
const CONFIGURATION: u8 = 78;

/// Runs until the pod ends.
pub fn run(command: Vec<String>) -> ExitCode {
    live(command, false)
}

/// Runs until it is told to end, or until nobody holds the other end of the pipe that is its standard
/// input.
pub fn run_tethered(command: Vec<String>) -> ExitCode {
    live(command, true)
}

/// Runs a program that needs no shim, and passes on how it ends; by a tether as [`run_tethered`].
/// `cleanup` is run where that is cut.
pub fn keep_tethered(command: &[String], cleanup: &[String]) -> ExitCode {
    let Ok((log, writer)) = Log::start() else { return ExitCode::FAILURE };
    let code = with_runtime(log, |log| async move { keep::keep(command, cleanup, &log).await });
    let _ = writer.join();
    code.unwrap_or(ExitCode::FAILURE)
}

fn live(command: Vec<String>, tethered: bool) -> ExitCode {
    let Ok((log, writer)) = Log::start() else { return ExitCode::FAILURE };
    let code = match Settings::read(command, |name| std::env::var(name).ok()) {
        Ok(settings) => begin(World::new(settings, log), tethered),
        Err(error) => {
            log.note("the pod is set up wrong", json!({"why": error.to_string()}));
            drop(log);
            ExitCode::from(CONFIGURATION)
        }
    };
    // The last log is gone; what was said last is written before the end.
    let _ = writer.join();
    code
}

/// Consumes the world and with it all logs.
fn begin(world: World, tethered: bool) -> ExitCode {
    let log = world.log.clone();
    let lived = with_runtime(log, |_| async move {
        let tether = tethered.then(Tether::of_stdin).transpose()?;
        pod::live(Arc::new(world), tether).await
    });
    if lived.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs what `begin` gives to its end. What keeps it from that is told the log.
fn with_runtime<T, F: Future<Output = io::Result<T>>>(
    log: Log,
    begin: impl FnOnce(Log) -> F,
) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.and_then(|runtime| runtime.block_on(begin(log.clone())));
    if let Err(error) = &done {
        log.note("the pod can't live", json!({"why": error.to_string()}));
    }
    // What writes lines ends with the last log.
    drop(log);
    done.ok()
}
