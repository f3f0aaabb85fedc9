//! An app: what starts its handler, and the bindings of its functions.

use std::collections::BTreeMap;
use std::path::Path;

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::route::Route;

/// What the names of the host's own settings begin with, which bindings may leave out.
pub const HOST_SETTING: &str = "AzureWebJobs";
/// Functions that an app may have.
const MOST: usize = 100;
/// Longest name of an object of Kubernetes that Rouse takes for a Trigger.
const LONGEST_NAME: usize = 63;

/// An app.
#[derive(Debug)]
pub struct App {
    /// The program that is the handler.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs, below the code.
    pub folder: String,
    /// Whether requests are passed on as they are, where a function allows it.
    pub forwards: bool,
    /// How often a message is given to a function, where the app says so.
    pub attempts: Option<u32>,
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
    /// What sends messages.
    pub queues: Vec<Output>,
}

/// What calls a function.
#[derive(Debug)]
pub enum Kind {
    /// Requests.
    Http {
        /// Their paths.
        route: Route,
        /// The same as it is written, with the app's prefix.
        path: String,
        /// Their methods; none are all.
        methods: Vec<Method>,
    },
    /// A schedule.
    Timer(Timer),
    /// Messages of a queue or topic.
    Queue(Queue),
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Six fields, from seconds on; or a time span; or `%NAME%`, a setting of the app.
    pub schedule: String,
    /// Whether it is called when the host starts, too.
    pub at_start: bool,
}

/// A queue or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The type of the binding.
    pub kind: String,
    /// Its name; none where none is given.
    pub name: Option<String>,
    /// The setting of the app that says where it is.
    pub connection: String,
}

/// A binding that sends messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name: `$return` is what the handler returns.
    pub binding: String,
    /// Name of the queue or topic.
    pub queue: String,
    /// The setting of the app that says where it is.
    pub connection: String,
}

/// Why an app can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file is not what it should be.
    #[error("{0} is not as Azure Functions has it: {1}")]
    Json(String, serde_json::Error),
    /// There is no handler.
    #[error(
        "host.json names no customHandler.description.defaultExecutablePath: functions that run in \
         the host itself (Python, Node.js, .NET, Java, PowerShell) can't be run here, custom handlers \
         can: let a program listen on $FUNCTIONS_CUSTOMHANDLER_PORT and name it there"
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
        /// What is served, and what to do instead.
        known: &'static str,
    },
    /// There is not one trigger.
    #[error("{0}/function.json must have exactly one trigger, and has {1}")]
    Triggers(String, usize),
    /// A route is none.
    #[error("{0}/function.json has the route {1:?}, which is not understood")]
    Route(String, String),
    /// A queue has no name that could be one.
    #[error(
        "{0}/function.json sends to a queue {1:?}: its queueName or topicName must have letters, digits, \
         '-', '_' and '.' only"
    )]
    Queue(String, String),
    /// There is nothing to call.
    #[error("there is no folder with a function.json in the code")]
    Empty,
    /// There is too much.
    #[error("there are more than {MOST} functions in the code")]
    Many,
}

const TRIGGERS: &str = "httpTrigger, timerTrigger, queueTrigger, serviceBusTrigger, rabbitMQTrigger and \
    kafkaTrigger call functions; take it out, and let the handler ask for the data itself";
