//! What activators counted of each Function, as far as it was heard, and when the status is to say so.
//! The sums themselves are in the status: whoever leads next goes on from there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rouse_core::usage::book::{Standing, Word, settle};
use rouse_core::usage::{Count, Process, UsageReport};
use rouse_crds::v1alpha1::Usage;
use tokio::time::Instant;

/// Shortest time between two writes of what a Function used.
const PAUSE: Duration = Duration::from_mins(1);
/// Processes whose end is remembered.
const MOST_ENDED: usize = 4096;

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Books(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By the UID of the Function.
    functions: HashMap<String, OfFunction>,
    /// The process of each activator that spoke last, by the UID of its pod.
    speaking: HashMap<String, Process>,
    /// Processes that said farewell.
    ended: HashSet<Process>,
}

#[derive(Debug, Default)]
struct OfFunction {
    words: BTreeMap<Process, Vec<Count>>,
    /// When the status may next be written for what it says of usage.
    due: Option<Instant>,
    /// A reconcile was asked for.
    asked: bool,
}

/// What the status shall say of usage.
#[derive(Debug)]
pub(crate) struct Settled {
    pub usage: Option<Usage>,
    /// When there is more to say.
    pub due: Option<Instant>,
}

impl Books {
    /// Takes in what was counted of a Function; whether that calls for a reconcile.
    pub fn hear(&self, report: UsageReport) -> bool {
        let UsageReport { uid, process, counts, .. } = report;
        let mut state = self.lock();
        let of_function = state.functions.entry(uid).or_default();
        of_function.words.insert(process, counts);
        !std::mem::replace(&mut of_function.asked, true)
    }

    /// Takes in which process speaks for its pod.
    pub fn introduce(&self, process: Process) {
        let pod = Process::pod_of(process.as_str()).to_owned();
        self.lock().speaking.insert(pod, process);
    }

    /// Takes in that a process has said all.
    pub fn end(&self, process: Process) {
        let mut state = self.lock();
        if state.ended.len() >= MOST_ENDED {
            state.ended.clear();
        }
        state.ended.insert(process);
    }

    /// What the status of a Function shall say that says `before`. `is_there` tells of the pods of
    /// activators, by UID.
    pub fn settle(
        &self,
        uid: &str,
        before: Option<&Usage>,
        is_there: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Settled {
        let mut state = self.lock();
        let State { functions, speaking, ended } = &mut *state;
        let nothing_new = || Settled { usage: before.cloned(), due: None };
        let Some(of_function) = functions.get_mut(uid) else { return nothing_new() };
        let standing = |mark: &str| standing_of(mark, speaking, ended, &is_there);
        let words: Vec<Word<'_>> =
            of_function.words.iter().map(|(process, counts)| Word { process, counts }).collect();
        let settled = settle(before, &words, standing, now);
        if settled.as_ref() == before {
            of_function.asked = false;
            return nothing_new();
        }
        let due = *of_function.due.get_or_insert_with(|| match before {
            None => Instant::now(),
            // Who has just begun to lead would else write all of them at once.
            Some(_) => Instant::now() + PAUSE.mul_f64(share(uid)),
        });
        if Instant::now() < due {
            return Settled { usage: before.cloned(), due: Some(due) };
        }
        Settled { usage: settled, due: None }
    }

    /// The status says it.
    pub fn wrote(&self, uid: &str, is_there: impl Fn(&str) -> bool) {
        let mut state = self.lock();
        let State { functions, speaking, ended } = &mut *state;
        let Some(of_function) = functions.get_mut(uid) else { return };
        of_function.due = Some(Instant::now() + PAUSE);
        of_function.asked = false;
        of_function.words.retain(|process, _| {
            standing_of(process.as_str(), speaking, ended, &is_there) == Standing::Alive
        });
    }

    pub fn forget(&self, uid: &str) {
        self.lock().functions.remove(uid);
    }

    /// Forgets all Functions but those that `is_there`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().functions.retain(|uid, _| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn standing_of(
    mark: &str,
    speaking: &HashMap<String, Process>,
    ended: &HashSet<Process>,
    is_there: impl Fn(&str) -> bool,
) -> Standing {
    let pod = Process::pod_of(mark);
    if ended.contains(mark) {
        return Standing::Ended;
    }
    let replaced = speaking.get(pod).is_some_and(|process| process.as_str() != mark);
    if replaced || !is_there(pod) { Standing::Broken } else { Standing::Alive }
}

/// A number below 1, the same for a Function always.
fn share(uid: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    u8::try_from(hasher.finish() & 0xff).map_or(0.5, |byte| f64::from(byte) / 256.0)
}

#[cfg(test)]
mod tests {
    use rouse_core::function::FunctionKey;
    use rouse_crds::v1alpha1::UsageSums;

