//! One reconcile of a Function: fetch, validate, decide, apply, write the status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use rouse_core::function::plan::{Observed, Plan, Site, decide, needs_code};
use rouse_core::function::status::{Situation, Trouble, compute, trouble_of};
use rouse_core::function::{FunctionKey, ValidatedFunction, validate};
use rouse_crds::v1alpha1::{Function, IdlePolicy};
use tokio::time::Instant;

use crate::apply::{Applied, apply};
use crate::backoff::delay;
use crate::context::{Context, Shared};
use crate::error::{Class, Error, chain};
use crate::fetch::{Fetched, fetch, fetch_code};
use crate::index::ObjectKey;
use crate::propagation::await_routes;
use crate::run::Config;
use crate::status::{settle_usage, write_function_status};

/// A look without a reason, in case that a watch failed us. It costs no request.
const RESYNC: Duration = Duration::from_hours(1);

/// How soon to look again at a Function that seems to be going.
const LEAVING: Duration = Duration::from_secs(10);

/// Reconciles `function` and counts how it went.
pub(crate) async fn reconcile(function: Arc<Function>, context: Shared) -> Result<Action, Error> {
    context.children.ready().await;
    let started = Instant::now();
    let outcome = reconcile_once(&function, &context).await;
    let word = outcome.as_ref().map_or_else(Error::reason, |_| "ok");
    context.metrics.reconciled("Function", word, started.elapsed());
    outcome
}

async fn reconcile_once(function: &Arc<Function>, context: &Context) -> Result<Action, Error> {
    let function = context.memory.newest(function.clone());
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    if function.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let fetched = fetch(context, &function);
    let (key, applied) = match validate(&function) {
        Ok(validated) => {
            let plan = plan_for(context, &function, &validated, &fetched).await?;
            let ValidatedFunction { key, .. } = validated;
            let applied = carry_out(context, &key, uid, plan).await?;
            (key, Ok(applied))
        }
        Err(invalid) => {
            let ObjectKey { namespace, name } = ObjectKey::of(&function.metadata);
            let message = invalid.to_string();
            let trouble = Trouble { reason: "Invalid", message, passing: false };
            (FunctionKey { namespace, name }, Err(trouble))
        }
    };
    let retry_at = applied.as_ref().ok().and_then(|applied| applied.retry_at);
    let wait = await_routes(context, &function, &key);
    let settled = settle_usage(context, &function);
    let mut situation = situation(context, &function, &fetched, (&key, &applied));
    situation.usage = settled.usage.as_ref();
    situation.unrouted = wait.as_ref().map(|wait| &wait.trouble);
    let status = compute(&situation);
    let held = wait.as_ref().is_some_and(|wait| wait.holds(&status.conditions));
    let counts_at =
        if held { None } else { write_function_status(context, &function, &status).await? };
    context.memory.succeeded(uid);
    let look_at = wait.map(|wait| wait.again());
    let next = [retry_at, counts_at, look_at, settled.due].into_iter().flatten().min();
    let wait = next.map_or(RESYNC, |at| at.saturating_duration_since(Instant::now()));
    Ok(Action::requeue(wait))
}

/// What to do. Code is read where a record needs it, and kept no longer than this takes.
async fn plan_for(
    context: &Context,
    function: &Function,
    validated: &ValidatedFunction,
    fetched: &Fetched,
) -> Result<Plan, Error> {
    let observed = fetched.observed();
    let code = if needs_code(validated, &observed) {
        Some(fetch_code(context, function, validated).await?)
    } else {
        None
    };
    Ok(decide(validated, &Observed { code: code.as_ref(), ..observed }, site(context)))
}

fn site(context: &Context) -> Site<'_> {
    let Config { activator_host, runtimes, .. } = &context.config;
    Site { activator_host, runtimes }
}

/// Carries the plan out. What the plan itself finds wrong comes before what is refused.
async fn carry_out(
    context: &Context,
    key: &FunctionKey,
    uid: &str,
    plan: Plan,
) -> Result<Applied, Error> {
    let known = trouble_of(&plan.outlook, key);
    let mut applied = apply(context, key, uid, plan).await?;
    applied.trouble = known.or(applied.trouble);
    Ok(applied)
}

fn situation<'a>(
    context: &'a Context,
    function: &'a Function,
    fetched: &'a Fetched,
    (key, applied): (&'a FunctionKey, &'a Result<Applied, Trouble>),
) -> Situation<'a> {
    let (outlook, trouble) = match applied {
        Ok(applied) => (Some(&applied.outlook), applied.trouble.as_ref()),
        Err(trouble) => (None, Some(trouble)),
    };
    Situation {
        key,
        generation: function.metadata.generation,
        exposure: function.spec.exposure,
        public_domain: context.config.host_policy.public_domain.as_deref(),
        previous: fetched.status.as_ref(),
        outlook,
        trouble,
        unrouted: None,
        report: fetched.report.as_deref(),
        learns: function.spec.scaling.idle.policy == IdlePolicy::Learned,
        usage: None,
        now: Timestamp::now(),
    }
}

/// When to try again after an error.
#[expect(clippy::needless_pass_by_value, reason = "kube's controller passes them so")]
pub(crate) fn on_error(function: Arc<Function>, error: &Error, context: Shared) -> Action {
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let failures = context.memory.failed(uid);
    let wait = delay(error.class(), failures, uid);
    let key = ObjectKey::of(&function.metadata);
    let (reason, retry_ms) = (error.reason(), u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    match error.class() {
        Class::Leaving => return Action::requeue(wait.max(LEAVING)),
        // Somebody was faster: that is how several write one object.
        Class::Conflict => {
            tracing::info!(function = %key, reason, error = chain(error), retry_ms, "reconciled again");
        }
        Class::Invalid | Class::Transient | Class::Forbidden => {
            tracing::warn!(function = %key, reason, error = chain(error), retry_ms, "reconcile failed");
        }
    }
    Action::requeue(wait)
}
