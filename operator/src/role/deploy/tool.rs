//! Runs the tools of languages, and tells their last words where they fail.

use std::process::{Output, Stdio};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::progress::Progress;

/// What is shown of a tool's last words.
const LAST_LINES: usize = 15;

/// A tool, for people.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What it does now.
    pub doing: &'static str,
    /// What to do where it is not there.
    pub missing: &'static str,
    /// What to do where it fails.
    pub advice: &'static str,
}

/// Runs `command`; gives what it wrote on standard output.
pub async fn run(command: &mut Command, tool: &Tool) -> anyhow::Result<Vec<u8>> {
    let Tool { name, doing, missing, advice } = tool;
    let mut progress = Progress::begin();
    progress.now(doing);
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = progress.during(running).await;
    let output = output.with_context(|| format!("{name} can't be started: {missing}"))?;
    let Output { status, stdout, stderr } = output;
    if status.success() {
        return Ok(stdout);
    }
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n  ");
    bail!("{name} failed ({status}):\n  {last}\n{advice}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Tool =
        Tool { name: "pip", doing: "it gets", missing: "install it", advice: "do this" };

    #[tokio::test]
    async fn a_tool_that_fails_or_is_missing_is_told_with_what_to_do() {
        let mut command = Command::new("sh");
        let failed = run(command.args(["-c", "echo why >&2; exit 3"]), &TOOL).await;
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("why") && text.ends_with("do this"), "{text}");
        let missing = run(&mut Command::new("no-such-tool"), &TOOL).await.unwrap_err();
        assert!(missing.to_string().ends_with("install it"), "{missing}");
        let said = run(Command::new("echo").arg("yes"), &TOOL).await.unwrap();
        assert_eq!(said, b"yes\n");
    }
}
