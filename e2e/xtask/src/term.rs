//! Owns what the chores print: progress to standard error, results to standard output.
//! Must not decide anything.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// A line of progress on standard error. A closed terminal is no reason to stop.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line that the chore was called for, on standard output.
pub fn result(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A duration as `m:ss`.
pub fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A duration as seconds with one decimal, for steps that take less than a few minutes.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_pads_seconds() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_millis(9_900)), "0:09");
    }
}
