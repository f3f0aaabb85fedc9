//! What `host.json` and the `function.json` files say. What can't be run here is refused by name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::route::Route;

/// Functions that an app may have.
const MOST: usize = 100;
/// What a file of settings may have.
const LONGEST: u64 = 1 << 20;

/// An app.
#[derive(Debug)]
pub struct App {
    /// The handler: a program and its arguments.
    pub command: Vec<String>,
    /// Where it runs, below the code.
    pub folder: PathBuf,
    /// Whether requests are passed on as they are, where a function allows it.
    pub forwards: bool,
    /// Its functions by their names.
    pub functions: BTreeMap<String, Function>,
}

/// A function.
#[derive(Debug)]
pub struct Function {
    /// The name of the binding that calls it.
    pub trigger: String,
    /// What calls it.
    pub kind: Kind,
    /// The name of the binding that answers requests.
    pub output: Option<String>,
}

/// What calls a function.
#[derive(Debug)]
pub enum Kind {
    /// Requests.
    Http {
        /// Their paths.
        route: Route,
        /// Their methods; none are all.
        methods: Vec<Method>,
    },
    /// A schedule.
    Timer,
    /// Messages of a queue or topic.
    Queue,
}

/// Why an app can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file is missing or can't be read.
    #[error("reading {0}: {1}")]
    File(String, io::Error),
    /// A file is not what it should be.
    #[error("{0} is not as Azure Functions has it: {1}")]
    Json(String, serde_json::Error),
    /// There is no handler.
    #[error(
        "host.json names no customHandler.description.defaultExecutablePath: functions that run in \
         the host itself (Python, Node.js, .NET, Java, PowerShell) can't be run here, custom handlers \
         can"
    )]
    Handler,
    /// The handler lies elsewhere.
    #[error("host.json names {0:?}, which leads out of the code")]
    Path(String),
    /// A binding can't be served.
    #[error(
        "{function}/function.json has a binding of type {kind:?}, which is not served here: {known}"
    )]
    Binding {
        /// The function.
        function: String,
        /// The type.
        kind: String,
        /// What is served.
        known: &'static str,
    },
    /// There is not one trigger.
    #[error("{0}/function.json must have exactly one trigger, and has {1}")]
    Triggers(String, usize),
    /// A route is none.
    #[error("{0}/function.json has the route {1:?}, which is not understood")]
    Route(String, String),
    /// There is nothing to call.
    #[error("there is no folder with a function.json in the code")]
    Empty,
    /// There is too much.
    #[error("there are more than {MOST} functions in the code")]
    Many,
}

