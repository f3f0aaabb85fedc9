//! What activators report: held here per Function, with the owner's word before all others', and
//! how far their routes go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use rouse_core::membership::Membership;
use rouse_core::report::{FunctionReport, ReportLine};
use tokio::sync::watch;

pub(crate) mod collector;
pub(crate) mod routes;

use routes::Routes;

use crate::usage::Books;

/// All reports. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    pub routes: Arc<Routes>,
    /// What Functions used.
    pub books: Arc<Books>,
    held: Arc<RwLock<HashMap<String, OfFunction>>>,
    membership: watch::Receiver<Membership>,
}

/// A report as it is used.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub report: Arc<FunctionReport>,
    /// It is the owner's, and the owner is there to correct it.
    pub live: bool,
}

/// The reports on one Function.
#[derive(Debug, Default)]
struct OfFunction {
    /// Highest version of the membership whose report was used; those of lower ones are stale.
    used: u64,
    by_member: BTreeMap<String, FromMember>,
}

#[derive(Debug)]
struct FromMember {
    report: Arc<FunctionReport>,
    /// The stream that brought it; none when that ended or took it back.
    stream: Option<u64>,
}

/// Functions whose status may change, by namespace and name.
pub(crate) type Changed = Vec<(Arc<str>, Arc<str>)>;

impl Reports {
    pub fn new(membership: watch::Receiver<Membership>) -> Self {
        Self { routes: Arc::default(), books: Arc::default(), held: Arc::default(), membership }
    }

    /// The report on the Function with this UID: the owner's if it has spoken, else the last that
    /// was used.
    pub fn get(&self, uid: &str) -> Option<Held> {
        let owner = self.membership.borrow().owner(uid).map(|owner| owner.uid.clone());
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let of_function = held.get_mut(uid)?;
        let used = of_function.used;
        let current =
            of_function.by_member.iter().filter(|(_, from)| from.report.membership >= used);
        let (member, from) = current.max_by_key(|(member, from)| {
            let is_owner = Some(*member) == owner.as_ref() && from.stream.is_some();
            (is_owner, from.report.membership, from.stream)
        })?;
        of_function.used = from.report.membership;
        let live = Some(member) == owner.as_ref() && from.stream.is_some();
        Some(Held { report: from.report.clone(), live })
    }

    /// Takes in a line that `member` sent on the stream with this number.
    pub fn accept(&self, member: &str, stream: u64, line: ReportLine) -> Changed {
        match line {
            ReportLine::Function(report) => self.accept_report(member, stream, *report),
            ReportLine::Released { uid } => {
                self.release(member, &uid);
                Changed::new()
            }
            // What an earlier stream brought and this one did not repeat is not owned any more.
            ReportLine::Synced => {
                self.release_all(member, |of| of != stream);
                Changed::new()
            }
            ReportLine::Routed(routed) => self.routes.hear(member, stream, routed),
            ReportLine::Usage(_) | ReportLine::Process(_) | ReportLine::Farewell(_) => {
                self.accept_usage(line)
            }
            ReportLine::Heartbeat => Changed::new(),
        }
    }

    /// Takes in what a line says of usage, and of nothing else: that counts whoever says it.
    pub fn accept_usage(&self, line: ReportLine) -> Changed {
        match line {
            ReportLine::Usage(report) => {
                let key = (report.key.namespace.clone(), report.key.name.clone());
                return if self.books.hear(*report) { vec![key] } else { Changed::new() };
            }
            ReportLine::Process(process) => self.books.introduce(process),
            ReportLine::Farewell(process) => self.books.end(process),
            _ => {}
        }
        Changed::new()
    }

    fn accept_report(&self, member: &str, stream: u64, report: FunctionReport) -> Changed {
        let key = (report.key.namespace.clone(), report.key.name.clone());
        let is_owner =
            self.membership.borrow().owner(&report.uid).is_some_and(|owner| owner.uid == member);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let of_function = held.entry(report.uid.clone()).or_default();
        if is_owner {
            of_function.by_member.retain(|other, from| other == member || from.stream.is_some());
        }
        let before = of_function.by_member.get(member);
        let same = before.is_some_and(|before| *before.report == report && before.stream.is_some());
        let from = FromMember { report: Arc::new(report), stream: Some(stream) };
        of_function.by_member.insert(member.to_owned(), from);
        if same { Changed::new() } else { vec![key] }
    }

    fn release(&self, member: &str, uid: &str) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let of_function = held.get_mut(uid);
        if let Some(from) = of_function.and_then(|held| held.by_member.get_mut(member)) {
            from.stream = None;
        }
    }

    /// The stream with this number ended: its word still counts, but nobody corrects it.
    pub fn end_stream(&self, member: &str, stream: u64) {
        self.release_all(member, |of| of == stream);
        self.routes.end_stream(member, stream);
    }

    fn release_all(&self, member: &str, ended: impl Fn(u64) -> bool) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for of_function in held.values_mut() {
            if let Some(from) = of_function.by_member.get_mut(member)
                && from.stream.is_some_and(&ended)
            {
                from.stream = None;
            }
        }
    }

    /// The Functions that a change of the membership gives another owner who has spoken already.
    pub fn spoken_for(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let several = held.values().filter(|of_function| of_function.by_member.len() > 1);
        several
            .filter_map(|of_function| of_function.by_member.values().next())
            .map(|from| (from.report.key.namespace.clone(), from.report.key.name.clone()))
            .collect()
    }

    pub fn forget(&self, uid: &str) {
        self.routes.forget(uid);
        self.books.forget(uid);
        self.held.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Forgets all Functions but those that `is_there`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.routes.retain(&is_there);
        self.books.retain(&is_there);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|uid, _| is_there(uid));
    }
}

