//! Up to where PostgreSQL may forget its log.

use std::collections::VecDeque;

use super::{Lsn, Place, Reader};

/// What was told, what of it is done, and the position that follows: behind it there is no change
/// with which a Function is not done. Where nothing is told of, it follows the server, so that a
/// slot whose changes interest nobody does not keep the log.
///
/// Its size is bounded by the changes that are told and not done.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Positions that may be confirmed, each once all changes up to a place are done.
    open: VecDeque<(Option<Place>, Lsn)>,
    told: Option<Place>,
    done: Option<Place>,
    confirmed: Lsn,
}

impl Ledger {
    /// A ledger for a slot that has `confirmed` already.
    pub fn new(confirmed: Lsn) -> Self {
        Self { confirmed, ..Self::default() }
    }

    /// A change was told.
    pub fn tell(&mut self, place: Place) {
        self.told = self.told.max(Some(place));
    }

    /// A transaction is over, and all its changes were told.
    pub fn commit(&mut self, end: Lsn) {
        match self.open.back_mut() {
            Some((told, last)) if *told == self.told => *last = end.max(*last),
            _ => self.open.push_back((self.told, end)),
        }
        self.settle();
    }

    /// The server has read its log up to `end` and has nothing more to tell of it. Within a
    /// transaction that says nothing.
    pub fn reach(&mut self, reader: &Reader, end: Lsn) {
        if !reader.is_within() {
            self.commit(end);
        }
    }

    /// All changes up to `place` are done. One that was told on a former connection counts as well.
    pub fn finish(&mut self, place: Place) {
        self.done = self.done.max(Some(place));
        self.settle();
    }

    /// Whether all that was told is done.
    pub fn is_settled(&self) -> bool {
        self.told <= self.done
    }

    /// The position to confirm. It never goes back.
    pub const fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    fn settle(&mut self) {
        while let Some((told, end)) = self.open.front()
            && *told <= self.done
        {
            self.confirmed = self.confirmed.max(*end);
            self.open.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::postgres::Selection;

    fn place(commit: u64, index: u64) -> Place {
        Place { commit: Lsn(commit), index }
    }

    #[test]
    fn a_transaction_is_confirmed_when_its_last_change_is_done() {
        let mut ledger = Ledger::new(Lsn(5));
        ledger.tell(place(10, 0));
        ledger.tell(place(10, 1));
        ledger.commit(Lsn(12));
        ledger.finish(place(10, 0));
        assert_eq!((ledger.confirmed(), ledger.is_settled()), (Lsn(5), false));
        ledger.finish(place(10, 1));
        assert_eq!((ledger.confirmed(), ledger.is_settled()), (Lsn(12), true));
    }

    #[test]
    fn what_is_done_before_its_transaction_is_over_waits_for_it() {
        let mut ledger = Ledger::default();
        ledger.tell(place(10, 0));
        ledger.finish(place(10, 0));
        assert_eq!(ledger.confirmed(), Lsn(0));
        ledger.commit(Lsn(12));
        assert_eq!(ledger.confirmed(), Lsn(12));
    }

    #[test]
    fn the_log_is_let_go_while_nothing_is_told_of_and_not_within_a_transaction() {
        let mut ledger = Ledger::default();
        let mut reader = Reader::new(Selection::default());
        ledger.reach(&reader, Lsn(100));
        assert_eq!(ledger.confirmed(), Lsn(100));
        let begin = [&b"B"[..], &200_u64.to_be_bytes(), &[0; 12]].concat();
        reader.read(&begin).unwrap();
        ledger.reach(&reader, Lsn(300));
        assert_eq!(ledger.confirmed(), Lsn(100));
    }

    proptest! {
        /// Transactions of some changes each, between them news of the log, and changes that get
        /// done in their order, at any time.
        #[test]
        fn nothing_is_confirmed_early_and_all_in_the_end(
            steps in prop::collection::vec((0..4_u64, 0..6_usize), 1..100),
        ) {
            let mut ledger = Ledger::default();
            let reader = Reader::new(Selection::default());
            let mut told = VecDeque::new();
            let mut end = 0;
            for (changes, finished) in steps {
                let commit = end + 1;
                end += 10;
                for index in 0..changes {
                    ledger.tell(place(commit, index));
                    told.push_back((place(commit, index), Lsn(end)));
                }
                ledger.commit(Lsn(end));
                end += 10;
                ledger.reach(&reader, Lsn(end));
                for _ in 0..finished {
                    if let Some((place, _)) = told.pop_front() {
                        ledger.finish(place);
                    }
                }
                let first_open = told.front().map(|(_, end)| *end);
                prop_assert!(first_open.is_none_or(|end| ledger.confirmed() < end));
                prop_assert!(ledger.open.len() <= told.len());
                prop_assert_eq!(ledger.is_settled(), told.is_empty());
                if told.is_empty() {
                    prop_assert_eq!(ledger.confirmed(), Lsn(end));
                }
            }
        }
    }
}
