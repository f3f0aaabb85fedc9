//! What commands for people tell of how they go, on standard error: a line for each thing that
//! changes, and on a terminal how long the last one has taken.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, interval_at};

/// How often a terminal is told how long it takes.
const BEAT: Duration = Duration::from_secs(1);
/// Takes what stands in the line of a terminal away.
const CLEAR: &str = "\r\x1b[K";

/// Tells one thing.
pub fn say(text: &str) {
    // Nobody may read it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Something that is waited for.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    last: String,
    is_terminal: bool,
}

impl Progress {
    /// It begins now.
    pub fn begin() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { begun: Instant::now(), last: String::new(), is_terminal }
    }

    /// Tells how it is, unless that was told last.
    pub fn now(&mut self, text: &str) {
        if text != self.last {
            self.clear();
            say(text);
            text.clone_into(&mut self.last);
        }
    }

    /// What was told last.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// Waits for `future`, and shows meanwhile that it lives.
    pub async fn during<F: Future>(&self, future: F) -> F::Output {
        tokio::pin!(future);
        let mut beats = interval_at(Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                biased;
                output = &mut future => {
                    self.clear();
                    return output;
                }
                _ = beats.tick(), if self.is_terminal => self.beat(),
            }
        }
    }

    fn beat(&self) {
        let mut screen = std::io::stderr();
        let _ = write!(screen, "{CLEAR}{} s ...", self.begun.elapsed().as_secs());
        let _ = screen.flush();
    }

    fn clear(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_comes_through_and_is_told_once() {
        let mut progress = Progress::begin();
        progress.now("one");
        progress.now("one");
        assert_eq!(progress.last(), "one");
        let slept = progress.during(async {
            tokio::time::sleep(BEAT * 3).await;
            7
        });
        assert_eq!(slept.await, 7);
    }
}
