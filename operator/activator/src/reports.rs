//! What this activator tells the controller: how far its routes go and the latest report of each
//! owned Function, as a stream of JSON lines for whoever asks. A slow reader gets the latest, not
//! all; memory is bounded by the number of Functions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Response;
use rouse_core::report::{FunctionReport, ReportLine, Routed};
use rouse_core::usage::{Process, UsageReport};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::body::ResponseBody;
use crate::ndjson::{self, encode};

/// Silence after which a stream says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines that are sent at once.
const MOST_LINES: usize = 256;
/// Releases that are remembered for readers that have not had them. A reader that lags further has
/// its stream ended, and begins anew.
const MOST_RELEASES: usize = 4096;

/// The latest report of each owned Function. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    latest: Mutex<Latest>,
    /// The number of the newest entry. It wakes readers for whatever else is new, too.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Latest {
    newest: u64,
    /// Entries by their numbers; each UID has one at most.
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<Subject, u64>,
    releases: usize,
    /// The newest entry that was dropped unread.
    dropped: u64,
    routed: Routed,
    process: Option<Process>,
}

/// What an entry is about: a Function, by its UID, or what it used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Function(Arc<str>),
    Usage(Arc<str>),
}

#[derive(Debug)]
enum Entry {
    Function(Arc<FunctionReport>),
    Usage(Arc<UsageReport>),
    Released { uid: Arc<str>, membership: u64 },
}

impl Entry {
    fn membership(&self) -> u64 {
        match self {
            Self::Function(report) => report.membership,
            Self::Released { membership, .. } => *membership,
            Self::Usage(_) => 0,
        }
    }
}

impl Reports {
    /// Puts the report in the place of what was told of that Function before.
    pub fn publish(&self, report: FunctionReport) {
        let uid: Arc<str> = report.uid.as_str().into();
        self.put(Subject::Function(uid), Entry::Function(Arc::new(report)));
    }

    /// Puts what a Function used in the place of what was told of that before.
    pub fn publish_usage(&self, report: UsageReport) {
        let uid: Arc<str> = report.uid.as_str().into();
        self.put(Subject::Usage(uid), Entry::Usage(Arc::new(report)));
    }

    /// Tells no more what a Function used that was deleted.
    pub fn forget_usage(&self, uid: &str) {
        self.lock().remove(&Subject::Usage(uid.into()));
    }

    /// Says which process this is.
    pub fn introduce(&self, process: Process) {
        self.lock().process = Some(process);
    }

    /// Says that a Function that was owned under the version `membership` is so no longer. Has no
    /// effect where it is owned again since.
    pub fn release(&self, uid: &Arc<str>, membership: u64) {
        let subject = Subject::Function(Arc::clone(uid));
        let owned_again = {
            let latest = self.lock();
            let entry = latest.numbers.get(&subject).and_then(|number| latest.entries.get(number));
            entry.is_none_or(|entry| entry.membership() > membership)
        };
        if !owned_again {
            self.put(subject, Entry::Released { uid: Arc::clone(uid), membership });
        }
    }

    /// Says how far the routes in force go.
    pub fn route(&self, routed: Routed) {
        let mut latest = self.lock();
        if latest.routed == routed {
            return;
        }
        latest.routed = routed;
        drop(latest);
        self.shared.newest.send_modify(|_| {});
    }

    /// The answer to a request for the stream.
    pub fn respond(&self) -> Response<ResponseBody> {
        let reader = Reader::new(self.clone());
        ndjson::respond(stream::unfold(reader, |mut reader| async move {
            let lines = reader.next().await?;
            Some((lines, reader))
        }))
    }

    /// The latest report of a Function.
    #[cfg(test)]
    pub fn latest(&self, uid: &str) -> Option<FunctionReport> {
        let latest = self.lock();
        match latest.entries.get(latest.numbers.get(&Subject::Function(uid.into()))?)? {
            Entry::Function(report) => Some((**report).clone()),
            Entry::Usage(_) | Entry::Released { .. } => None,
        }
    }

    /// How far the routes go.
    #[cfg(test)]
    pub fn routed(&self) -> Routed {
        self.lock().routed
    }

