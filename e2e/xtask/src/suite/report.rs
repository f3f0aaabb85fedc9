//! Times the steps of a run, counts its tests and says in the end how it went.
//! Must not choose the steps.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use crate::term;

/// What happened so far.
#[derive(Debug)]
pub struct Report {
    started: Instant,
    steps: Vec<(&'static str, Duration)>,
    tests: Tests,
}

/// Numbers of tests.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Tests {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { started: Instant::now(), steps: Vec::new(), tests: Tests::default() }
    }

    /// Runs a step under its name.
    pub fn step<T>(
        &mut self,
        name: &'static str,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let now = term::clock(self.started.elapsed());
        term::note(format!("\n== {now}  {name}"));
        let started = Instant::now();
        let outcome = run(self).with_context(|| format!("the step \"{name}\" failed"));
        self.steps.push((name, started.elapsed()));
        outcome
    }

    /// Runs a command that runs tests, shows what it says, and adds up the numbers in it; gives
    /// the number of those that passed.
    pub fn tests(&mut self, command: &mut Command) -> Result<u32> {
        let before = self.tests.passed;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start the tests")?;
        let output = child.stdout.take().context("the tests have no output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            self.tests = self.tests.and(&line);
            term::result(line);
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("tests failed ({status})");
        }
        Ok(self.tests.passed - before)
    }

    /// Prints the steps with their times, and as the last line the number of tests.
    pub fn finish(mut self, outcome: &Result<()>) {
        // A step that failed without a failed test counts as one: the last line must not look good.
        if outcome.is_err() && self.tests.failed == 0 {
            self.tests.failed = 1;
        }
        term::result("");
        for (name, took) in &self.steps {
            term::result(format!("{:>6}  {name}", term::clock(*took)));
        }
        term::result(format!("{:>6}  in all", term::clock(self.started.elapsed())));
        if let Err(error) = outcome {
            term::result(format!("{error:#}"));
        }
        term::result(format!("{} passed, {} failed", self.tests.passed, self.tests.failed));
    }
}

impl Tests {
    /// Adds the numbers of a line as `test result: ok. 3 passed; 0 failed; ...`.
    fn and(self, line: &str) -> Self {
        let Some(("", numbers)) = line.split_once("test result: ") else { return self };
        let number = |word: &str| -> u32 {
            let before = numbers.split(';').find_map(|part| part.strip_suffix(word));
            before.and_then(|part| part.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
        };
        Self { passed: self.passed + number(" passed"), failed: self.failed + number(" failed") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_the_lines_that_close_a_test_program() {
        let lines = [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
            "a test that says test result: ok. 5 passed; 0 failed",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ];
        let tests = lines.iter().fold(Tests::default(), |tests, line| tests.and(line));
        assert_eq!(tests, Tests { passed: 13, failed: 2 });
    }

    #[test]
    fn a_failed_step_fails_and_is_in_the_list() {
        let mut report = Report::start();
        let run =
            |report: &mut Report, script| report.tests(Command::new("sh").args(["-c", script]));
        assert!(report.step("fails", |report| run(report, "exit 1")).is_err());
        assert_eq!(run(&mut report, "exit 0").unwrap(), 0);
        assert_eq!(report.steps.len(), 1);
    }
}
