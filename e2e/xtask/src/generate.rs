//! `cargo xtask generate`: the checked-in files that come from others.
//! Must not write any but these.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::tools::{self, catalog};
use crate::{command, folders, helm, term};

/// Arguments of `cargo xtask generate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Change nothing; fail when a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// A file as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Generated {
    /// Below the checkout.
    path: PathBuf,
    text: String,
}

/// Makes some of the files.
type Producer = fn() -> Result<Vec<Generated>>;

/// All producers. A later one may read what an earlier one wrote.
const PRODUCERS: &[Producer] = &[definitions, install_manifest];

const HEADER: &str = "# Written by `cargo xtask generate`. Change its source instead.\n";

/// Runs `cargo xtask generate`.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check { check() } else { write() }
}

/// Fails when a generated file is not what it should be.
pub fn check() -> Result<()> {
    let mut stale = Vec::new();
    for producer in PRODUCERS {
        stale.extend(producer()?.iter().filter_map(difference));
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "Generated files are not up to date:\n{}\nRun `cargo xtask generate` and commit what it \
         changes.",
        stale.join("\n")
    );
}

fn write() -> Result<()> {
    for producer in PRODUCERS {
        for file in producer()? {
            if difference(&file).is_some() {
                let path = folders::workspace().join(&file.path);
                std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
                std::fs::write(path, &file.text)?;
                term::result(format!("wrote {}", file.path.display()));
            }
        }
    }
    Ok(())
}

/// The `CustomResourceDefinitions`, on their own and in the chart.
fn definitions() -> Result<Vec<Generated>> {
    let mut files = Vec::new();
    for definition in rouse_crds::v1alpha1::crds() {
        let text = yaml(&serde_json::to_value(&definition)?)?;
        for folder in ["crds/generated", "charts/rouse/files/crds"] {
            let path = PathBuf::from(folder).join(format!("{}.yaml", definition.spec.names.plural));
            files.push(Generated { path, text: text.clone() });
        }
    }
    Ok(files)
}

/// What `kubectl apply` takes instead of the chart.
fn install_manifest() -> Result<Vec<Generated>> {
    tools::ensure(&[&catalog::HELM])?;
    let mut helm: Command = helm::command()?;
    helm.args(["template", "rouse", "charts/rouse", "--namespace", "rouse-system"]);
    let rendered = command::output(helm.args(["--set", "standalone=true"]))?;
    let text = format!("{HEADER}{rendered}\n");
    Ok(vec![Generated { path: "manifests/install.yaml".into(), text }])
}

fn yaml(value: &Value) -> Result<String> {
    let text = serde_saphyr::to_string(&whole_numbers(value.clone()))?;
    Ok(format!("{HEADER}{}\n", text.trim_end()))
}

/// Writes 1.0 as 1. The API server does, and tools that compare files with what it holds would see
/// a difference for ever.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            match text.strip_suffix(".0").and_then(|whole| whole.parse::<i64>().ok()) {
                Some(whole) => whole.into(),
                None => Value::Number(number),
            }
        }
        other => other,
    }
}

/// Where a file differs from what it should be, for a person.
fn difference(file: &Generated) -> Option<String> {
    let path = file.path.display();
    match std::fs::read_to_string(folders::workspace().join(&file.path)) {
        Ok(found) if found == file.text => None,
        Ok(found) => Some(format!("  {path}, {}", first_difference(&found, &file.text))),
        Err(error) => Some(format!("  {path}: {error}")),
    }
}

fn first_difference(found: &str, wanted: &str) -> String {
    let same = found.lines().zip(wanted.lines()).take_while(|(found, wanted)| found == wanted);
    let number = same.count();
    let line = |text: &str| text.lines().nth(number).unwrap_or("(end of the file)").to_owned();
    format!("line {}:\n    is:        {}\n    should be: {}", number + 1, line(found), line(wanted))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_definitions_in_the_checkout_are_up_to_date() {
        let stale: Vec<_> = definitions().unwrap().iter().filter_map(difference).collect();
        assert!(stale.is_empty(), "run `cargo xtask generate`:\n{}", stale.join("\n"));
    }

    #[test]
    fn the_definitions_read_back_as_they_were() {
        for (file, definition) in
            definitions().unwrap().iter().step_by(2).zip(rouse_crds::v1alpha1::crds())
        {
            let read: Value = serde_saphyr::from_str(&file.text).unwrap();
            assert_eq!(read, whole_numbers(serde_json::to_value(&definition).unwrap()));
        }
    }

    #[test]
    fn numbers_without_a_fraction_lose_the_point() {
        let value = json!({"a": [1.0, 1.5, 2, -3.0], "b": "1.0"});
        assert_eq!(whole_numbers(value), json!({"a": [1, 1.5, 2, -3], "b": "1.0"}));
    }

    #[test]
    fn a_difference_names_its_line() {
        assert!(first_difference("a\nb\n", "a\nc\n").starts_with("line 2:"));
        assert!(first_difference("a\n", "a\nc\n").contains("(end of the file)"));
    }
}
