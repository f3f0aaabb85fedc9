//! Keeps what Rouse itself runs in namespaces of tenants: in each that needs it a Deployment, with the
//! account and the rights of its pod. `rouse-core` decides, `apply` writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use rouse_core::function::status::Trouble;
use rouse_core::resident::{Resident, ResidentPlan, SeenChildren, decide_children};
use rouse_core::source::{ValidatedSource, secrets_of};
use rouse_crds::v1alpha1::{Function, SecretKey};
use tokio::time::{Instant, sleep, sleep_until};

use crate::apply::apply_resident;
use crate::backoff::delay;
use crate::context::{Context, Shared, bump};
use crate::error::{Class, Error, chain};
use crate::index::{Index, ObjectKey};
use crate::objects::{Child, Deployment, Kind, RoleBinding, ServiceAccount};

/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// Namespaces that are written to at once.
const WRITES: usize = 8;

/// A resident of a namespace.
type Place = (Resident, String);

/// The residents of all namespaces.
#[derive(Default)]
pub(crate) struct Residents {
    pub deployments: Index<Deployment>,
    pub accounts: Index<ServiceAccount>,
    pub bindings: Index<RoleBinding>,
    /// What the API server refused.
    refused: Mutex<HashMap<Place, Trouble>>,
}

impl Residents {
    /// Waits until all that there is has been seen: deciding earlier would create it again.
    pub async fn ready(&self) {
        self.deployments.ready().await;
        self.accounts.ready().await;
        self.bindings.ready().await;
    }

    /// Why `namespace` has no source pod, where the API server refused one.
    pub fn refused(&self, namespace: &str) -> Option<Trouble> {
        self.lock().get(&(Resident::Source, namespace.to_owned())).cloned()
    }

    /// Whether the source pod of `namespace` is ready.
    pub fn is_available(&self, namespace: &str) -> bool {
        const NAME: &str = Resident::Source.name();
        let deployment = self.deployments.get(&ObjectKey::new(namespace, NAME));
        deployment.is_some_and(|deployment| deployment.status.available_replicas > 0)
    }

