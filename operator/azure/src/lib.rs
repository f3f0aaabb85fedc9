//! What an app of Azure Functions says of itself: `host.json` and the `function.json` of each function.
//! What can't be run by Rouse is refused by name. Pure: whoever has the files reads them.

mod app;
mod route;

pub use app::{App, Function, HOST_SETTING, Kind, Output, Queue, Timer, Unfit, trigger_name};
pub use route::Route;
