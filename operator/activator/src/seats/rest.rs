//! When a connection between two requests gives back what it needs only for requests: the parser and
//! its buffers, eight times what is left. One that has a request now and then does so after each;
//! one that has them in quick succession once that is over.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Seconds between two requests that come in quick succession.
const QUICK: u32 = 1;

/// It keeps what it has.
const NEVER: u8 = 0;
/// It may rest after the request.
const AFTER: u8 = 1;
/// It may rest when the next request does not come soon after.
const LATER: u8 = 2;

/// Whether and when a connection may rest. Its own task writes it, plainly.
#[derive(Debug)]
pub(super) struct Rest {
    when: AtomicU8,
    /// The second in which the last request ended; 0 before.
    ended: AtomicU32,
}

impl Rest {
    pub const fn new() -> Self {
        Self { when: AtomicU8::new(NEVER), ended: AtomicU32::new(0) }
    }

    /// A request has come after which the connection may rest.
    pub fn allow(&self, now: u32) {
        let ended = self.ended.load(Ordering::Relaxed);
        let quick = ended > 0 && now.saturating_sub(ended) <= QUICK;
        self.when.store(if quick { LATER } else { AFTER }, Ordering::Relaxed);
    }

    /// The connection keeps what it has until a request after which it may rest.
    pub fn forbid(&self) {
        self.when.store(NEVER, Ordering::Relaxed);
    }

    pub fn note_end(&self, now: u32) {
        self.ended.store(now, Ordering::Relaxed);
    }

    /// Whether it is time, where the connection is idle.
    pub fn is_due(&self, now: u32) -> bool {
        match self.when.load(Ordering::Relaxed) {
            AFTER => true,
            LATER => self.is_quiet(now),
            _ => false,
        }
    }

    /// Whether it is time by now and was not when the last request ended.
    pub fn has_come(&self, now: u32) -> bool {
        self.when.load(Ordering::Relaxed) == LATER && self.is_quiet(now)
    }

    fn is_quiet(&self, now: u32) -> bool {
        now.saturating_sub(self.ended.load(Ordering::Relaxed)) > QUICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_after_each_request_or_when_no_more_come() {
        let rest = Rest::new();
        assert!(!rest.is_due(9), "it may never before it is allowed");
        rest.allow(10);
        rest.note_end(10);
        assert!(rest.is_due(10) && !rest.has_come(10), "the first may be the last");
        rest.allow(11);
        rest.note_end(11);
        assert!(!rest.is_due(11) && !rest.is_due(12), "another may come soon");
        assert!(rest.is_due(13) && rest.has_come(13));
        rest.allow(20);
        assert!(rest.is_due(20), "they come now and then");
        rest.forbid();
        assert!(!rest.is_due(99) && !rest.has_come(99));
    }
}
