//! The guide for the first hour, run line by line: what is typed there works, and answers as is written
//! there.
//!
//! In a block `console` a line that begins with `$ ` is typed, and what follows is what it says. `...`
//! stands for anything, alone on a line for any lines. How wide columns are does not count. A block with
//! `file=NAME` behind its language is such a file. Blocks of other languages are read by people only.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rouse_e2e::scope::{PATIENCE, Scope};
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

const GUIDE: &str = include_str!("../../../operator/docs/first-hour.md");

/// The port that the guide takes, and where the id of what it leaves running is noted.
const PORT: &str = "8090";
const BACKGROUND: &str = "background";

/// What the guide leaves running, which ends with the test.
struct Background(PathBuf);

impl Drop for Background {
    fn drop(&mut self) {
        let id = std::fs::read_to_string(&self.0).unwrap_or_default();
        if !id.is_empty() {
            // It may have ended.
            let _ = Command::new("kill").arg(id.trim()).status();
        }
    }
}

/// Commands that only look: what they say may take a moment to become so.
const LOOKS: [&str; 8] = ["list", "status", "logs", "why", "cold", "usage", "get", "describe"];

/// What the guide has somebody do.
#[derive(Debug, PartialEq)]
enum Step {
    Write { file: String, text: String },
    Type { line: String, expected: Vec<String> },
}

fn steps(guide: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some((_, file)) = language.split_once(" file=") {
            let text = block.join("\n") + "\n";
            steps.push(Step::Write { file: file.to_owned(), text });
        } else if language == "console" {
            for line in block {
                match (line.strip_prefix("$ "), steps.last_mut()) {
                    (Some(typed), _) => {
                        let line = typed.to_owned();
                        steps.push(Step::Type { line, expected: Vec::new() });
                    }
                    (None, Some(Step::Type { expected, .. })) => expected.push(line.to_owned()),
                    (None, _) => panic!("{line:?} is said before anything is typed"),
                }
            }
        }
    }
    steps
}

/// Whether what was said is what was expected.
fn agrees(said: &[&str], expected: &[String]) -> bool {
    match (said, expected) {
        (_, []) => said.is_empty(),
        (_, [any, rest @ ..]) if any == "..." => {
            (0..=said.len()).any(|left_out| agrees(&said[left_out..], rest))
        }
        ([first, said @ ..], [line, rest @ ..]) => is_like(first, line) && agrees(said, rest),
        ([], _) => false,
    }
}

