//! Keeps what runs the sources of Triggers: in each namespace that needs it a Deployment, with the
//! account and the rights of its pod. `rouse-core` decides, `apply` writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use rouse_core::function::status::Trouble;
use rouse_core::source::{
    PodTemplate, SOURCE_NAME, SeenChildren, SourcePlan, ValidatedSource, decide_children,
    secrets_of,
};
use rouse_crds::v1alpha1::SecretKey;
use tokio::time::{Instant, sleep, sleep_until};

use crate::apply::apply_source;
use crate::backoff::delay;
use crate::context::{Context, Shared, bump};
use crate::error::{Class, Error, chain};
use crate::index::{Index, ObjectKey};
use crate::objects::{Child, Deployment, Kind, RoleBinding, ServiceAccount};

/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// Namespaces that are written to at once.
const WRITES: usize = 8;

/// What runs the sources of all namespaces.
#[derive(Default)]
pub(crate) struct Sources {
    pub deployments: Index<Deployment>,
    pub accounts: Index<ServiceAccount>,
    pub bindings: Index<RoleBinding>,
    /// By namespace, what the API server refused.
    refused: Mutex<HashMap<String, Trouble>>,
}

impl Sources {
    /// Waits until all that there is has been seen: deciding earlier would create it again.
    pub async fn ready(&self) {
        self.deployments.ready().await;
        self.accounts.ready().await;
        self.bindings.ready().await;
    }

    /// Why `namespace` has no source pod, where the API server refused one.
    pub fn refused(&self, namespace: &str) -> Option<Trouble> {
        self.lock().get(namespace).cloned()
    }

    /// Whether the source pod of `namespace` is ready.
    pub fn is_available(&self, namespace: &str) -> bool {
        let deployment = self.deployments.get(&ObjectKey::new(namespace, SOURCE_NAME));
        deployment.is_some_and(|deployment| deployment.status.available_replicas > 0)
    }

    /// Notes what was refused; whether that is news.
    fn note(&self, namespace: &str, trouble: Option<&Trouble>) -> bool {
        let mut refused = self.lock();
        let before = match trouble {
            Some(trouble) => refused.insert(namespace.to_owned(), trouble.clone()),
            None => refused.remove(namespace),
        };
        before.as_ref() != trouble
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Trouble>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Namespaces in which there is something.
    fn namespaces(&self) -> BTreeSet<String> {
        fn of<K: Kind>(index: &Index<Child<K>>) -> impl Iterator<Item = String> {
            index.all().into_iter().filter_map(|child| child.metadata.namespace.clone())
        }
        of(&self.deployments).chain(of(&self.accounts)).chain(of(&self.bindings)).collect()
    }

    fn see(&self, namespace: &str) -> SeenChildren {
        let key = ObjectKey::new(namespace, SOURCE_NAME);
        SeenChildren {
            service_account: self.accounts.get(&key).map(|child| child.seen()),
            role_binding: self.bindings.get(&key).map(|child| child.seen()),
            deployment: self.deployments.get(&key).map(|child| child.seen()),
        }
    }
}

/// By namespace, failed passes in a row and when the next is due.
type Failures = HashMap<String, (u32, Instant)>;

/// Keeps all of them right. Never ends.
pub(crate) async fn run(context: Shared) {
    let Some(template) = context.config.source_template.clone() else {
        tracing::warn!("without --source-template the sources of Triggers are run by nobody");
        return std::future::pending().await;
    };
    let mut claims = context.claims.subscribe();
    context.triggers.ready().await;
    context.sources.ready().await;
    let mut failures = Failures::new();
    loop {
        claims.mark_unchanged();
        let retry = pass(&context, &template, &mut failures).await;
        tokio::select! {
            changed = claims.changed() => if changed.is_err() { return },
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
        }
        sleep(GATHER).await;
    }
}

/// Puts right what is not as it should be; when to look again at what failed or was refused.
async fn pass(
    context: &Context,
    template: &PodTemplate,
    failures: &mut Failures,
) -> Option<Instant> {
    let wanted = wanted(context);
    let mut namespaces = context.sources.namespaces();
    namespaces.extend(wanted.keys().cloned());
    failures.retain(|namespace, _| namespaces.contains(namespace));
    let mut due = Vec::new();
    for namespace in namespaces {
        if failures.get(&namespace).is_some_and(|(_, at)| *at > Instant::now()) {
            continue;
        }
        let seen = context.sources.see(&namespace);
        let plan = decide_children(&namespace, wanted.get(&namespace), &seen, template);
        if plan.is_empty() {
            failures.remove(&namespace);
            note(context, &namespace, None);
        } else {
            due.push(carry_out(context, namespace, plan));
        }
    }
    let mut outcomes = futures::stream::iter(due).buffer_unordered(WRITES);
    while let Some((namespace, outcome)) = outcomes.next().await {
        note_outcome(context, failures, namespace, outcome);
    }
    failures.values().map(|(_, at)| *at).min()
}

/// By namespace, the Secrets that its Triggers name: whether their Functions are there or not, for
/// those may come and go, and pods should not start anew for that.
fn wanted(context: &Context) -> BTreeMap<String, BTreeSet<SecretKey>> {
    let mut wanted: BTreeMap<String, BTreeSet<SecretKey>> = BTreeMap::new();
    for trigger in context.triggers.all() {
        if let Some(Ok(source)) = ValidatedSource::of(&trigger)
            && trigger.metadata.deletion_timestamp.is_none()
        {
            let secrets = secrets_of(&source);
            wanted.entry(source.key.namespace).or_default().extend(secrets);
        }
    }
    wanted
}

type Outcome = Result<Option<Trouble>, Error>;

async fn carry_out(context: &Context, namespace: String, plan: SourcePlan) -> (String, Outcome) {
    let outcome = apply_source(context, &namespace, plan).await;
    (namespace, outcome)
}

fn note_outcome(context: &Context, failures: &mut Failures, namespace: String, outcome: Outcome) {
    let class = match outcome {
        Ok(None) => {
            failures.remove(&namespace);
            note(context, &namespace, None);
            context.metrics.reconciled("Source", "ok", Duration::ZERO);
            return;
        }
        Ok(Some(trouble)) => {
            context.metrics.reconciled("Source", trouble.reason, Duration::ZERO);
            note(context, &namespace, Some(&trouble));
            Class::Invalid
        }
        Err(error) if error.class() == Class::Leaving => Class::Leaving,
        Err(error) => {
            let (reason, error_text) = (error.reason(), chain(&error));
            tracing::warn!(%namespace, reason, error = error_text, "sources are not set up");
            context.metrics.reconciled("Source", reason, Duration::ZERO);
            error.class()
        }
    };
    let count = failures.get(&namespace).map_or(1, |(count, _)| count.saturating_add(1));
    let wait = delay(class, count, &namespace);
    failures.insert(namespace, (count, Instant::now() + wait));
}

/// The conditions of Triggers tell what was refused.
fn note(context: &Context, namespace: &str, trouble: Option<&Trouble>) {
    if context.sources.note(namespace, trouble) {
        bump(&context.claims);
    }
}