const OUTPUTS: &str = "of what goes out, http, queue, serviceBus and rabbitMQ are; take it out, and let \
    the handler send the data itself";

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
    #[serde(default)]
    queues: QueuesExtension,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpExtension {
    route_prefix: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueuesExtension {
    max_dequeue_count: Option<u32>,
}

#[derive(Deserialize)]
struct Bindings {
    #[serde(default)]
    bindings: Vec<Binding>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    direction: String,
    name: String,
    route: Option<String>,
    #[serde(default)]
    methods: Vec<Value>,
    schedule: Option<String>,
    #[serde(default)]
    run_on_startup: bool,
    queue_name: Option<String>,
    topic_name: Option<String>,
    topic: Option<String>,
    connection: Option<String>,
    connection_string_setting: Option<String>,
}

impl App {
    /// The app whose `host.json` this is, and whose functions have these names and `function.json`s.
    pub fn parse(
        host: &[u8],
        functions: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, Unfit> {
        let host: Host = read("host.json", host)?;
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
        let prefix = host.extensions.http.route_prefix.unwrap_or_else(|| "api".into());
        let mut known = BTreeMap::new();
        for (name, text) in functions {
            let bindings: Bindings = read(&format!("{name}/function.json"), &text)?;
            if !bindings.disabled {
                let function = Function::of(&name, bindings.bindings, &prefix)?;
                known.insert(name, function);
            }
            if known.len() > MOST {
                return Err(Unfit::Many);
            }
        }
        if known.is_empty() {
            return Err(Unfit::Empty);
        }
        Ok(Self {
            program,
            arguments: description.arguments,
            folder: below,
            forwards,
            attempts: host.extensions.queues.max_dequeue_count,
            functions: known,
        })
    }
}

impl Function {
    fn of(name: &str, bindings: Vec<Binding>, prefix: &str) -> Result<Self, Unfit> {
        let mut triggers = Vec::new();
        let (mut output, mut queues) = (None, Vec::new());
        for binding in bindings {
            let goes_out = binding.direction.eq_ignore_ascii_case("out");
            match binding.kind.to_ascii_lowercase().as_str() {
                "http" if goes_out => output = Some(binding.name),
                "queue" | "servicebus" | "rabbitmq" if goes_out => {
                    queues.push(binding.into_output(name)?);
                }
                "httptrigger" => {
                    let kind = binding.http(name, prefix)?;
                    triggers.push((binding.name, kind));
                }
                "timertrigger" => {
                    let schedule = binding.schedule.unwrap_or_default();
                    let timer = Timer { schedule, at_start: binding.run_on_startup };
                    triggers.push((binding.name, Kind::Timer(timer)));
                }
                "queuetrigger" | "servicebustrigger" | "rabbitmqtrigger" | "kafkatrigger" => {
                    let (name, queue) = binding.into_queue();
                    triggers.push((name, Kind::Queue(queue)));
                }
                _ => {
                    let known = if goes_out { OUTPUTS } else { TRIGGERS };
                    let (function, kind) = (name.to_owned(), binding.kind);
                    return Err(Unfit::Binding { function, kind, known });
                }
            }
        }
        let count = triggers.len();
        let only = triggers.pop().filter(|_| count == 1);
        let (trigger, kind) = only.ok_or_else(|| Unfit::Triggers(name.to_owned(), count))?;
        Ok(Self { trigger, kind, output, queues })
    }

    /// Whether it takes requests and gives answers, and nothing else.
    pub const fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Http { .. }) && self.output.is_some() && self.queues.is_empty()
    }
}

impl Binding {
    /// The requests that call the function `name`.
    fn http(&self, name: &str, prefix: &str) -> Result<Kind, Unfit> {
        let route = self.route.as_deref().unwrap_or(name);
        let path = if prefix.is_empty() { route.into() } else { format!("{prefix}/{route}") };
        let methods = self.methods.iter().filter_map(Value::as_str);
        let methods = methods.filter_map(|name| name.to_uppercase().parse().ok()).collect();
        let odd = || Unfit::Route(name.to_owned(), route.to_owned());
        let route = Route::parse(&path).ok_or_else(odd)?;
        Ok(Kind::Http { route, path, methods })
    }

    /// Its name and the queue or topic that it is of.
    fn into_queue(self) -> (String, Queue) {
        let usual = match self.kind.to_ascii_lowercase().as_str() {
            "servicebus" | "servicebustrigger" => "AzureWebJobsServiceBus",
            _ => "AzureWebJobsStorage",
        };
        let connection = self.connection.or(self.connection_string_setting);
        let connection = connection.filter(|name| !name.is_empty());
        let queue = Queue {
            kind: self.kind,
            name: self.queue_name.or(self.topic_name).or(self.topic),
            connection: connection.unwrap_or_else(|| usual.to_owned()),
        };
        (self.name, queue)
    }

