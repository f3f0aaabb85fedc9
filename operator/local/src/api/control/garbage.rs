//! What has no owner any more goes; what waits for its dependents goes after them; a namespace goes
//! with all that is in it.

use super::Control;
use crate::api::meta::{self, set};
use crate::api::store::{Change, Object, Place};
use crate::api::verbs::{DeleteOptions, FOREGROUND, Propagation, delete_at, drop_owner};

/// Does what follows of a change for others.
pub(super) fn follow(control: &mut Control<'_>, change: &Change) {
    let object = &change.after;
    if change.is_gone {
        for dependent in control.store.dependents(meta::uid(&object.value)) {
            lose_owner(control, &dependent, meta::uid(&object.value));
        }
        for owner in meta::owners(&object.value) {
            finish(control, owner);
        }
        finish_namespace(control, meta::namespace(&object.value));
        return;
    }
    match &change.before {
        None => lose_missing_owners(control, object),
        // Whoever waits for it does so no more.
        Some(before) => meta::owners(&before.value)
            .filter(|owner| !meta::owners(&object.value).any(|kept| kept == *owner))
            .for_each(|owner| finish(control, owner)),
    }
    if meta::is_going(&object.value) {
        if object.kind.is("", "Namespace") {
            empty_namespace(control, meta::name(&object.value));
        }
        if waits_for_dependents(object) {
            for dependent in control.store.dependents(meta::uid(&object.value)) {
                lose_owner(control, &dependent, meta::uid(&object.value));
            }
            finish(control, meta::uid(&object.value));
        }
    }
}

fn waits_for_dependents(object: &Object) -> bool {
    meta::is_going(&object.value)
        && meta::list(&object.value, "/metadata/finalizers").any(|it| it == FOREGROUND)
}

fn remove(control: &mut Control<'_>, place: &Place, propagation: Propagation) {
    let options = DeleteOptions::propagated(propagation);
    // Nothing can be wrong without preconditions.
    drop(delete_at(control.store, place, &options, control.now));
}

/// One of its owners is gone, or waits for it: it goes with the last.
fn lose_owner(control: &mut Control<'_>, dependent: &Object, uid: &str) {
    let mut others = meta::owners(&dependent.value).filter(|other| *other != uid);
    if !others.any(|other| is_held_by(control, other)) {
        remove(control, &dependent.place(), propagation(control, uid));
        return;
    }
    let mut after = dependent.value.clone();
    drop_owner(&mut after, uid);
    control.put(dependent, after);
}

/// Whether an owner is there to stay, as far as anybody knows.
fn is_held_by(control: &Control<'_>, uid: &str) -> bool {
    control.store.by_uid(uid).is_some_and(|owner| !waits_for_dependents(owner))
}

/// How the dependents of an owner go: while it waits for them, theirs go before them.
fn propagation(control: &Control<'_>, uid: &str) -> Propagation {
    match control.store.by_uid(uid) {
        Some(_) => Propagation::Foreground,
        None => Propagation::Background,
    }
}

/// What was made for owners that were gone already, or are waiting to go.
fn lose_missing_owners(control: &mut Control<'_>, object: &Object) {
    let mut owners = meta::owners(&object.value);
    let Some(first) = owners.next() else { return };
    if !is_held_by(control, first) && !owners.any(|owner| is_held_by(control, owner)) {
        remove(control, &object.place(), propagation(control, first));
    }
}

/// Lets an owner go that waited for its last dependent.
fn finish(control: &mut Control<'_>, uid: &str) {
    let Some(owner) = control.store.by_uid(uid).cloned() else { return };
    if !waits_for_dependents(&owner) || !control.store.dependents(uid).is_empty() {
        return;
    }
    let mut after = owner.value.clone();
    let others: Vec<_> = meta::list(&owner.value, "/metadata/finalizers")
        .filter(|finalizer| *finalizer != FOREGROUND)
        .cloned()
        .collect();
    if others.is_empty() {
        control.store.remove(&owner.place());
    } else {
        set(&mut after, &["metadata", "finalizers"], others);
        control.put(&owner, after);
    }
}

fn empty_namespace(control: &mut Control<'_>, name: &str) {
    for place in control.store.in_namespace(name) {
        remove(control, &place, Propagation::Background);
    }
    finish_namespace(control, name);
}

/// Lets a namespace go that is empty.
fn finish_namespace(control: &mut Control<'_>, name: &str) {
    let kind = control.kinds.namespace.id;
    let place = Place { kind, namespace: String::new(), name: name.to_owned() };
    let going = control.store.get(&place).is_some_and(|it| meta::is_going(&it.value));
    if going && control.store.in_namespace(name).is_empty() {
        control.store.remove(&place);
    }
}
