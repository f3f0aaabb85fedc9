//! The way straight to the pods of one Function that another activator owns, as requests find it. The
//! control side opens and closes it; requests that don't find it open ask for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;

use super::Wish;
use crate::admission::{Gate, Permit};

/// Where wishes go.
pub(crate) type Wishes = mpsc::Sender<Wish>;

/// The way straight to the pods; closed by default.
#[derive(Debug, Default)]
pub(crate) struct Shortcut {
    gate: ArcSwapOption<Gate>,
    /// Whether there may be one: not where there is a hard limit.
    allowed: AtomicBool,
    /// A request found no place since somebody last looked.
    missed: AtomicBool,
    wishes: OnceLock<Wishes>,
}

impl Shortcut {
    /// A slot, if there is one here.
    pub fn admit(&self) -> Option<Permit> {
        self.gate.load().as_ref()?.admit_straight()
    }

    /// Notes that a request of the Function `uid` found none: it makes the way worth keeping, or
    /// worth opening.
    pub fn note_miss(&self, uid: &Arc<str>) {
        let known = !self.allowed.load(Ordering::Relaxed) || self.missed.load(Ordering::Relaxed);
        if known || self.missed.swap(true, Ordering::Relaxed) || self.gate.load().is_some() {
            return;
        }
        let heard =
            self.wishes.get().is_some_and(|wishes| wishes.try_send(Arc::clone(uid)).is_ok());
        if !heard {
            self.missed.store(false, Ordering::Relaxed);
        }
    }

    /// Whether a request found no place since this was last asked.
    pub fn take_miss(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Says where wishes go.
    pub fn send_wishes_to(&self, wishes: &Wishes) {
        self.wishes.get_or_init(|| wishes.clone());
    }

    /// Says whether there may be one.
    pub fn allow(&self, allowed: bool) {
        self.allowed.store(allowed, Ordering::Relaxed);
    }

    /// Opens it, for as much as `gate` lets through.
    pub fn open(&self, gate: &Arc<Gate>) {
        self.gate.store(Some(Arc::clone(gate)));
    }

    /// Closes it. The next request that misses it asks for it.
    pub fn close(&self) {
        self.gate.store(None);
        self.missed.store(false, Ordering::Relaxed);
    }
}