fn is_like(said: &str, expected: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (said, expected) = (words(said), words(expected));
    let mut parts = expected.split("...").map(str::trim);
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A shell of somebody who has `rouse` and `kubectl` on his path, and this namespace in his context.
fn shell(folder: &Path, typed: &str) -> anyhow::Result<Command> {
    let path = std::env::var("PATH")?;
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{{ {typed}\n}} 2>&1")]).current_dir(folder.join("home"));
    shell.env("PATH", format!("{}:{path}", folder.join("bin").display()));
    shell.env("KUBECONFIG", folder.join("config")).env("KUBECACHEDIR", folder.join("cache"));
    Ok(shell)
}

fn prepare(scope: &Scope, folder: &Path) -> anyhow::Result<()> {
    let own = std::env::var_os("ROUSE_E2E_KUBECONFIG").context("a kubeconfig")?;
    let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(own)?)?;
    for context in config["contexts"].as_array_mut().into_iter().flatten() {
        context["context"]["namespace"] = json!(scope.namespace);
    }
    std::fs::write(folder.join("config"), config.to_string())?;
    for made in ["bin", "home"] {
        std::fs::create_dir(folder.join(made))?;
    }
    let program = std::env::var_os("ROUSE_E2E_PROGRAM").context("the program")?;
    let kubectl = std::env::var_os("ROUSE_E2E_KUBECTL")
        .context("ROUSE_E2E_KUBECTL must name kubectl; `cargo xtask test` sets it")?;
    for (name, program) in [("rouse", &program), ("kubectl-rouse", &program), ("kubectl", &kubectl)]
    {
        if Path::new(program).is_absolute() {
            std::os::unix::fs::symlink(program, folder.join("bin").join(name))?;
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_first_hour_goes_as_the_guide_says() {
    Scope::run("guide", async |scope| {
        let folder = tempfile::tempdir()?;
        prepare(&scope, folder.path())?;
        // Somebody else may go through his own first hour here.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let _background = Background(folder.path().join(BACKGROUND));
        for step in steps(GUIDE) {
            match step {
                Step::Write { file, text } => {
                    std::fs::write(folder.path().join("home").join(file), text)?;
                }
                Step::Type { line, expected } => {
                    // The guide is written for a namespace that nobody knows yet.
                    let named = |text: &String| text.replace("NAMESPACE", &scope.namespace);
                    let expected: Vec<String> = expected.iter().map(named).collect();
                    let mut line = line.replace(PORT, &port);
                    if line.ends_with('&') {
                        write!(line, " echo $! > ../{BACKGROUND}")?;
                    }
                    follow(folder.path(), &line, &expected).await?;
                }
            }
        }
        Ok(())
    })
    .await;
}

async fn follow(folder: &Path, line: &str, expected: &[String]) -> anyhow::Result<()> {
    let only_looks = line.split_whitespace().any(|word| LOOKS.contains(&word));
    let begun = Instant::now();
    let mut looks = interval(Duration::from_millis(500));
    loop {
        looks.tick().await;
        let ended = shell(folder, line)?.output()?;
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        if ended.status.success() && agrees(&lines, expected) {
            return Ok(());
        }
        let mut wanted = String::new();
        for line in expected {
            writeln!(wanted, "{line}")?;
        }
        ensure!(
            only_looks && begun.elapsed() < PATIENCE,
            "$ {line}\n{said}\nended with {}, and the guide says:\n{wanted}",
            ended.status
        );
    }
}

#[test]
fn a_guide_is_read_as_it_is_meant() {
    let guide = "# A\n```console\n$ one\nsaid\n$ two\n```\nText.\n```yaml file=a.yaml\nx: 1\n```\n\
                 ```sh\nnot typed\n```\n";
    let typed = |line: &str, expected: &[&str]| Step::Type {
        line: line.into(),
        expected: expected.iter().map(|line| (*line).to_owned()).collect(),
    };
    let file = Step::Write { file: "a.yaml".into(), text: "x: 1\n".into() };
    assert_eq!(steps(guide), [typed("one", &["said"]), typed("two", &[]), file]);
}

#[test]
fn what_is_said_is_held_against_the_guide() {
    let agree = |said: &[&str], expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        agrees(said, &expected)
    };
    assert!(agree(&["NAME   STATE", "hello  Asleep"], &["NAME STATE", "hello ..."]));
    assert!(agree(&["a", "b", "c"], &["...", "c"]) && agree(&["c"], &["...", "c"]));
    assert!(agree(&["took 41.5 ms in all"], &["took ... ms in all"]));
    assert!(!agree(&["a", "b"], &["a"]) && !agree(&["a"], &["a", "b"]) && !agree(&[], &["a"]));
    assert!(!agree(&["took 41.5 s"], &["took ... ms"]) && !agree(&["xa"], &["a"]));
}

#[test]
fn the_guide_leads_from_the_first_file_to_the_last_removal() {
    let typed: Vec<String> = steps(GUIDE)
        .into_iter()
        .filter_map(|step| match step {
            Step::Type { line, .. } => Some(line),
            Step::Write { .. } => None,
        })
        .collect();
    for part in ["init", "deploy", "invoke", "list", "status", "logs", "why", "rollback", "delete"]
    {
        assert!(typed.iter().any(|line| line.contains(part)), "{part} is not in {typed:?}");
    }
}
