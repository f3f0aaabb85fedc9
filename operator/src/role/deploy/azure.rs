//! What the bindings of an app of Azure Functions become: Triggers where Rouse has what calls, and a line
//! about each function for whoever deploys it. Reads files of the folder, and asks nobody.

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use rouse_azure::{App, Function, HOST_SETTING, Kind, Queue, Timer, trigger_name};
use rouse_core::schedule::Schedule;
use serde_json::{Value, json};

use super::folder::Tree;

/// What becomes of an app, beside its Function.
#[derive(Debug, Default)]
pub struct Plan {
    /// Triggers, without the namespace.
    pub triggers: Vec<Value>,
    /// What is said of its functions.
    pub said: Vec<String>,
}

/// What becomes of the app in `code`, which is the Function `name`.
pub fn plan(code: &Tree, function: &Value, name: &str) -> anyhow::Result<Plan> {
    let host = code.text("host.json").context(
        "there is no host.json in the folder, which says what starts a custom handler of Azure \
         Functions: say --contract if the code is for something else",
    )?;
    let functions = code.0.keys().filter_map(|place| {
        let folder = place.strip_suffix("/function.json").filter(|it| !it.contains('/'))?;
        Some((folder.to_owned(), code.text(place)?.into_bytes()))
    });
    let app = App::parse(host.as_bytes(), functions)?;
    let settings = Settings(function);
    let mut plan = Plan::default();
    for (of, known) in &app.functions {
        let called = || {
            trigger_name(name, of).with_context(|| {
                format!("no Trigger can be named after {name} and {of}: give the function a shorter name")
            })
        };
        match &known.kind {
            Kind::Http { path, methods, .. } => {
                let methods: Vec<_> = methods.iter().map(ToString::to_string).collect();
                let methods =
                    if methods.is_empty() { "all methods".into() } else { methods.join(", ") };
                plan.said.push(format!("{of}: requests of /{path}, {methods}"));
            }
            Kind::Timer(timer) => plan.timer(of, timer, (&called()?, name), &settings)?,
            Kind::Queue(queue) => {
                plan.queue(of, queue, (&called()?, name, app.attempts), &settings);
            }
        }
        plan.outputs(of, known, &settings);
    }
    Ok(plan)
}

impl Plan {
    fn timer(
        &mut self,
        of: &str,
        timer: &Timer,
        (trigger, function): (&str, &str),
        settings: &Settings<'_>,
    ) -> anyhow::Result<()> {
        let schedule = settings.resolve(of, &timer.schedule)?;
        let cron = cron_of(of, &schedule)?;
        let zone = settings.text("WEBSITE_TIME_ZONE").unwrap_or("UTC");
        Schedule::parse(&cron, zone, Timestamp::now()).map_err(|error| {
            anyhow!("{of}/function.json has the schedule {schedule:?}: {error}")
        })?;
        self.said.push(format!("{of}: Trigger {trigger}, {cron:?} by the clocks of {zone}"));
        if timer.at_start {
            self.said.push(format!(
                "{of}: runOnStartup is left out, as pods start whenever somebody calls"
            ));
        }
        // With Azure, too, a tick waits for none before it and is not tried again.
        let spec = json!({
            "function": function,
            "schedule": {
                "cron": cron, "timeZone": zone,
                "concurrencyPolicy": "Forbid", "catchUp": "Latest",
            },
            "delivery": {"attempts": 1},
        });
        self.triggers.push(object(trigger, &spec));
        Ok(())
    }

    fn queue(
        &mut self,
        of: &str,
        queue: &Queue,
        (trigger, function, attempts): (&str, &str, Option<u32>),
        settings: &Settings<'_>,
    ) {
        match stream_of(queue, settings) {
            Ok((stream, server)) => {
                self.said.push(format!(
                    "{of}: Trigger {trigger}, messages of the stream {stream} at {server}; it must be there"
                ));
                let mut spec = json!({
                    "function": function,
                    "nats": {
                        "servers": [server],
                        // What is in a queue is for whoever takes it, however long it has been there.
                        "jetStream": {"stream": stream, "start": "earliest"},
                    },
                });
                if let Some(attempts) = attempts {
                    spec["delivery"] = json!({"attempts": attempts});
                }
                self.triggers.push(object(trigger, &spec));
            }
            Err(why) => self.said.push(format!(
                "{of}: no Trigger is made for its {}, for {why}. Make one that has what it shall be \
                 called with, with `function: {function}` and the name {trigger}",
                queue.kind
            )),
        }
    }

    fn outputs(&mut self, of: &str, function: &Function, settings: &Settings<'_>) {
        for output in &function.queues {
            let (queue, connection) = (&output.queue, &output.connection);
            let place = match settings.find(connection) {
                Found::Text(server) => without_login(server),
                Found::Elsewhere => format!("the server that the variable {connection} names"),
                Found::Nowhere => {
                    self.said.push(format!(
                        "{of}: sends to the queue {queue}, and nothing says where that is: set the variable \
                         {connection} in function.yaml to a server of NATS, such as nats://nats.shop:4222"
                    ));
                    continue;
                }
            };
            self.said.push(format!(
                "{of}: sends to the subject {queue} at {place}, which a stream must have"
            ));
        }
    }
}

