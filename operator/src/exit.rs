//! How a command ends: the errors that scripts tell apart, each with an exit code of its own.

use std::io::Write;
use std::process::ExitCode;

use hyper::StatusCode;

/// What `rouse --help` says of exit codes. 2 is what the parser of the command line ends with.
pub const CODES: &str = "Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 there is no such \
object; 4 the cluster does not let you; 5 no cluster is reached, or Rouse is not installed there; 6 it \
took longer than --timeout; 7 what was asked about is not in order; of `invoke`: 8 the answer was 4xx, 9 \
it was 5xx";

/// An error that scripts may want to tell from others.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such object.
    #[error("{0}")]
    Missing(String),
    /// The API server does not let the user.
    #[error("{0}")]
    Forbidden(String),
    /// No API server is reached, or it knows nothing of Rouse.
    #[error("{0}")]
    NoCluster(String),
    /// It was waited for in vain.
    #[error("{0}")]
    TooLate(String),
    /// What was asked about is not in order.
    #[error("{0}")]
    NotInOrder(String),
    /// A Function answered that it failed.
    #[error("{who} answered {status}")]
    Answered {
        /// The Function.
        who: String,
        /// What it answered.
        status: StatusCode,
    },
}

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Self::Missing(_) => 3,
            Self::Forbidden(_) => 4,
            Self::NoCluster(_) => 5,
            Self::TooLate(_) => 6,
            Self::NotInOrder(_) => 7,
            Self::Answered { status, .. } => {
                if status.as_u16() < 500 {
                    8
                } else {
                    9
                }
            }
        }
    }
}

/// Tells the error of a process on standard error, and gives its exit code.
pub fn tell(error: &anyhow::Error) -> ExitCode {
    // Nobody may read it.
    let _ = std::io::stderr().write_all(text_of(error).as_bytes());
    ExitCode::from(code_of(error))
}

/// The error, and below it what it came of. Where in the program that was helps nobody who reads this.
fn text_of(error: &anyhow::Error) -> String {
    let mut text = format!("Error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors say what their cause says.
        if !last.contains(&cause) {
            text.extend(["  because: ", &cause, "\n"]);
        }
        last = cause;
    }
    text
}

fn code_of(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Failure>().map_or(1, Failure::code)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn codes_are_those_that_the_help_tells() {
        let answered = |status| Failure::Answered { who: "f".into(), status };
        let all = [
            (Failure::Missing(String::new()), "3 there is no such object"),
            (Failure::Forbidden(String::new()), "4 the cluster does not let you"),
            (Failure::NoCluster(String::new()), "5 no cluster is reached"),
            (Failure::TooLate(String::new()), "6 it took longer"),
            (Failure::NotInOrder(String::new()), "7 what was asked about is not in order"),
            (answered(StatusCode::NOT_FOUND), "8 the answer was 4xx"),
            (answered(StatusCode::BAD_GATEWAY), "9 it was 5xx"),
        ];
        for (failure, said) in all {
            let begins = format!("{} ", failure.code());
            assert!(said.starts_with(&begins) && CODES.contains(said), "{failure:?}");
        }
    }

    #[test]
    fn an_error_has_its_code_whatever_is_said_around_it() {
        let missing: anyhow::Result<()> = Err(Failure::Missing("no f".into()).into());
        assert_eq!(code_of(&missing.context("asking").unwrap_err()), 3);
        assert_eq!(code_of(&anyhow!("other")), 1);
    }

    #[test]
    fn an_error_is_told_with_its_causes_once() {
        let error = anyhow!("no route").context("connecting: no route").context("asking");
        assert_eq!(text_of(&error), "Error: asking\n  because: connecting: no route\n");
        assert_eq!(text_of(&anyhow!("alone")), "Error: alone\n");
    }
}
