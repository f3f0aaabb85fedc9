//! What a follower of a Function knows of its owner, for as long as one stream lasts. It is made
//! anew for each stream, after everything that was sent by the one before was stopped.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Counts, Moment, Table, VALID, Word};
use crate::scaling::Traffic;

/// Lines without an answer whose moments are kept. Whoever waits for more has waited for too long.
const MOST_UNHEARD: usize = 64;

/// One stream.
#[derive(Debug, Default)]
pub struct Subscription {
    number: u64,
    /// Lines that the owner has not answered, and when they were said.
    unheard: VecDeque<(u64, Moment)>,
    until: Option<Moment>,
    share: Option<NonZeroU32>,
    table: Table,
}

impl Subscription {
    /// The next line, said `now`. Nothing may be sent by a table that it does not tell of: first it
    /// is kept to, then acknowledged.
    pub fn tell(
        &mut self,
        pods: BTreeMap<Arc<str>, u32>,
        (peak, traffic): (u32, Traffic),
        now: Moment,
    ) -> Counts {
        self.number += 1;
        self.unheard.push_back((self.number, now));
        if self.unheard.len() > MOST_UNHEARD {
            self.unheard.pop_front();
        }
        Counts { number: self.number, table: self.table.version, pods, peak, traffic }
    }

    /// Takes in what the owner says. Answers whether the table is another.
    pub fn hear(&mut self, word: Word) -> bool {
        while let Some(&(number, said)) = self.unheard.front()
            && number <= word.heard
        {
            self.unheard.pop_front();
            self.until = self.until.max(Some(said + VALID));
        }
        self.share = word.share;
        match word.table {
            Some(table) => {
                self.table = table;
                true
            }
            None => false,
        }
    }

    /// Until when requests may be sent, if nothing is heard before.
    pub const fn until(&self) -> Option<Moment> {
        self.until
    }

    /// Most requests in one pod, if that is not all the same.
    pub const fn share(&self) -> Option<NonZeroU32> {
        self.share
    }

    /// The pods that requests may be sent to.
    pub fn pods(&self) -> &[Arc<str>] {
        &self.table.pods
    }
}
