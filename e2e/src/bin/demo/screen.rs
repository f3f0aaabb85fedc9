//! Lines for people: one that changes while something goes on, where there is a terminal, and
//! plain lines elsewhere.

use std::io::{IsTerminal, Write};

/// Where the demo shows what happens.
pub struct Screen {
    terminal: bool,
    /// Whether the line that changes stands on the screen.
    progress: bool,
}

impl Screen {
    /// The standard output.
    pub fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), progress: false }
    }

    /// The head of a part.
    pub fn title(&mut self, text: &str) {
        self.line(&format!("\n{text}"));
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        if std::mem::take(&mut self.progress) {
            print!("\r\x1b[K");
        }
        println!("{text}");
    }

    /// What is so at the moment; the next line or progress takes its place. Without a terminal it
    /// is not shown.
    pub fn progress(&mut self, text: &str) {
        if self.terminal {
            print!("\r\x1b[K{text}");
            // A screen that can't be written to is nothing that this line could tell of.
            drop(std::io::stdout().flush());
            self.progress = true;
        }
    }
}
