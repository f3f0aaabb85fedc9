//! Runs other programs and turns their failures into readable errors.
//! Must not know what the programs are for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of a log that are shown when something failed.
const TAIL_LINES: usize = 25;

/// Runs a command with the terminal as its output; fails when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {}", line(command)))?;
    if !status.success() {
        bail!("failed ({status}): {}", line(command));
    }
    Ok(())
}

/// Runs a command and gives its standard output, trimmed; its standard error goes in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = capture(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("failed ({}): {}\n{}", output.status, line(command), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a command runs and succeeds; nothing is shown.
pub fn succeeds(command: &mut Command) -> bool {
    capture(command).is_ok_and(|output| output.status.success())
}

/// Runs a command with `input` as its standard input; nothing is shown unless it fails.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", line(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading all says why in its output, which is shown below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("failed ({}): {}\n{}", output.status, line(command), said.trim());
    }
    Ok(())
}

/// Runs a command with all its output in `log`; the error shows the end of the log.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("could not start {}", line(command)))?;
    if !status.success() {
        let (log, tail) = (log.display(), tail(log));
        bail!("failed ({status}): {}\n{tail}\nThe whole log is in {log}", line(command));
    }
    Ok(())
}

/// The last lines of a log, or why it can't be read.
pub fn tail(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let start = lines.len().saturating_sub(TAIL_LINES);
            let last = lines.get(start..).unwrap_or_default();
            format!("    {}", last.join("\n    "))
        }
        Err(error) => format!("    (no log at {}: {error})", log.display()),
    }
}

/// Finds a program in PATH or where system programs are on machines whose users' PATH lacks them.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn capture(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {}", line(command)))
}

/// A command as a person would type it.
fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_trimmed_and_errors_carry_what_was_said() {
        assert_eq!(output(Command::new("echo").arg("hi")).unwrap(), "hi");
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn feeding_gives_the_input() {
        feed(Command::new("grep").arg("needle"), "hay\nneedle\n").unwrap();
        assert!(feed(Command::new("grep").arg("needle"), "hay\n").is_err());
    }

    #[test]
    fn a_program_that_nobody_has_is_not_found() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