#[cfg(test)]
mod tests {
    use rouse_core::function::FunctionKey;
    use rouse_core::membership::Member;

    use super::*;

    const UID: &str = "function-uid";

    fn member(name: &str) -> Member {
        Member { uid: name.into(), name: name.into(), peer: "10.0.0.1:1".into() }
    }

    /// A membership of two in which `owner` owns the Function, and the other member's UID.
    fn two(version: u64) -> (Membership, String, String) {
        let members = vec![member("a"), member("b")];
        let membership = Membership { version, members, ..Membership::default() };
        let owner = membership.owner(UID).unwrap().uid.clone();
        let other = if owner == "a" { "b" } else { "a" };
        (membership, owner, other.to_owned())
    }

    fn line(membership: u64, serving: &str) -> ReportLine {
        ReportLine::Function(Box::new(FunctionReport {
            key: FunctionKey::new("shop", "hello"),
            uid: UID.into(),
            membership,
            serving: Some(serving.into()),
            revisions: BTreeMap::new(),
            last_activation: None,
            last_error: None,
            learned: None,
            history: rouse_core::history::History::default(),
        }))
    }

    fn serving(reports: &Reports) -> Option<(String, bool)> {
        reports.get(UID).map(|held| (held.report.serving.clone().unwrap(), held.live))
    }

    #[test]
    fn the_owners_word_counts_whoever_speaks_last() {
        let (membership, owner, other) = two(5);
        let (_sender, receiver) = watch::channel(membership);
        let reports = Reports::new(receiver);
        assert_eq!(serving(&reports), None);
        assert_eq!(reports.accept(&owner, 1, line(5, "new")).len(), 1);
        assert_eq!(reports.accept(&owner, 1, line(5, "new")), [], "nothing new");
        reports.accept(&other, 2, line(5, "old"));
        assert_eq!(serving(&reports), Some(("new".into(), true)));
    }

    #[test]
    fn a_report_of_an_older_membership_than_one_used_is_ignored() {
        let (membership, owner, other) = two(5);
        let (_sender, receiver) = watch::channel(membership);
        let reports = Reports::new(receiver);
        reports.accept(&other, 1, line(6, "new"));
        assert_eq!(serving(&reports), Some(("new".into(), false)));
        reports.accept(&owner, 2, line(5, "old"));
        assert_eq!(serving(&reports), Some(("new".into(), false)));
        reports.accept(&owner, 2, line(7, "newer"));
        assert_eq!(serving(&reports), Some(("newer".into(), true)));
    }

    #[test]
    fn a_lost_owners_word_stands_until_the_next_speaks() {
        let (membership, owner, other) = two(5);
        let (sender, receiver) = watch::channel(membership);
        let reports = Reports::new(receiver);
        reports.accept(&owner, 1, line(5, "first"));
        reports.end_stream(&owner, 1);
        assert_eq!(serving(&reports), Some(("first".into(), false)));
        sender.send_replace(Membership {
            version: 6,
            members: vec![member(&other)],
            ..Membership::default()
        });
        assert_eq!(serving(&reports), Some(("first".into(), false)));
        reports.accept(&other, 2, line(6, "second"));
        assert_eq!(serving(&reports), Some(("second".into(), true)));
    }

    #[test]
    fn a_new_owner_may_speak_before_the_membership_is_known_here() {
        let (membership, owner, other) = two(5);
        let (sender, receiver) = watch::channel(membership);
        let reports = Reports::new(receiver);
        reports.accept(&owner, 1, line(5, "first"));
        reports.accept(&other, 2, line(6, "second"));
        sender.send_replace(Membership {
            version: 6,
            members: vec![member(&other)],
            ..Membership::default()
        });
        assert_eq!(serving(&reports), Some(("second".into(), true)));
        assert_eq!(reports.spoken_for().len(), 1);
    }

    #[test]
    fn what_a_new_stream_does_not_repeat_is_no_longer_live() {
        let (membership, owner, _) = two(5);
        let (_sender, receiver) = watch::channel(membership);
        let reports = Reports::new(receiver);
        reports.accept(&owner, 1, line(5, "x"));
        reports.accept(&owner, 2, ReportLine::Synced);
        assert_eq!(serving(&reports), Some(("x".into(), false)));
        reports.accept(&owner, 2, line(5, "x"));
        assert_eq!(serving(&reports), Some(("x".into(), true)));
        reports.end_stream(&owner, 1);
        assert_eq!(serving(&reports), Some(("x".into(), true)), "an old stream's end");
        reports.accept(&owner, 2, ReportLine::Released { uid: UID.into() });
        assert_eq!(serving(&reports), Some(("x".into(), false)));
        reports.forget(UID);
        assert_eq!(serving(&reports), None);
    }
}