    fn put(&self, subject: Subject, entry: Entry) {
        let mut latest = self.lock();
        latest.newest += 1;
        let number = latest.newest;
        latest.remove(&subject);
        latest.releases += usize::from(matches!(entry, Entry::Released { .. }));
        latest.entries.insert(number, entry);
        latest.numbers.insert(subject, number);
        latest.drop_old_releases();
        drop(latest);
        self.shared.newest.send_replace(number);
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn remove(&mut self, subject: &Subject) -> Option<u64> {
        let number = self.numbers.remove(subject)?;
        let entry = self.entries.remove(&number);
        self.releases -= usize::from(matches!(entry, Some(Entry::Released { .. })));
        Some(number)
    }

    fn drop_old_releases(&mut self) {
        while self.releases > MOST_RELEASES {
            let oldest = self.entries.values().find_map(|entry| match entry {
                Entry::Released { uid, .. } => Some(Subject::Function(Arc::clone(uid))),
                Entry::Function(_) | Entry::Usage(_) => None,
            });
            let Some(number) = oldest.and_then(|subject| self.remove(&subject)) else { return };
            self.dropped = self.dropped.max(number);
        }
    }
}

/// What is taken out under the lock, to be told.
enum Told {
    Function(Arc<FunctionReport>),
    Usage(Arc<UsageReport>),
    Released(String),
}

/// One reader of the stream.
struct Reader {
    reports: Reports,
    newest: watch::Receiver<u64>,
    /// The newest entry when the reader came.
    came_at: u64,
    /// The last entry that it had.
    had: u64,
    /// What it was told of the routes; none yet on a new stream.
    routed: Option<Routed>,
    introduced: bool,
    synced: bool,
}

impl Reader {
    fn new(reports: Reports) -> Self {
        let newest = reports.shared.newest.subscribe();
        let came_at = reports.lock().newest;
        Self { reports, newest, came_at, had: 0, routed: None, introduced: false, synced: false }
    }

    /// The next lines; none when the reader lags too far.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.newest.mark_unchanged();
            let lines = self.collect()?;
            if !lines.is_empty() {
                return Some(lines);
            }
            match timeout(HEARTBEAT, self.newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(encode([ReportLine::Heartbeat])),
            }
        }
    }

    fn collect(&mut self) -> Option<Bytes> {
        let latest = self.reports.lock();
        if latest.dropped > self.had.max(self.came_at) {
            return None;
        }
        let after = (std::ops::Bound::Excluded(self.had), std::ops::Bound::Unbounded);
        let mut taken = Vec::new();
        let mut reached_end = true;
        for (number, entry) in latest.entries.range(after) {
            if taken.len() == MOST_LINES {
                reached_end = false;
                break;
            }
            self.had = *number;
            match entry {
                Entry::Function(report) => taken.push(Told::Function(Arc::clone(report))),
                Entry::Usage(report) => taken.push(Told::Usage(Arc::clone(report))),
                Entry::Released { uid, .. } if *number > self.came_at => {
                    taken.push(Told::Released(uid.to_string()));
                }
                Entry::Released { .. } => {}
            }
        }
        if reached_end {
            self.had = latest.newest;
        }
        let routed = Some(latest.routed).filter(|routed| self.routed != Some(*routed));
        let process = latest.process.clone().filter(|_| !self.introduced);
        drop(latest);
        self.introduced |= process.is_some();
        self.routed = routed.or(self.routed);
        // Encoding needs no lock.
        let told = taken.into_iter().map(|taken| match taken {
            Told::Function(report) => ReportLine::Function(Box::new((*report).clone())),
            Told::Usage(report) => ReportLine::Usage(Box::new((*report).clone())),
            Told::Released(uid) => ReportLine::Released { uid },
        });
        let synced = !self.synced && reached_end;
        self.synced |= synced;
        let process = process.map(ReportLine::Process).into_iter();
        let lines = process.chain(routed.map(ReportLine::Routed)).chain(told);
        Some(encode(lines.chain(synced.then_some(ReportLine::Synced))))
    }
}

#[cfg(test)]
mod tests {
    use rouse_core::function::FunctionKey;

    use super::*;

    fn report(uid: &str, membership: u64, serving: &str) -> FunctionReport {
        FunctionReport {
            key: FunctionKey::new("shop", uid),
            uid: uid.into(),
            membership,
            serving: Some(serving.into()),
            revisions: BTreeMap::new(),
            last_activation: None,
            last_error: None,
            learned: None,
            history: rouse_core::history::History::default(),
        }
    }