const TRIGGERS: &str = "httpTrigger, timerTrigger, queueTrigger, serviceBusTrigger, rabbitMQTrigger and kafkaTrigger are";
const OUTPUTS: &str = "of what goes out, only http is";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    custom_handler: Option<CustomHandler>,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomHandler {
    description: Option<Description>,
    #[serde(default)]
    enable_forwarding_http_request: bool,
    #[serde(default)]
    enable_proxying_http_request: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    default_executable_path: Option<String>,
    working_directory: Option<String>,
    #[serde(default)]
    arguments: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Extensions {
    #[serde(default)]
    http: HttpExtension,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpExtension {
    route_prefix: Option<String>,
}

#[derive(Deserialize)]
struct Bindings {
    #[serde(default)]
    bindings: Vec<Binding>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
struct Binding {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    direction: String,
    name: String,
    route: Option<String>,
    #[serde(default)]
    methods: Vec<Value>,
}

impl App {
    /// The app that lies in `folder`.
    pub fn read(folder: &Path) -> Result<Self, Unfit> {
        let host: Host = read(folder, "host.json")?;
        let handler = host.custom_handler.ok_or(Unfit::Handler)?;
        let forwards =
            handler.enable_forwarding_http_request || handler.enable_proxying_http_request;
        let description = handler.description.ok_or(Unfit::Handler)?;
        let program = description.default_executable_path.filter(|path| !path.is_empty());
        let program = program.ok_or(Unfit::Handler)?;
        let below = description.working_directory.unwrap_or_default();
        let inside =
            |path: &str| !Path::new(path).components().any(|part| part.as_os_str() == "..");
        for path in [&program, &below] {
            if !inside(path) || (path == &below && Path::new(path).is_absolute()) {
                return Err(Unfit::Path(path.clone()));
            }
        }
        let command = [found(folder, &program)].into_iter().chain(description.arguments).collect();
        let prefix = host.extensions.http.route_prefix.unwrap_or_else(|| "api".into());
        let mut functions = BTreeMap::new();
        let file = |error| Unfit::File(folder.display().to_string(), error);
        for entry in folder.read_dir().map_err(file)? {
            let entry = entry.map_err(file)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().join("function.json").is_file() {
                let bindings: Bindings = read(folder, &format!("{name}/function.json"))?;
                if !bindings.disabled {
                    functions
                        .insert(name.clone(), Function::of(&name, bindings.bindings, &prefix)?);
                }
            }
            if functions.len() > MOST {
                return Err(Unfit::Many);
            }
        }
        if functions.is_empty() {
            return Err(Unfit::Empty);
        }
        let folder = folder.join(below);
        Ok(Self { command, folder, forwards, functions })
    }
}

/// A program of the code by its path, any other by its name.
fn found(folder: &Path, program: &str) -> String {
    let own = folder.join(program);
    if own.is_file() { own.to_string_lossy().into_owned() } else { program.to_owned() }
}

impl Function {
    fn of(name: &str, bindings: Vec<Binding>, prefix: &str) -> Result<Self, Unfit> {
        let mut triggers = Vec::new();
        let mut output = None;
        for binding in bindings {
            let unserved = |known| Unfit::Binding {
                function: name.to_owned(),
                kind: binding.kind.clone(),
                known,
            };
            let goes_out = binding.direction.eq_ignore_ascii_case("out");
            match binding.kind.to_ascii_lowercase().as_str() {
                "http" if goes_out => output = Some(binding.name),
                "httptrigger" => {
                    let route = binding.route.as_deref().unwrap_or(name);
                    let path =
                        if prefix.is_empty() { route.into() } else { format!("{prefix}/{route}") };
                    let odd = || Unfit::Route(name.to_owned(), route.to_owned());
                    let methods = binding.methods.iter().filter_map(Value::as_str);
                    let methods =
                        methods.filter_map(|name| name.to_uppercase().parse().ok()).collect();
                    let route = Route::parse(&path).ok_or_else(odd)?;
                    triggers.push((binding.name, Kind::Http { route, methods }));
                }
                "timertrigger" => triggers.push((binding.name, Kind::Timer)),
                "queuetrigger" | "servicebustrigger" | "rabbitmqtrigger" | "kafkatrigger" => {
                    triggers.push((binding.name, Kind::Queue));
                }
                _ if goes_out => return Err(unserved(OUTPUTS)),
                _ => return Err(unserved(TRIGGERS)),
            }
        }
        let count = triggers.len();
        let only = triggers.pop().filter(|_| count == 1);
        let (trigger, kind) = only.ok_or_else(|| Unfit::Triggers(name.to_owned(), count))?;
        Ok(Self { trigger, kind, output })
    }

    /// Whether it takes requests and gives answers, and nothing else.
    pub const fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Http { .. }) && self.output.is_some()
    }
}

fn read<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<T, Unfit> {
    let path = folder.join(name);
    let file = |error| Unfit::File(name.to_owned(), error);
    if path.metadata().map_err(file)?.len() > LONGEST {
        return Err(file(io::Error::other("it is too long")));
    }
    let text = fs::read(path).map_err(file)?;
    // Editors of the vendor begin files with a mark of their byte order.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    serde_json::from_slice(text).map_err(|error| Unfit::Json(name.to_owned(), error))
}
