//! `rouse dlq`: people look after the dead letters that streams keep.

pub mod args;
mod office;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use hyper::Method;
use kube::ResourceExt;
use rouse_core::explain::why::clock;
use rouse_core::letter::{Letter, MOST_LETTERS};
use rouse_crds::v1alpha1::{DeadLetter, Trigger};
use serde::Serialize;
use serde_json::Value;

use self::args::{Chosen, Errand, ListArgs, ShowArgs};
use self::office::{Answer, Office};
use crate::cluster::{Cluster, ClusterArgs};
use crate::exit::Failure;
use crate::output::{self, Sheet};

/// Runs an errand, and tells on standard output what came of it.
pub async fn run(errand: &Errand) -> anyhow::Result<()> {
    match errand {
        Errand::List(args) => list(args).await,
        Errand::Show(args) => show(args).await,
        Errand::Redrive(chosen) => act(chosen, &REDRIVE).await,
        Errand::Purge(args) => {
            if !args.yes {
                confirm(&args.chosen)?;
            }
            act(&args.chosen, &PURGE).await
        }
    }
}

/// Something that is done with letters.
struct Deed {
    method: Method,
    verb: &'static str,
    /// What a letter is when it is done.
    done: &'static str,
}

const REDRIVE: Deed = Deed { method: Method::POST, verb: "/redrive", done: "taken" };
const PURGE: Deed = Deed { method: Method::DELETE, verb: "", done: "removed" };

/// A letter, and the namespace that it is of.
#[derive(Serialize)]
struct Held {
    namespace: String,
    #[serde(flatten)]
    letter: Letter,
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let cluster = Cluster::of(&args.cluster).await?;
    let triggers = match &args.trigger {
        Some(name) => vec![fetch(&cluster, name).await?],
        None => cluster.triggers(args.all_namespaces).await?,
    };
    let limit = usize::try_from(args.limit)?;
    let Gathered { letters, is_cut, failed } = gather(&cluster, &triggers, limit).await?;
    let mut notes: Vec<String> = triggers.iter().filter_map(given_to_function).collect();
    notes.extend(failed);
    if is_cut {
        notes.push(format!("There may be more than these {limit}: ask with another --limit."));
    } else if letters.is_empty() {
        let place = cluster.place(args.all_namespaces);
        notes.push(format!("No stream keeps dead letters of {place}."));
    }
    let mut sheet = Sheet {
        head: vec![
            "TRIGGER",
            "LETTER",
            "STORED (UTC)",
            "REASON",
            "ATTEMPTS",
            "BYTES",
            "TYPE",
            "ID",
        ],
        rows: letters.iter().map(|held| row(&held.letter)).collect(),
        notes,
        names: letters.iter().map(|held| name(&held.letter)).collect(),
        ..Sheet::default()
    };
    if args.all_namespaces {
        sheet.lead("NAMESPACE", letters.iter().map(|held| held.namespace.clone()));
    }
    sheet.print(args.output, &letters)
}

/// Letters of several namespaces.
#[derive(Default)]
struct Gathered {
    letters: Vec<Held>,
    /// There may be more than were asked for.
    is_cut: bool,
    /// Of which namespaces there are none, and why.
    failed: Vec<String>,
}

/// At most `limit` letters of those of `triggers` whose letters a stream keeps. It fails where all
/// namespaces do.
async fn gather(cluster: &Cluster, triggers: &[Trigger], limit: usize) -> anyhow::Result<Gathered> {
    let mut kept: BTreeMap<String, Vec<&Trigger>> = BTreeMap::new();
    for trigger in triggers.iter().filter(|it| kept_by(it).is_ok()) {
        kept.entry(trigger.namespace().unwrap_or_default()).or_default().push(trigger);
    }
    let (mut all, namespaces) = (Gathered::default(), kept.len());
    for (namespace, triggers) in kept {
        let Err(error) = read(cluster, (&namespace, &triggers), limit, &mut all).await else {
            continue;
        };
        if all.failed.len() + 1 == namespaces {
            return Err(error);
        }
        all.failed.push(format!("Those of namespace {namespace} are missing: {error:#}"));
    }
    Ok(all)
}

/// Adds the letters of a namespace.
async fn read(
    cluster: &Cluster,
    (namespace, triggers): (&str, &[&Trigger]),
    limit: usize,
    all: &mut Gathered,
) -> anyhow::Result<()> {
    let mut office = Office::reach(cluster, namespace).await?;
    for trigger in triggers {
        let mut from = Some(1);
        while let Some(next) = from.filter(|_| all.letters.len() < limit) {
            let most = (limit - all.letters.len()).min(MOST_LETTERS);
            let found = office.list(&trigger.name_any(), next, most).await?;
            let held = |letter| Held { namespace: namespace.to_owned(), letter };
            all.letters.extend(found.letters.into_iter().map(held));
            from = found.next;
        }
        all.is_cut |= from.is_some();
    }
    Ok(())
}

