//! `rouse init`: begins a Function, as a folder that `rouse deploy` takes as it is. Writes new files only.

pub mod args;
mod templates;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;

use self::args::{Contract, InitArgs, Language};
use self::templates::{NAME, TEMPLATES, Template, find};
use crate::output::{Form, Sheet};
use crate::progress::say;

/// Longest name of a Function.
const LONGEST: usize = 40;

/// What was begun, or might be.
#[derive(Serialize)]
struct Begun {
    language: String,
    contract: String,
    files: Vec<&'static str>,
}

/// Makes the folder, or lists what there is.
pub fn run(args: &InitArgs) -> anyhow::Result<()> {
    let Some((folder, language)) = args.folder.as_deref().zip(args.language) else {
        let fits = |it: &&Template| {
            args.language.is_none_or(|language| it.language == language)
                && args.contract.is_none_or(|contract| it.contract == contract)
        };
        let all: Vec<Begun> = TEMPLATES.iter().filter(fits).map(begun).collect();
        return sheet(&all, &[]).print(args.output, &all);
    };
    let usual = if language == Language::Bash { Contract::Lambda } else { Contract::Http };
    let contract = args.contract.unwrap_or(usual);
    let template = find(language, contract).with_context(|| none(language, contract))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(folder)?,
    };
    check(&name)?;
    write(template, folder, &name)?;
    let made = begun(template);
    sheet(std::slice::from_ref(&made), &[folder.display().to_string()])
        .print(args.output, &made)?;
    if args.output == Form::Table {
        for line in next_steps(template, folder, &name) {
            say(&line);
        }
    }
    Ok(())
}

fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn begun(template: &Template) -> Begun {
    Begun {
        language: word(&template.language),
        contract: word(&template.contract),
        files: template.files.iter().map(|(file, _)| *file).collect(),
    }
}

fn sheet(all: &[Begun], names: &[String]) -> Sheet {
    let row = |it: &Begun| vec![it.language.clone(), it.contract.clone(), it.files.join(" ")];
    let templates = all.iter().map(|it| format!("{}-{}", it.language, it.contract));
    Sheet {
        head: vec!["LANGUAGE", "CONTRACT", "FILES"],
        rows: all.iter().map(row).collect(),
        names: if names.is_empty() { templates.collect() } else { names.to_vec() },
        ..Sheet::default()
    }
}

fn none(language: Language, contract: Contract) -> String {
    let contracts = TEMPLATES.iter().filter(|it| it.language == language);
    let contracts: Vec<String> = contracts.map(|it| word(&it.contract)).collect();
    format!(
        "there is nothing to begin with for {} in {}: by --contract there is {}",
        word(&contract),
        word(&language),
        contracts.join(", ")
    )
}

/// The name of the folder, which need not be there.
fn name_of(folder: &Path) -> anyhow::Result<String> {
    let full = std::path::absolute(folder).context("finding the folder")?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned());
    name.context("the folder has no name: say one by --name")
}

/// Whether a Function can be called so.
pub fn check(name: &str) -> anyhow::Result<()> {
    let fits = name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.contains("---");
    ensure!(
        fits,
        "{name:?} can't be the name of a Function, as it becomes a host name: say one by --name of at \
         most {LONGEST} of a-z, 0-9 and '-', from a letter to a letter or digit"
    );
    Ok(())
}

/// Writes the files, none over one that is there. Where one can't be written, those before it go again.
fn write(template: &Template, folder: &Path, name: &str) -> anyhow::Result<()> {
    let mut made = Vec::new();
    for (place, text) in template.files {
        let path = folder.join(place);
        if let Err(error) = write_new(&path, &text.replace(NAME, name)) {
            for path in made {
                // It was made a moment ago, and may be gone.
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
        made.push(path);
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above).with_context(writing)?;
    }
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already and stays as it is: name another folder", path.display())
        }
        opened => opened.with_context(writing)?,
    };
    file.write_all(text.as_bytes()).with_context(writing).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

fn next_steps(template: &Template, folder: &Path, name: &str) -> Vec<String> {
    let path = if template.contract == Contract::Azure { " /api/hello" } else { "" };
    let event = if template.contract == Contract::Cloudevents { " --event-type test" } else { "" };
    // Programs in Go are larger than an object may be.
    let bucket =
        if template.language == Language::Go { " --bucket s3://BUCKET/PREFIX" } else { "" };
    vec![
        String::new(),
        "Next:".to_owned(),
        format!("  rouse deploy {}{bucket}", folder.display()),
        format!("  rouse invoke {name}{path}{event}"),
        format!("  rouse logs {name} -f"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_its_name_and_nothing_is_written_over() {
        let above = tempfile::tempdir().unwrap();
        for template in TEMPLATES {
            let folder = above.path().join(begun(template).language + &begun(template).contract);
            write(template, &folder, "shop").unwrap();
            let manifest = std::fs::read_to_string(folder.join("function.yaml")).unwrap();
            assert!(manifest.contains("name: shop\n"), "{manifest}");
            for (place, _) in template.files {
                let text = std::fs::read_to_string(folder.join(place)).unwrap();
                assert!(!text.contains(NAME), "{place}");
            }
            let error = write(template, &folder, "other").unwrap_err().to_string();
            assert!(error.contains("there already"), "{error}");
        }
    }

    #[test]
    fn what_can_t_be_made_whole_is_not_begun() {
        let above = tempfile::tempdir().unwrap();
        let template = find(Language::Python, Contract::Http).unwrap();
        let (last, _) = template.files.last().unwrap();
        std::fs::write(above.path().join(last), "mine").unwrap();
        assert!(write(template, above.path(), "shop").is_err());
        let there: Vec<_> = std::fs::read_dir(above.path()).unwrap().collect();
        assert_eq!(there.len(), 1, "{there:?}");
        assert_eq!(std::fs::read_to_string(above.path().join(last)).unwrap(), "mine");
    }

    #[test]
    fn names_are_those_that_a_function_may_have() {
        for name in ["hello", "a", "a-1", "x--y"] {
            check(name).unwrap();
        }
        for name in ["", "Hello", "1a", "a-", "a_b", "a---b", &"x".repeat(41)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert_eq!(name_of(Path::new("some/where/")).unwrap(), "where");
    }

    #[test]
    fn what_there_is_not_names_what_there_is() {
        let said = none(Language::Bash, Contract::Http);
        assert!(said.ends_with("by --contract there is lambda"), "{said}");
    }
}
