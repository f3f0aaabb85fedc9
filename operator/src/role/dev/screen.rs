//! What is told while Functions run here: lines, of what they print, of how they wake and sleep, and
//! of what keeps them from it; and in a terminal a table of all Functions below them. The only place
//! that writes to standard output meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use rouse_crds::v1alpha1::{Function, Trigger};
use rouse_local::logs::{Logs, Said};
use rustix::termios::tcgetwinsize;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing_subscriber::fmt::MakeWriter;

use super::figures::{All, Figures};
use super::news::{Told, of_function, of_trigger};
use crate::output;

/// Lines of `rouse dev` itself that wait to be printed.
pub const WAITING: usize = 256;
/// How often the table is drawn again.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// Rows of the table.
const MOST_ROWS: usize = 12;

/// Who is told of by its kind, namespace and name.
type Key = (&'static str, String, String);

/// The log's way to the screen: what is written beside it would tear the table.
#[derive(Clone, Debug)]
pub struct LogWriter(Option<mpsc::Sender<String>>);

/// Lines of the log that are to be shown.
#[derive(Debug)]
pub struct LogLines(mpsc::Receiver<String>);

/// The way of the log. Where nobody looks at both it leads to standard error as ever.
pub fn log() -> (LogWriter, LogLines) {
    let (sender, lines) = mpsc::channel(WAITING);
    let seen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    (LogWriter(seen.then_some(sender)), LogLines(lines))
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl io::Write for LogWriter {
    /// Takes a line, as the log writes each at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).trim_end().to_owned();
        let is_shown = self.0.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        // Nobody shows it any more, or there is too much.
        if is_shown { Ok(bytes.len()) } else { io::Write::write(&mut io::stderr(), bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::Write::flush(&mut io::stderr())
    }
}

/// Tells of everything until it is dropped, or nobody reads it any more. `admin` is where the activator
/// shows what it counts, `lines` what `rouse dev` says itself.
pub async fn show(
    client: Client,
    (logs, admin): (&Logs, SocketAddr),
    (mut lines, mut log): (mpsc::Receiver<String>, LogLines),
) -> anyhow::Result<()> {
    let mut said = logs.subscribe();
    let mut seen = watch(client);
    let figures = Figures::at(admin)?;
    let mut screen = Screen::new();
    let mut draws = interval(DRAW_EVERY);
    draws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let news = tokio::select! {
            // What is said first is where everything is called.
            biased;
            Some(line) = lines.recv() => vec![line],
            Some(line) = log.0.recv() => vec![line],
            line = said.recv() => match line {
                Ok(line) => render_line(&line).into_iter().collect(),
                Err(RecvError::Lagged(missed)) => vec![format!("({missed} lines came too fast)")],
                Err(RecvError::Closed) => return Ok(()),
            },
            Some(object) = seen.next() => match object {
                Ok(object) => screen.take(object),
                // The watch begins anew by itself.
                Err(_) => continue,
            },
            _ = draws.tick(), if screen.live => {
                // Before the activator listens there is nothing to count.
                screen.counts = figures.fetch().await.unwrap_or_default();
                Vec::new()
            }
        };
        screen.draw(&news)?;
    }
}

/// An object as it is now.
enum Seen {
    Function(Box<Function>),
    Trigger(Box<Trigger>),
    Gone(Key),
}

fn watch(client: Client) -> futures::stream::BoxStream<'static, Result<Seen, watcher::Error>> {
    let config = watcher::Config::default;
    let functions = watcher(Api::<Function>::all(client.clone()), config()).default_backoff();
    let functions = functions.try_filter_map(|event| {
        let seen = match event {
            watcher::Event::Apply(it) | watcher::Event::InitApply(it) => {
                Some(Seen::Function(Box::new(it)))
            }
            watcher::Event::Delete(it) => Some(Seen::Gone(key("Function", &it.metadata))),
            watcher::Event::Init | watcher::Event::InitDone => None,
        };
        std::future::ready(Ok(seen))
    });
    let triggers = watcher(Api::<Trigger>::all(client), config()).default_backoff();
    let triggers = triggers.applied_objects().map_ok(|it| Seen::Trigger(Box::new(it)));
    futures::stream::select(functions.boxed(), triggers.boxed()).boxed()
}

fn key(kind: &'static str, meta: &ObjectMeta) -> Key {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    (kind, text(&meta.namespace), text(&meta.name))
}

/// What stands on the screen.
struct Screen {
    /// Whether somebody looks at it.
    live: bool,
    /// Rows that were drawn last, which the next lines take the place of.
    drawn: usize,
    told: BTreeMap<Key, Told>,
    counts: All,
}

impl Screen {
    fn new() -> Self {
        let live = std::io::stdout().is_terminal();
        Self { live, drawn: 0, told: BTreeMap::new(), counts: All::new() }
    }

    /// What is new of an object.
    fn take(&mut self, object: Seen) -> Vec<String> {
        match object {
            Seen::Function(function) => {
                let key = key("Function", &function.metadata);
                let name = key.2.clone();
                of_function(self.told.entry(key).or_default(), &name, function.status.as_ref())
            }
            Seen::Trigger(trigger) => {
                let key = key("Trigger", &trigger.metadata);
                let name = key.2.clone();
                of_trigger(self.told.entry(key).or_default(), &name, trigger.status.as_ref())
            }
            Seen::Gone(key) => {
                self.told.remove(&key);
                Vec::new()
            }
        }
    }

    /// Prints lines, and the table below them.
    fn draw(&mut self, lines: &[String]) -> anyhow::Result<()> {
        if lines.is_empty() && !self.live {
            return Ok(());
        }
        let rows = if self.live { self.rows(rows_that_fit()) } else { Vec::new() };
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to where the table began, and all below it goes.
            // A String takes everything.
            let _ = write!(text, "\x1b[{}A\x1b[J", self.drawn);
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        if !rows.is_empty() {
            // A row that is too long is cut by the terminal, not broken.
            text.push_str("\x1b[?7l");
            text.push_str(&rows.join("\n"));
            text.push_str("\n\x1b[?7h");
        }
        self.drawn = rows.len();
        output::print(&text)
    }

    /// The table: a row for each Function, as many as fit.
    fn rows(&self, most: usize) -> Vec<String> {
        let functions: Vec<_> =
            self.told.iter().filter(|((kind, ..), _)| *kind == "Function").collect();
        let width = functions.iter().map(|((_, _, name), _)| name.len()).max().unwrap_or_default();
        let row = |((_, namespace, name), told): &(&Key, &Told)| {
            let of = (namespace.clone(), name.clone());
            let counts = self.counts.get(&of).copied().unwrap_or_default();
            let state = told.state(counts.in_flight > 0.0);
            let waking = told.waking.as_deref().unwrap_or_default();
            format!(
                "  {name:<width$}  {state:<10} {:>7} requests {:>5} in flight  {waking}",
                counts.requests, counts.in_flight
            )
        };
        let mut rows: Vec<String> = functions.iter().take(most).map(row).collect();
        if let Some(more) = functions.len().checked_sub(most).filter(|more| *more > 0) {
            rows.push(format!("  and {more} more"));
        }
        if !rows.is_empty() {
            rows.insert(0, String::new());
        }
        rows
    }
}

/// How many Functions the table may have: what goes beyond the upper end can't be drawn over again.
fn rows_that_fit() -> usize {
    // An empty row above, one for the others below, the cursor's own, and some lines of what is said.
    const BESIDE: u16 = 6;
    let size = tcgetwinsize(io::stdout());
    let fit = size.map_or(MOST_ROWS, |size| usize::from(size.ws_row.saturating_sub(BESIDE)));
    fit.min(MOST_ROWS)
}

/// A line of a container; what a shim says of itself is told where it says that something is wrong.
fn render_line(said: &Said) -> Option<String> {
    let who = if said.function.is_empty() { &said.pod } else { &said.function };
    let Ok(Value::Object(line)) = serde_json::from_str(&said.text) else {
        return Some(format!("{who} | {}", said.text));
    };
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let Some(message) = text("message") else {
        return Some(format!("{who} | {}", said.text));
    };
    if text("stream") == Some("shim") {
        // What the process said last was told as it said it.
        let why = text("why").map(|why| why.split("; it said last").next().unwrap_or(why));
        return why.map(|why| format!("{who} | {message}: {why}"));
    }
    Some(format!("{who} | {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_told_with_who_said_them() {
        let said = |text: &str| {
            render_line(&Said {
                namespace: "default".into(),
                pod: "hello-1".into(),
                function: "hello".into(),
                text: text.into(),
            })
        };
        assert_eq!(said("plain").as_deref(), Some("hello | plain"));
        let line = r#"{"stream":"stdout","message":"hi"}"#;
        assert_eq!(said(line).as_deref(), Some("hello | hi"));
        let note = r#"{"stream":"shim","message":"serving","port":1}"#;
        assert_eq!(said(note), None);
        let note = r#"{"stream":"shim","message":"no","why":"x"}"#;
        assert_eq!(said(note).as_deref(), Some("hello | no: x"));
        let note = r#"{"stream":"shim","message":"no","why":"code 1; it said last:\ny"}"#;
        assert_eq!(said(note).as_deref(), Some("hello | no: code 1"));
    }

    #[test]
    fn the_table_has_a_row_for_each_function_and_is_bounded() {
        let mut screen = Screen { live: true, drawn: 0, told: BTreeMap::new(), counts: All::new() };
        for n in 0..20 {
            let function = serde_json::from_value(json!({
                "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
                "metadata": {"namespace": "default", "name": format!("f{n:02}")},
                "spec": {"image": "x"}, "status": {"replicas": n % 2, "desiredReplicas": n % 2},
            }));
            screen.take(Seen::Function(Box::new(function.unwrap())));
        }
        assert_eq!(screen.rows(2).len(), 4);
        let rows = screen.rows(MOST_ROWS);
        assert_eq!(rows.len(), MOST_ROWS + 2);
        assert!(rows[1].contains("f00  asleep"), "{rows:?}");
        assert!(rows[2].contains("f01  warm 1"), "{rows:?}");
        assert_eq!(rows.last().unwrap(), "  and 8 more");
    }
}