fn name(letter: &Letter) -> String {
    format!("{}/{}", letter.trigger, letter.number)
}

fn row(letter: &Letter) -> Vec<String> {
    let Letter { number, trigger, stored, reason, attempts, id, source: _, kind, time: _, bytes } =
        letter;
    let (number, stored, bytes) = (number.to_string(), clock(*stored), bytes.to_string());
    let row = [trigger, &number, &stored, reason, attempts, &bytes, kind, id];
    row.map(String::clone).to_vec()
}

async fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let mut office = reach(&args.cluster, &args.trigger).await?;
    let letter = (args.trigger.as_str(), args.letter);
    let document = match office.act(Method::GET, letter, "").await? {
        Answer::Done(document) => document,
        Answer::Missing(text) => return Err(Failure::Missing(text).into()),
        Answer::Refused(text) => bail!(text),
    };
    let event: Value = serde_json::from_slice(&document).context("reading the letter")?;
    let names = vec![format!("{}/{}", args.trigger, args.letter)];
    Sheet { names, ..sheet_of(&event) }.print(args.output, &event)
}

/// The attributes of an event as rows, and below them its data.
fn sheet_of(event: &Value) -> Sheet {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for (name, value) in event.as_object().into_iter().flatten() {
        match name.as_str() {
            "data" => notes.push(format!("\n{}", text(value))),
            "data_base64" => notes.push(format!("\nIts data, in base64: {}", text(value))),
            _ => rows.push(vec![name.clone(), text(value)]),
        }
    }
    Sheet { head: vec!["ATTRIBUTE", "VALUE"], rows, notes, ..Sheet::default() }
}

/// What came of a letter.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Settled {
    number: u64,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Does a deed with the letters that were chosen, one after the other. What fails with one letter
/// leaves the others; the errand has failed then.
async fn act(chosen: &Chosen, deed: &Deed) -> anyhow::Result<()> {
    let office = reach(&chosen.cluster, &chosen.trigger).await?;
    let mut errand = Work { office, chosen, deed, done: Vec::new() };
    let outcome = errand.run().await;
    let done = errand.done;
    if !chosen.output.is_for_people() {
        let row = |it: &Settled| vec![it.number.to_string(), it.result(deed).to_owned()];
        let rows = done.iter().map(row).collect();
        let name = |it: &Settled| format!("{}/{}", chosen.trigger, it.number);
        let names = done.iter().filter(|it| it.done).map(name).collect();
        let sheet = Sheet { head: vec!["LETTER", "RESULT"], rows, names, ..Sheet::default() };
        sheet.print(chosen.output, &done)?;
    }
    outcome?;
    let (failed, all) = (done.iter().filter(|it| !it.done).count(), done.len());
    if failed > 0 {
        bail!("{failed} of {all} letters were not {}", deed.done);
    }
    if chosen.output.is_for_people() {
        output::print(&format!("{all} letters were {}.\n", deed.done))?;
    }
    Ok(())
}

impl Settled {
    fn result<'a>(&'a self, deed: &Deed) -> &'a str {
        self.why.as_deref().unwrap_or(deed.done)
    }
}

/// A deed that is under way.
struct Work<'a> {
    office: Office,
    chosen: &'a Chosen,
    deed: &'a Deed,
    done: Vec<Settled>,
}

impl Work<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        let chosen = self.chosen;
        for number in &chosen.letters {
            self.act(*number).await?;
        }
        let mut from = chosen.all.then_some(1);
        while let Some(next) = from {
            let found = self.office.list(&chosen.trigger, next, MOST_LETTERS).await?;
            for letter in found.letters {
                self.act(letter.number).await?;
            }
            from = found.next;
        }
        Ok(())
    }

    async fn act(&mut self, number: u64) -> anyhow::Result<()> {
        let letter = (self.chosen.trigger.as_str(), number);
        let answer = self.office.act(self.deed.method.clone(), letter, self.deed.verb).await?;
        let why = match answer {
            Answer::Done(_) => None,
            Answer::Missing(text) | Answer::Refused(text) => Some(text),
        };
        let done = Settled { number, done: why.is_none(), why };
        if self.chosen.output.is_for_people() {
            // As it goes: the Function may take long for each.
            output::print(&format!("{number}: {}\n", done.result(self.deed)))?;
        }
        self.done.push(done);
        Ok(())
    }
}