fn object(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// The stream of NATS that a queue is, and its server; else why it is none.
fn stream_of<'a>(queue: &'a Queue, settings: &Settings<'a>) -> Result<(&'a str, &'a str), String> {
    let connection = &queue.connection;
    if queue.kind.eq_ignore_ascii_case("kafkaTrigger") {
        return Err("this version of Rouse has no source for Kafka".into());
    }
    let server = match settings.find(connection) {
        Found::Text(server) => server,
        Found::Elsewhere => {
            return Err(format!("the variable {connection} stands in another object"));
        }
        Found::Nowhere => {
            return Err(format!(
                "nothing says where it is: set the variable {connection} in function.yaml to a server of \
                 NATS, such as nats://nats.shop:4222"
            ));
        }
    };
    if !(server.starts_with("nats://") || server.starts_with("tls://")) || server.contains('@') {
        return Err(format!(
            "the variable {connection} is no nats://HOST:PORT without a user; what lets one in belongs into \
             a Secret, which a Trigger names"
        ));
    }
    let name = queue.name.as_deref().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(fits) {
        return Err(format!("{name:?} is no name of a stream"));
    }
    Ok((name, server))
}

/// Where a server is, without what lets one in.
fn without_login(server: &str) -> String {
    match (server.split_once("://"), server.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => server.to_owned(),
    }
}

/// The pattern of a schedule as Azure has it: six fields of cron, five, or a time span.
fn cron_of(of: &str, schedule: &str) -> anyhow::Result<String> {
    if let [hours, minutes, seconds] = schedule.split(':').collect::<Vec<_>>().as_slice() {
        let number = |text: &str, most| text.parse::<u32>().ok().filter(|number| *number < most);
        let span = (number(hours, 24), number(minutes, 60), number(seconds, 60));
        let (Some(hours), Some(minutes), Some(seconds)) = span else {
            bail!(
                "{of}/function.json has the schedule {schedule:?}: a time span has less than 24 hours \
                 (hh:mm:ss), write six fields of cron for anything longer"
            );
        };
        return Ok(format!("@every {}s", hours * 3600 + minutes * 60 + seconds));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if let [.., day, _, weekday] = fields.as_slice()
        && ![day, weekday].iter().any(|field| field.starts_with('*'))
    {
        bail!(
            "{of}/function.json has the schedule {schedule:?}: Azure calls when day of month and day of \
             week both fit, and cron when either does: leave one of them *, and look at the other in the \
             handler"
        );
    }
    Ok(fields.join(" "))
}

/// The settings of an app: the variables of its Function.
struct Settings<'a>(&'a Value);

/// Where a setting is.
enum Found<'a> {
    /// It says this.
    Text(&'a str),
    /// In a Secret or a ConfigMap.
    Elsewhere,
    /// Nowhere.
    Nowhere,
}