    async fn read(reader: &mut Reader) -> Vec<String> {
        let bytes = reader.next().await.expect("the stream goes on");
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.lines()
            .map(|line| match serde_json::from_str(line).unwrap() {
                ReportLine::Function(report) => {
                    format!("{}={}", report.uid, report.serving.unwrap())
                }
                ReportLine::Released { uid } => format!("-{uid}"),
                ReportLine::Synced => "synced".into(),
                ReportLine::Routed(Routed { functions, triggers }) => {
                    format!("routed {functions}/{triggers}")
                }
                ReportLine::Heartbeat => "heartbeat".into(),
                ReportLine::Process(process) => format!("by {}", process.as_str()),
                ReportLine::Farewell(_) => "farewell".into(),
                ReportLine::Usage(report) => format!("{} used {}", report.uid, report.counts.len()),
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_all_then_synced_then_changes() {
        let reports = Reports::default();
        reports.publish(report("a", 1, "r1"));
        reports.publish(report("b", 1, "r1"));
        let mut reader = Reader::new(reports.clone());
        assert_eq!(read(&mut reader).await, ["routed 0/0", "a=r1", "b=r1", "synced"]);
        reports.publish(report("a", 1, "r2"));
        assert_eq!(read(&mut reader).await, ["a=r2"]);
        reports.release(&"b".into(), 1);
        assert_eq!(read(&mut reader).await, ["-b"]);
        assert_eq!(read(&mut reader).await, ["heartbeat"]);
        let mut late = Reader::new(reports);
        assert_eq!(read(&mut late).await, ["routed 0/0", "a=r2", "synced"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_is_told_beside_the_function() {
        let usage = |counts| UsageReport {
            key: FunctionKey::new("shop", "a"),
            uid: "a".into(),
            process: Process::new("pod", 1),
            counts,
        };
        let reports = Reports::default();
        reports.introduce(Process::new("pod", 1));
        reports.publish(report("a", 1, "r1"));
        reports.publish_usage(usage(Vec::new()));
        let mut reader = Reader::new(reports.clone());
        assert_eq!(
            read(&mut reader).await,
            ["by pod.1", "routed 0/0", "a=r1", "a used 0", "synced"]
        );
        reports.release(&"a".into(), 1);
        reports.publish_usage(usage(Vec::new()));
        assert_eq!(read(&mut reader).await, ["-a", "a used 0"]);
        reports.forget_usage("a");
        assert_eq!(read(&mut Reader::new(reports)).await, ["by pod.1", "routed 0/0", "synced"]);
    }

    #[tokio::test(start_paused = true)]
    async fn how_far_the_routes_go_is_told_first_and_then_its_latest_only() {
        let reports = Reports::default();
        let routed = |functions| Routed { functions, triggers: 7 };
        reports.route(routed(20));
        let mut reader = Reader::new(reports.clone());
        assert_eq!(read(&mut reader).await, ["routed 20/7", "synced"]);
        reports.route(routed(20));
        assert_eq!(read(&mut reader).await, ["heartbeat"], "nothing new");
        for functions in 21..1000 {
            reports.route(routed(functions));
        }
        assert_eq!(read(&mut reader).await, ["routed 999/7"]);
        assert_eq!(read(&mut reader).await, ["heartbeat"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_the_latest() {
        let reports = Reports::default();
        let mut reader = Reader::new(reports.clone());
        assert_eq!(read(&mut reader).await, ["routed 0/0", "synced"]);
        for i in 0..1000 {
            reports.publish(report("a", 1, &format!("r{i}")));
        }
        assert_eq!(read(&mut reader).await, ["a=r999"]);
        assert_eq!(reports.lock().entries.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_functions_come_in_parts_and_are_synced_once() {
        let reports = Reports::default();
        for i in 0..=MOST_LINES {
            reports.publish(report(&i.to_string(), 1, "r"));
        }
        let mut reader = Reader::new(reports);
        assert_eq!(read(&mut reader).await.len(), MOST_LINES + 1);
        let rest = read(&mut reader).await;
        assert_eq!((rest.len(), rest.last().map(String::as_str)), (2, Some("synced")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_that_comes_late_does_not_undo_a_newer_ownership() {
        let reports = Reports::default();
        reports.publish(report("a", 1, "r1"));
        reports.publish(report("a", 3, "r1"));
        reports.release(&"a".into(), 1);
        reports.release(&"never-told".into(), 1);
        let mut reader = Reader::new(reports);
        assert_eq!(read(&mut reader).await, ["routed 0/0", "a=r1", "synced"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_lags_behind_too_many_releases_is_ended() {
        let reports = Reports::default();
        let mut reader = Reader::new(reports.clone());
        assert_eq!(read(&mut reader).await, ["routed 0/0", "synced"]);
        for i in 0..=MOST_RELEASES {
            let uid: Arc<str> = i.to_string().into();
            reports.publish(report(&uid, 1, "r"));
            reports.release(&uid, 1);
        }
        assert!(reader.next().await.is_none());
        assert_eq!(reports.lock().entries.len(), MOST_RELEASES);
        let mut anew = Reader::new(reports);
        assert_eq!(read(&mut anew).await, ["routed 0/0", "synced"]);
    }
}