    /// The messages that the function `name` sends by it.
    fn into_output(self, name: &str) -> Result<Output, Unfit> {
        let (binding, Queue { name: queue, connection, .. }) = self.into_queue();
        let queue = queue.unwrap_or_default();
        if !is_subject(&queue) {
            return Err(Unfit::Queue(name.to_owned(), queue));
        }
        Ok(Output { binding, queue, connection })
    }
}

/// Whether messages can be published under this name: it is one subject of NATS, and no pattern.
fn is_subject(name: &str) -> bool {
    let is_part = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !part.is_empty() && part.chars().all(fits)
    };
    name.len() <= 255 && name.split('.').all(is_part)
}

/// Name of the Trigger that calls the function `name` of the app that is the Function `app`; none where
/// there can be none.
pub fn trigger_name(app: &str, name: &str) -> Option<String> {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(fit).collect();
    let name = format!("{app}-{}", name.trim_matches('-'));
    (name.len() <= LONGEST_NAME && !name.ends_with('-')).then_some(name)
}

fn read<T: serde::de::DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, Unfit> {
    // Editors of the vendor begin files with a mark of their byte order.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    serde_json::from_slice(text).map_err(|error| Unfit::Json(name.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(bindings: &Value) -> Result<App, Unfit> {
        let host = json!({"customHandler": {"description": {"defaultExecutablePath": "node"}},
            "extensions": {"queues": {"maxDequeueCount": 3}}});
        let function = json!({"bindings": bindings}).to_string().into_bytes();
        App::parse(host.to_string().as_bytes(), [("f".to_owned(), function)])
    }

    #[test]
    fn bindings_of_queues_say_which_and_where() {
        let app = app(&json!([
            {"type": "queueTrigger", "direction": "in", "name": "item", "queueName": "orders"},
            {"type": "queue", "direction": "out", "name": "$return", "queueName": "done",
                "connection": "Shop"},
            {"type": "serviceBus", "direction": "out", "name": "told", "topicName": "news"},
        ]))
        .unwrap();
        let function = &app.functions["f"];
        let Kind::Queue(queue) = &function.kind else { panic!("{function:?}") };
        assert_eq!(
            (queue.name.as_deref(), &*queue.connection),
            (Some("orders"), "AzureWebJobsStorage")
        );
        let outputs: Vec<_> =
            function.queues.iter().map(|it| (&*it.binding, &*it.queue, &*it.connection)).collect();
        let expected = [("$return", "done", "Shop"), ("told", "news", "AzureWebJobsServiceBus")];
        assert_eq!((outputs, app.attempts), (expected.to_vec(), Some(3)));
        assert!(!function.is_plain());
    }

    #[test]
    fn what_is_not_served_is_named_with_what_to_do() {
        let trigger = json!({"type": "httpTrigger", "direction": "in", "name": "req"});
        for (binding, said) in [
            (json!({"type": "blob", "direction": "in", "name": "x"}), "ask for the data itself"),
            (json!({"type": "cosmosDB", "direction": "out", "name": "x"}), "\"cosmosDB\""),
            (json!({"type": "signalR", "direction": "out", "name": "x"}), "send the data itself"),
            (json!({"type": "queue", "direction": "out", "name": "x"}), "queueName"),
            (json!({"type": "queue", "direction": "out", "name": "x", "queueName": "a.>"}), "a.>"),
            (
                json!({"type": "timerTrigger", "direction": "in", "name": "x"}),
                "exactly one trigger",
            ),
        ] {
            let error = app(&json!([trigger, binding])).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let worker = App::parse(br#"{"version": "2.0"}"#, []).unwrap_err().to_string();
        assert!(worker.contains("FUNCTIONS_CUSTOMHANDLER_PORT"), "{worker}");
    }

    #[test]
    fn triggers_are_named_by_the_app_and_the_function() {
        assert_eq!(trigger_name("shop", "Clear_Carts").as_deref(), Some("shop-clear-carts"));
        assert_eq!(trigger_name("shop", "___"), None);
        assert_eq!(trigger_name("shop", &"x".repeat(60)), None);
    }
}