impl<'a> Settings<'a> {
    fn find(&self, name: &str) -> Found<'a> {
        let variables = self.0.pointer("/spec/env").and_then(Value::as_array);
        let mut variables = variables.into_iter().flatten();
        let found = variables
            .find(|it| it["name"] == name || it["name"] == format!("{HOST_SETTING}{name}"));
        match found.map(|found| found["value"].as_str()) {
            Some(Some(text)) => Found::Text(text),
            Some(None) => Found::Elsewhere,
            None if self.0.pointer("/spec/envFrom").is_some() => Found::Elsewhere,
            None => Found::Nowhere,
        }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        match self.find(name) {
            Found::Text(text) => Some(text),
            Found::Elsewhere | Found::Nowhere => None,
        }
    }

    /// What stands there, or in the setting that stands there as `%NAME%`.
    fn resolve(&self, of: &str, text: &str) -> anyhow::Result<String> {
        let Some(name) = text.strip_prefix('%').and_then(|text| text.strip_suffix('%')) else {
            return Ok(text.trim().to_owned());
        };
        let found = self.text(name).with_context(|| {
            format!(
                "{of}/function.json has the schedule {text}, and function.yaml has no variable {name} with \
                 a value: add it to spec.env"
            )
        })?;
        Ok(found.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HOST: &str = r#"{
        "version": "2.0",
        "customHandler": {"description": {"defaultExecutablePath": "node", "arguments": ["server.js"]}},
        "extensions": {"queues": {"maxDequeueCount": 3}}
    }"#;

    /// What becomes of an app with these functions, by their bindings, and these variables.
    fn planned(functions: &[(&str, Value)], env: &Value) -> anyhow::Result<Plan> {
        let folder = tempfile::tempdir().unwrap();
        let write = |place: &str, text: &str| {
            let path = folder.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("host.json", HOST);
        for (name, bindings) in functions {
            let text = json!({"bindings": bindings}).to_string();
            write(&format!("{name}/function.json"), &text);
        }
        let code = Tree::of(folder.path(), &[]).unwrap();
        plan(&code, &json!({"spec": {"env": env}}), "shop")
    }

    fn timer(schedule: &str) -> Value {
        json!([{"type": "timerTrigger", "direction": "in", "name": "tick", "schedule": schedule}])
    }

    fn queue(kind: &str, connection: &str) -> Value {
        json!([{"type": kind, "direction": "in", "name": "item", "queueName": "orders", "connection": connection}])
    }

    #[test]
    fn timers_become_schedules_of_six_fields() {
        let env = json!([
            {"name": "When", "value": "0 30 9 * * mon-fri"},
            {"name": "WEBSITE_TIME_ZONE", "value": "Europe/Berlin"},
        ]);
        let functions = [("Open_Shop", timer("%When%")), ("Look", timer("00:05:00"))];
        let plan = planned(&functions, &env).unwrap();
        let of =
            |name: &str| plan.triggers.iter().find(|it| it["metadata"]["name"] == name).unwrap();
        let schedule = &of("shop-open-shop")["spec"];
        assert_eq!(schedule["schedule"]["cron"], "0 30 9 * * mon-fri");
        assert_eq!(schedule["schedule"]["timeZone"], "Europe/Berlin");
        assert_eq!(
            (&schedule["function"], &schedule["delivery"]["attempts"]),
            (&json!("shop"), &json!(1))
        );
        assert_eq!(of("shop-look")["spec"]["schedule"]["cron"], "@every 300s");
        for trigger in &plan.triggers {
            serde_json::from_value::<rouse_crds::v1alpha1::Trigger>(trigger.clone()).unwrap();
        }
        for (schedule, said) in [
            ("%Never%", "spec.env"),
            ("0 0 0 1 * 1", "both fit"),
            ("24:00:00", "less than 24 hours"),
            ("0 61 * * * *", "not a pattern of cron"),
            ("", "not a pattern of cron"),
        ] {
            let error = planned(&[("f", timer(schedule))], &json!([])).unwrap_err().to_string();
            assert!(error.starts_with("f/function.json") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn queues_become_streams_where_a_variable_says_where_they_are() {
        let env = json!([
            {"name": "Shop", "value": "nats://nats.shop:4222"},
            {"name": "Login", "value": "nats://u:p@nats.shop:4222"},
            {"name": "Hidden", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]);
        let plan = planned(&[("take", queue("queueTrigger", "Shop"))], &env).unwrap();
        let spec = &plan.triggers[0]["spec"];
        assert_eq!(spec["nats"]["jetStream"], json!({"stream": "orders", "start": "earliest"}));
        assert_eq!(spec["nats"]["servers"], json!(["nats://nats.shop:4222"]));
        assert_eq!(spec["delivery"]["attempts"], 3);
        serde_json::from_value::<rouse_crds::v1alpha1::Trigger>(plan.triggers[0].clone()).unwrap();
        for (kind, connection, said) in [
            ("queueTrigger", "Login", "a Secret"),
            ("queueTrigger", "Hidden", "another object"),
            ("serviceBusTrigger", "Nothing", "set the variable Nothing"),
            ("kafkaTrigger", "Shop", "Kafka"),
        ] {
            let plan = planned(&[("take", queue(kind, connection))], &env).unwrap();
            assert!(plan.triggers.is_empty());
            let line = &plan.said[0];
            assert!(line.starts_with("take: no Trigger") && line.contains(said), "{line}");
            assert!(line.contains(kind) && line.contains("shop-take"), "{line}");
        }
    }

    #[test]
    fn what_is_served_is_said_and_what_is_not_is_refused_by_name() {
        let out = json!([
            {"type": "httpTrigger", "direction": "in", "name": "req", "route": "orders/{id}", "methods": ["post"]},
            {"type": "http", "direction": "out", "name": "res"},
            {"type": "queue", "direction": "out", "name": "sent", "queueName": "orders", "connection": "Shop"},
        ]);
        let env = json!([{"name": "Shop", "value": "nats://u:p@nats.shop:4222"}]);
        let plan = planned(&[("order", out)], &env).unwrap();
        assert_eq!(
            plan.said,
            [
                "order: requests of /api/orders/{id}, POST",
                "order: sends to the subject orders at nats://nats.shop:4222, which a stream must have",
            ]
        );
        let blob = json!([{"type": "blobTrigger", "direction": "in", "name": "x"}]);
        let error = planned(&[("f", blob)], &json!([])).unwrap_err().to_string();
        assert!(error.contains("\"blobTrigger\"") && error.contains("httpTrigger"), "{error}");
    }
}
