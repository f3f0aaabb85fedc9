//! The entry point of pods whose Function is given as source. It takes the code (only bytes of the
//! digest that the pod names), starts the language process, speaks its contract, and serves HTTP to
//! the activator. The port for requests opens when the process takes them, and not before.
//!
//! What it is told comes by the environment (`settings`); what it says goes to standard output as
//! lines of JSON (`log`), and to who asks at the control port (`control`).

mod azure;
mod code;
mod control;
mod events;
mod front;
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
mod unsent;

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use self::log::Log;
use self::settings::Settings;
use self::supervisor::World;

/// The exit code of a pod that is set up wrong, as `sysexits.h` has it.
const CONFIGURATION: u8 = 78;

/// Runs until the pod ends.
pub fn run(command: Vec<String>) -> ExitCode {
    let Ok((log, writer)) = Log::start() else { return ExitCode::FAILURE };
    let code = match Settings::read(command, |name| std::env::var(name).ok()) {
        Ok(settings) => begin(World::new(settings, log)),
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
fn begin(world: World) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            world.log.note("nothing can be run", json!({"why": error.to_string()}));
            return ExitCode::FAILURE;
        }
    };
    let log = world.log.clone();
    match runtime.block_on(pod::live(Arc::new(world))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.note("the pod can't live", json!({"why": error.to_string()}));
            ExitCode::FAILURE
        }
    }
}
