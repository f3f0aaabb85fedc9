//! What the Functions of an activator teach one another: how long Functions are without requests at
//! first, and how much memory a pod takes on average. Shared by their tasks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rouse_core::scaling::Policy;
use rouse_core::scaling::idle::Lesson;
use rouse_core::scaling::idle::population::{Prior, Taught};
use tokio::time::Instant;

/// The Functions of an activator.
#[derive(Debug)]
pub struct Community {
    origin: Instant,
    taught: Mutex<Taught>,
    /// Mean of the memory that pods take, in bytes; 0 while nothing is known.
    usual_memory: AtomicU64,
}

impl Default for Community {
    fn default() -> Self {
        Self { origin: Instant::now(), taught: Mutex::default(), usual_memory: AtomicU64::new(0) }
    }
}

impl Community {
    /// Takes in what one of them taught.
    pub fn learn(&self, lesson: Lesson) {
        self.taught.lock().unwrap_or_else(PoisonError::into_inner).learn(lesson);
    }

    /// What all of them teach.
    pub fn prior(&self, now: Instant) -> Arc<Prior> {
        let now = now.saturating_duration_since(self.origin);
        self.taught.lock().unwrap_or_else(PoisonError::into_inner).prior(now)
    }

    /// Takes in how much memory a pod takes on average.
    pub fn set_usual_memory(&self, bytes: u64) {
        self.usual_memory.store(bytes, Ordering::Relaxed);
    }

    /// `policy` for pods that take `memory`, beside those of all others.
    #[allow(clippy::cast_precision_loss, reason = "a mebibyte more or less does not matter")]
    pub fn weigh(&self, policy: Policy, memory: Option<u64>) -> Policy {
        let usual = self.usual_memory.load(Ordering::Relaxed);
        match memory {
            Some(memory) if usual > 0 => policy.weighed(memory as f64, usual as f64),
            _ => policy,
        }
    }
}