    /// Notes what was refused; whether that is news.
    fn note(&self, place: &Place, trouble: Option<&Trouble>) -> bool {
        let mut refused = self.lock();
        let before = match trouble {
            Some(trouble) => refused.insert(place.clone(), trouble.clone()),
            None => refused.remove(place),
        };
        before.as_ref() != trouble
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Trouble>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of which there is something.
    fn places(&self) -> BTreeSet<Place> {
        fn of<K: Kind>(index: &Index<Child<K>>) -> impl Iterator<Item = Place> {
            index.all().into_iter().filter_map(|child| {
                let name = child.metadata.name.as_deref()?;
                let resident = Resident::ALL.into_iter().find(|it| it.name() == name)?;
                Some((resident, child.metadata.namespace.clone()?))
            })
        }
        of(&self.deployments).chain(of(&self.accounts)).chain(of(&self.bindings)).collect()
    }

    fn see(&self, (resident, namespace): &Place) -> SeenChildren {
        let key = ObjectKey::new(namespace, resident.name());
        SeenChildren {
            service_account: self.accounts.get(&key).map(|child| child.seen()),
            role_binding: self.bindings.get(&key).map(|child| child.seen()),
            deployment: self.deployments.get(&key).map(|child| child.seen()),
        }
    }
}

/// Failed passes in a row and when the next is due.
type Failures = HashMap<Place, (u32, Instant)>;

/// Keeps all of them right. Never ends.
pub(crate) async fn run(context: Shared) {
    if !context.config.residents.contains_key(&Resident::Source) {
        tracing::warn!("without --source-template the sources of Triggers are run by nobody");
    }
    let mut claims = context.claims.subscribe();
    let mut functions_ready = context.functions_ready.subscribe();
    context.triggers.ready().await;
    context.residents.ready().await;
    // The sender is in the context.
    let _ = functions_ready.wait_for(|ready| *ready).await;
    let mut failures = Failures::new();
    loop {
        claims.mark_unchanged();
        let retry = pass(&context, &mut failures).await;
        tokio::select! {
            changed = claims.changed() => if changed.is_err() { return },
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
        }
        sleep(GATHER).await;
    }
}

/// Puts right what is not as it should be; when to look again at what failed or was refused.
async fn pass(context: &Context, failures: &mut Failures) -> Option<Instant> {
    let wanted = wanted(context);
    let mut places = context.residents.places();
    places.extend(wanted.keys().cloned());
    failures.retain(|place, _| places.contains(place));
    let mut due = Vec::new();
    for place in places {
        if failures.get(&place).is_some_and(|(_, at)| *at > Instant::now()) {
            continue;
        }
        let (resident, namespace) = &place;
        let template = context.config.residents.get(resident);
        // Without a template nobody knows how, and what others made for it is left as it is. Keepers are
        // switched off so.
        if template.is_none() && *resident == Resident::Source {
            continue;
        }
        let seen = context.residents.see(&place);
        let plan = decide_children(*resident, namespace, template.zip(wanted.get(&place)), &seen);
        if plan.is_empty() {
            failures.remove(&place);
            note(context, &place, None);
        } else {
            due.push(carry_out(context, place, plan));
        }
    }
    let mut outcomes = futures::stream::iter(due).buffer_unordered(WRITES);
    while let Some((place, outcome)) = outcomes.next().await {
        note_outcome(context, failures, place, outcome);
    }
    failures.values().map(|(_, at)| *at).min()
}

/// What is needed, with the keys of Secrets that it needs.
fn wanted(context: &Context) -> BTreeMap<Place, BTreeSet<SecretKey>> {
    let mut wanted: BTreeMap<Place, BTreeSet<SecretKey>> = BTreeMap::new();
    // Whether the Functions of Triggers are there or not, for those may come and go, and pods should
    // not start anew for that.
    for trigger in context.triggers.all() {
        if let Some(Ok(source)) = ValidatedSource::of(&trigger)
            && trigger.metadata.deletion_timestamp.is_none()
        {
            let secrets = secrets_of(&source);
            let place = (Resident::Source, source.key.namespace);
            wanted.entry(place).or_default().extend(secrets);
        }
    }
    for namespace in context.functions.state().iter().filter_map(|it| prints_lines(it)) {
        wanted.entry((Resident::Keeper, namespace)).or_default();
    }
    wanted
}

/// The namespace of a Function whose pods give the lines that they print: those with source.
fn prints_lines(function: &Function) -> Option<String> {
    function.spec.source.as_ref()?;
    let stays = function.metadata.deletion_timestamp.is_none();
    function.metadata.namespace.clone().filter(|_| stays)
}

type Outcome = Result<Option<Trouble>, Error>;

async fn carry_out(context: &Context, place: Place, plan: ResidentPlan) -> (Place, Outcome) {
    let outcome = apply_resident(context, (place.0, &place.1), plan).await;
    (place, outcome)
}

fn note_outcome(context: &Context, failures: &mut Failures, place: Place, outcome: Outcome) {
    let (resident, namespace) = (place.0.name(), place.1.clone());
    let metric = match place.0 {
        Resident::Source => "Source",
        Resident::Keeper => "Keeper",
    };
    let class = match outcome {
        Ok(None) => {
            failures.remove(&place);
            note(context, &place, None);
            context.metrics.reconciled(metric, "ok", Duration::ZERO);
            return;
        }
        Ok(Some(trouble)) => {
            context.metrics.reconciled(metric, trouble.reason, Duration::ZERO);
            note(context, &place, Some(&trouble));
            Class::Invalid
        }
        Err(error) if error.class() == Class::Leaving => Class::Leaving,
        Err(error) => {
            let (reason, error_text) = (error.reason(), chain(&error));
            tracing::warn!(%namespace, resident, reason, error = error_text, "it is not set up");
            context.metrics.reconciled(metric, reason, Duration::ZERO);
            error.class()
        }
    };
    let count = failures.get(&place).map_or(1, |(count, _)| count.saturating_add(1));
    let wait = delay(class, count, &namespace);
    failures.insert(place, (count, Instant::now() + wait));
}

/// The conditions of Triggers tell what was refused of sources; of keepers no object has any.
fn note(context: &Context, place: &Place, trouble: Option<&Trouble>) {
    if !context.residents.note(place, trouble) {
        return;
    }
    bump(&context.claims);
    if let (Resident::Keeper, Some(Trouble { reason, message, .. })) = (place.0, trouble) {
        tracing::warn!(namespace = place.1, reason, message, "lines are not kept");
    }
}
