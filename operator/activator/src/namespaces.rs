//! The pods of namespaces that may only have so many: what is known of them here, shared by the
//! tasks of the Functions that this activator owns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rouse_core::scaling::allowance::{Allowance, Ledger, PodCaps};
use tokio::sync::watch;

/// The namespaces that have a cap.
#[derive(Debug, Default)]
pub struct Namespaces {
    caps: PodCaps,
    known: HashMap<Arc<str>, Arc<Namespace>>,
}

/// A namespace that has a cap.
#[derive(Debug)]
pub struct Namespace {
    name: Arc<str>,
    ledger: Mutex<Ledger>,
    /// Told when Functions have to look again.
    changed: watch::Sender<()>,
}

/// One owned Function in its namespace. What it took is given back when this is dropped.
#[derive(Debug)]
pub struct Seat {
    namespace: Arc<Namespace>,
    uid: Arc<str>,
}

impl Namespaces {
    /// Those that `caps` are set for.
    pub fn new(caps: PodCaps) -> Self {
        Self { caps, known: HashMap::new() }
    }

    /// The namespace `name`; none if nothing bounds its pods.
    pub fn of(&mut self, name: &Arc<str>) -> Option<&Arc<Namespace>> {
        let cap = self.caps.of(name)?;
        let namespace = self.known.entry(Arc::clone(name));
        Some(namespace.or_insert_with(|| Arc::new(Namespace::new(name, cap))))
    }
}

impl Namespace {
    fn new(name: &Arc<str>, cap: u32) -> Self {
        let ledger = Mutex::new(Ledger::new(cap));
        Self { name: Arc::clone(name), ledger, changed: watch::Sender::new(()) }
    }

    /// A Function is told to have so many pods, as seen.
    pub fn see(&self, uid: &Arc<str>, pods: u32) {
        self.change(|ledger| ledger.see(uid, pods));
    }

    /// A Function is gone.
    pub fn forget(&self, uid: &str) {
        self.change(|ledger| ledger.forget(uid));
    }

    fn change(&self, change: impl FnOnce(&mut Ledger) -> bool) {
        let others_look = change(&mut self.lock());
        if others_look {
            self.changed.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// That of the Function with this UID.
    pub fn new(namespace: &Arc<Namespace>, uid: &Arc<str>) -> Self {
        Self { namespace: Arc::clone(namespace), uid: Arc::clone(uid) }
    }

    /// Has `decide` say how many pods the Function shall have of those that it may, and takes them.
    pub fn take<T>(&self, decide: impl FnOnce(Allowance) -> (u32, T)) -> T {
        let mut ledger = self.namespace.lock();
        let (pods, decision) = decide(ledger.allowance(&self.uid));
        let others_look = ledger.decide(&self.uid, pods);
        drop(ledger);
        if others_look {
            self.namespace.changed.send_replace(());
        }
        decision
    }

    /// What whoever waits is told when there is no pod left.
    pub fn describe_full(&self) -> String {
        let ledger = self.namespace.lock();
        let (name, cap, sum) = (&self.namespace.name, ledger.cap(), ledger.sum());
        format!(
            "the Functions of namespace {name} have {sum} pods, and may have {cap}: call again when \
             others are done, lower spec.scaling.max of the busiest, or ask the administrator for \
             more (functions.podCaps in Rouse's chart)"
        )
    }

    /// Tells when Functions have to look again.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.namespace.changed.subscribe()
    }
}

/// Returns when a Function has to look again, if its namespace has a cap.
pub async fn changed(watch: Option<&mut watch::Receiver<()>>) {
    match watch {
        // The seat, which the task holds, keeps the sender.
        Some(watch) => drop(watch.changed().await),
        None => std::future::pending().await,
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.namespace.change(|ledger| ledger.leave(&self.uid));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::FutureExt;

    use super::*;

    fn namespaces() -> Namespaces {
        Namespaces::new(PodCaps(BTreeMap::from([("shop".into(), 5)])))
    }

    fn take(seat: &Seat, wanted: u32) -> u32 {
        seat.take(|allowance| {
            let pods = wanted.min(allowance.pods);
            (pods, pods)
        })
    }

    #[test]
    fn who_is_not_bounded_has_no_seat() {
        assert!(namespaces().of(&"other".into()).is_none());
    }

    #[tokio::test]
    async fn what_one_gives_back_another_hears_of() {
        let mut namespaces = namespaces();
        let shop = Arc::clone(namespaces.of(&"shop".into()).unwrap());
        let (one, other) = (Seat::new(&shop, &"a".into()), Seat::new(&shop, &"b".into()));
        assert_eq!((take(&one, 4), take(&other, 4)), (4, 1));
        let mut watch = other.watch();
        assert_eq!(changed(Some(&mut watch)).now_or_never(), None);
        assert!(other.describe_full().contains("have 5 pods, and may have 5"));
        drop(one);
        assert_eq!(changed(Some(&mut watch)).now_or_never(), Some(()));
        assert_eq!(take(&other, 4), 4);
    }
}