/// Asks whether letters shall go for good.
fn confirm(chosen: &Chosen) -> anyhow::Result<()> {
    let which = match chosen.letters.len() {
        0 => "all dead letters".to_owned(),
        1 => "1 dead letter".to_owned(),
        many => format!("{many} dead letters"),
    };
    let question = format!("remove {which} of Trigger {} for good", chosen.trigger);
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("nobody is there to be asked whether to {question}: say so with --yes");
    }
    let mut screen = std::io::stderr();
    write!(screen, "Really {question}? Type yes: ").context("asking")?;
    screen.flush().context("asking")?;
    let mut answer = String::new();
    input.read_line(&mut answer).context("reading the answer")?;
    if answer.trim() != "yes" {
        bail!("nothing was removed");
    }
    Ok(())
}

/// The way to the letters of a Trigger, if a stream keeps them.
async fn reach(cluster: &ClusterArgs, trigger: &str) -> anyhow::Result<Office> {
    let cluster = Cluster::of(cluster).await?;
    fetch(&cluster, trigger).await?;
    Office::reach(&cluster, &cluster.namespace).await
}

/// The Trigger of that name, if a stream keeps its dead letters.
async fn fetch(cluster: &Cluster, name: &str) -> anyhow::Result<Trigger> {
    let trigger = cluster.trigger(name).await?;
    kept_by(&trigger)?;
    Ok(trigger)
}

fn dead_letter_of(trigger: &Trigger) -> Option<&DeadLetter> {
    trigger.spec.delivery.as_ref()?.dead_letter.as_ref()
}

/// Whether a stream keeps the dead letters of `trigger`, or else where they are.
fn kept_by(trigger: &Trigger) -> anyhow::Result<()> {
    match dead_letter_of(trigger) {
        Some(DeadLetter { nats: Some(_), .. }) => Ok(()),
        Some(_) => bail!(given_to_function(trigger).unwrap_or_default()),
        None => bail!(
            "the Trigger {} keeps no dead letters: it has no spec.delivery.deadLetter, so what is \
             given up is dropped",
            trigger.name_any()
        ),
    }
}

/// What is said where dead letters went to a Function.
fn given_to_function(trigger: &Trigger) -> Option<String> {
    let function = dead_letter_of(trigger)?.function.as_ref()?;
    let name = trigger.name_any();
    Some(format!(
        "The dead letters of Trigger {name} went to the Function {function} and are its own: Rouse \
         keeps none."
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::args::Cli;
    use crate::output::Form;

    fn trigger(delivery: &Value) -> Trigger {
        serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger", "metadata": {"name": "t"},
            "spec": {"function": "f", "schedule": {"cron": "@daily"}, "delivery": delivery},
        }))
        .unwrap()
    }

    #[test]
    fn who_has_the_letters_is_told() {
        let nats = json!({"servers": ["nats://n"], "stream": "D", "subject": "d"});
        kept_by(&trigger(&json!({"deadLetter": {"nats": nats}}))).unwrap();
        let function = trigger(&json!({"deadLetter": {"function": "undertaker"}}));
        let error = kept_by(&function).unwrap_err().to_string();
        assert!(error.contains("went to the Function undertaker"), "{error}");
        let error = kept_by(&trigger(&json!({}))).unwrap_err().to_string();
        assert!(error.contains("dropped"), "{error}");
    }

    #[test]
    fn letters_are_chosen_by_number_or_all() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("rouse dlq redrive t 1 2 -n shop").is_ok());
        assert!(parse("rouse dlq purge t --all --yes").is_ok());
        assert!(parse("rouse dlq redrive t").is_err(), "which?");
        assert!(parse("rouse dlq purge t 1 --all").is_err());
        assert!(parse("rouse dlq list --limit 0").is_err());
    }

    #[test]
    fn nothing_goes_for_good_unless_somebody_says_so() {
        let line = "rouse dlq purge t --all".split(' ');
        let crate::args::Role::Dlq(Errand::Purge(args)) = Cli::parse_from(line).role else {
            panic!("another role")
        };
        // Nobody sits before a test.
        if !std::io::stdin().is_terminal() {
            let error = confirm(&args.chosen).unwrap_err().to_string();
            assert!(error.ends_with("say so with --yes"), "{error}");
        }
    }

    #[test]
    fn a_letter_is_shown_with_its_data_below() {
        let event = json!({"id": "1", "rousereason": "age", "data": {"a": 1}});
        let text = sheet_of(&event).render(Form::Table, &event).unwrap();
        assert_eq!(text, "ATTRIBUTE    VALUE\nid           1\nrousereason  age\n\n{\"a\":1}\n");
        let told: Value =
            serde_json::from_str(&sheet_of(&event).render(Form::Json, &event).unwrap()).unwrap();
        assert_eq!(told, event);
    }
}