    use super::*;

    const UID: &str = "uid";

    fn heard(books: &Books, process: &Process, requests: u64) -> bool {
        let sums = UsageSums { requests, ..UsageSums::default() };
        let count = Count { number: 1, revision: "r".into(), active: true, sums };
        books.hear(UsageReport {
            key: FunctionKey::new("shop", "f"),
            uid: UID.into(),
            process: process.clone(),
            counts: vec![count],
        })
    }

    fn settled(books: &Books, before: Option<&Usage>) -> (u64, bool) {
        let Settled { usage, due } = books.settle(UID, before, |_| true, Timestamp::UNIX_EPOCH);
        (usage.map_or(0, |usage| usage.total.requests), due.is_some())
    }

    fn write(books: &Books, before: Option<&Usage>, pods: &[&str]) -> Usage {
        let is_there = |pod: &str| pods.contains(&pod);
        let usage = books.settle(UID, before, is_there, Timestamp::UNIX_EPOCH).usage.unwrap();
        books.wrote(UID, is_there);
        usage
    }

    #[tokio::test(start_paused = true)]
    async fn usage_is_told_at_once_and_then_once_a_minute() {
        let books = Books::default();
        let process = Process::new("pod", 1);
        assert_eq!(settled(&books, None), (0, false));
        assert!(heard(&books, &process, 3));
        assert!(!heard(&books, &process, 4), "a reconcile is on its way");
        assert_eq!(settled(&books, None), (4, false));
        let first = write(&books, None, &["pod"]);
        assert_eq!(settled(&books, Some(&first)), (4, false));
        assert!(heard(&books, &process, 9));
        assert_eq!(settled(&books, Some(&first)), (4, true));
        tokio::time::advance(PAUSE).await;
        assert_eq!(settled(&books, Some(&first)), (9, false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leads_next_waits_before_it_goes_on() {
        let process = Process::new("pod", 1);
        let former = Books::default();
        heard(&former, &process, 3);
        let status = write(&former, None, &["pod"]);
        let books = Books::default();
        assert_eq!(settled(&books, Some(&status)), (3, false));
        heard(&books, &process, 5);
        assert_eq!(settled(&books, Some(&status)), (3, true));
        tokio::time::advance(PAUSE).await;
        assert_eq!(settled(&books, Some(&status)), (5, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_crashed_leaves_a_gap_and_one_that_left_does_not() {
        for farewell in [false, true] {
            let books = Books::default();
            let (old, new) = (Process::new("pod", 1), Process::new("pod", 2));
            books.introduce(old.clone());
            heard(&books, &old, 3);
            let first = write(&books, None, &["pod"]);
            if farewell {
                books.end(old.clone());
            }
            books.introduce(new.clone());
            tokio::time::advance(PAUSE).await;
            heard(&books, &new, 1);
            let second = write(&books, Some(&first), &["pod"]);
            tokio::time::advance(PAUSE).await;
            heard(&books, &new, 2);
            let third = write(&books, Some(&second), &["pod"]);
            assert_eq!((third.total.requests, third.marks.len()), (5, 1));
            assert_eq!(third.gaps, u32::from(!farewell));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_answer_was_lost_counts_nothing_twice() {
        let books = Books::default();
        let process = Process::new("pod", 1);
        heard(&books, &process, 3);
        // The pod goes; the status is written, and nobody hears that it was.
        let gone = |_: &str| false;
        let status = books.settle(UID, None, gone, Timestamp::UNIX_EPOCH).usage.unwrap();
        tokio::time::advance(PAUSE).await;
        let again = books.settle(UID, Some(&status), gone, Timestamp::UNIX_EPOCH).usage.unwrap();
        assert_eq!(again.total.requests, 3);
    }
}
