//! What the Functions of the namespace allow those who send them events.

use std::collections::HashMap;

use kube::ResourceExt;
use kube::runtime::watcher::Event;
use rouse_core::delivery::Target;
use rouse_core::function::validate;
use rouse_crds::v1alpha1::Function;
use tokio::sync::watch;

/// Deliveries of one Trigger that are under way at most, whatever its Function may run: each is a
/// connection to an activator.
const MOST_IN_FLIGHT: u32 = 1000;

/// What the Functions of the namespace allow. Whoever sends to one follows it, be it there or not.
#[derive(Debug, Default)]
pub(super) struct Functions {
    targets: HashMap<String, watch::Sender<Option<Target>>>,
    /// The names that a listing which is not complete yet has brought.
    listing: Vec<String>,
    are_listed: bool,
}

impl Functions {
    /// Follows what the Function `name` allows; none as long as it is not there or not valid.
    pub fn follow(&mut self, name: &str) -> watch::Receiver<Option<Target>> {
        self.sender(name).subscribe()
    }

    /// Whether all that there are have been seen once.
    pub const fn are_listed(&self) -> bool {
        self.are_listed
    }

    /// Takes in what happened.
    pub fn take(&mut self, event: Event<Function>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(function) => {
                self.listing.push(function.name_any());
                self.put(&function);
            }
            Event::Apply(function) => self.put(&function),
            Event::Delete(function) => self.set(&function.name_any(), None),
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let gone = self.targets.keys().filter(|name| !listed.contains(name));
                for name in gone.cloned().collect::<Vec<_>>() {
                    self.set(&name, None);
                }
                self.are_listed = true;
            }
        }
        // Those that are not there, and that nobody follows.
        self.targets.retain(|_, target| target.receiver_count() > 0 || target.borrow().is_some());
    }

    fn put(&mut self, function: &Function) {
        let target = validate(function).ok().map(|valid| Target::of(&valid, MOST_IN_FLIGHT));
        self.set(&function.name_any(), target);
    }

    fn set(&mut self, name: &str, target: Option<Target>) {
        let change = |before: &mut Option<Target>| std::mem::replace(before, target) != target;
        self.sender(name).send_if_modified(change);
    }

    fn sender(&mut self, name: &str) -> &watch::Sender<Option<Target>> {
        self.targets.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function(name: &str, limit: u32) -> Function {
        let object = json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
            "metadata": {"namespace": "shop", "name": name, "uid": name},
            "spec": {"image": "i", "concurrency": {"limit": limit}, "scaling": {"max": 2}},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn who_follows_a_function_sees_it_come_change_and_go() {
        let mut functions = Functions::default();
        let mut target = functions.follow("f");
        let mut allowed = || {
            let changed = target.has_changed().unwrap();
            (changed, target.borrow_and_update().map(|target| target.in_flight))
        };
        assert_eq!(allowed(), (false, None));
        functions.take(Event::Init);
        functions.take(Event::InitApply(function("f", 3)));
        functions.take(Event::InitDone);
        assert!(functions.are_listed());
        assert_eq!(allowed(), (true, Some(6)));
        functions.take(Event::Apply(function("f", 3)));
        assert_eq!(allowed(), (false, Some(6)), "nothing changed that matters");
        functions.take(Event::Apply(function("f", 1)));
        assert_eq!(allowed(), (true, Some(2)));
        functions.take(Event::Init);
        functions.take(Event::InitDone);
        assert_eq!(allowed(), (true, None), "it went while nobody looked");
    }
}
