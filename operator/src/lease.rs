//! Who leads: one of several processes holds the Lease and works, the others wait. The one that
//! holds it stops by its own monotonic clock before another may start, and takes no comfort from
//! wall clocks: neither its own nor the one that wrote the Lease.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use rouse_controller::{Fence, FenceKeeper};
use tokio::time::{Instant, sleep, timeout};

use crate::shutdown::Shutdown;

/// How long the Lease stands without being renewed. Another waits as long, from when it first saw
/// the last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How long before that the holder stops: for writes that are still on their way, and for clocks
/// that run at different speeds.
const MARGIN: Duration = Duration::from_secs(3);
/// How often the holder renews: two attempts may fail before it must stop.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How often the others look, and how soon a failed renewal is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one request may take. The client repeats refused requests by itself, for minutes.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Which Lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who asks: no two processes that run at the same time may have the same.
    pub identity: String,
}

/// The lead was lost to another, or could not be kept certain.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    /// Another process holds the Lease.
    #[error("the lease is held by {0:?} now")]
    Taken(String),
    /// No renewal succeeded in time.
    #[error("the lease could not be renewed in time")]
    Expired,
}

/// Waits for the lead and does `work` while this process has it. Gives the lead back when the work
/// is done, so that another takes over at once. None if the process shall stop before it ever led.
pub async fn lead<Work, Done>(
    client: Client,
    config: LeaseConfig,
    mut shutdown: Shutdown,
    work: impl FnOnce(Fence) -> Work,
) -> Result<Option<Done>, LeaseLost>
where
    Work: Future<Output = Done>,
{
    let mut elector =
        Elector { api: Api::namespaced(client, &config.namespace), config, seen: None };
    let held = tokio::select! {
        held = elector.acquire() => held,
        _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
    };
    tracing::info!(identity = elector.config.identity, "leading");
    let (keeper, fence) = Fence::new(held.certain_until);
    let work = work(fence.clone());
    let outcome = {
        let keep = elector.keep(held, &keeper);
        tokio::pin!(keep, work);
        tokio::select! {
            biased;
            () = fence.fallen() => Err(LeaseLost::Expired),
            lost = &mut keep => Err(lost),
            done = &mut work => Ok(done),
        }
    };
    let done = outcome?;
    if fence.holds() {
        elector.release().await;
    }
    Ok(Some(done))
}

struct Elector {
    api: Api<Lease>,
    config: LeaseConfig,
    /// The Lease as it was last seen, and since when it is so.
    seen: Option<Seen>,
}

struct Seen {
    lease: Lease,
    since: Instant,
}

/// The Lease is ours.
struct Held {
    certain_until: Instant,
}

impl Held {
    /// What was written by a request that was sent at `sent`: others count from later.
    fn since(sent: Instant) -> Self {
        Self { certain_until: sent + DURATION.saturating_sub(MARGIN) }
    }
}

impl Elector {
    /// Waits until the Lease is ours.
    async fn acquire(&mut self) -> Held {
        loop {
            match self.try_acquire().await {
                Ok(Some(held)) => return held,
                Ok(None) => {}
                Err(error) => tracing::warn!(error = %chain(&error), "asking for the lead"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn try_acquire(&mut self) -> Result<Option<Held>, CallError> {
        let Some(lease) = call(self.api.get_opt(&self.config.name)).await? else {
            return self.create().await;
        };
        self.look_at(lease);
        let Some(seen) = self.seen.as_ref().filter(|seen| self.may_take(seen)) else {
            return Ok(None);
        };
        let spec = seen.lease.spec.clone().unwrap_or_default();
        let same_holder = spec.holder_identity.as_deref() == Some(&self.config.identity);
        let transitions = spec.lease_transitions.unwrap_or_default();
        let next = LeaseSpec {
            acquire_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions.saturating_add(i32::from(!same_holder))),
            ..self.our_spec()
        };
        let sent = Instant::now();
        match self.replace(next).await {
            Ok(()) => Ok(Some(Held::since(sent))),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self) -> Result<Option<Held>, CallError> {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                acquire_time: Some(MicroTime(Timestamp::now())),
                lease_transitions: Some(0),
                ..self.our_spec()
            }),
        };
        let sent = Instant::now();
        match call(self.api.create(&PostParams::default(), &lease)).await {
            Ok(lease) => {
                self.look_at(lease);
                Ok(Some(Held::since(sent)))
            }
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remembers the Lease, and since when it is as it is: any change is a sign of life.
    fn look_at(&mut self, lease: Lease) {
        let same = self.seen.as_ref().is_some_and(|seen| seen.lease == lease);
        if !same {
            self.seen = Some(Seen { lease, since: Instant::now() });
        }
    }

    fn may_take(&self, seen: &Seen) -> bool {
        let spec = seen.lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        // Our own from before a restart: the process that took it is dead.
        holder.is_empty() || holder == self.config.identity || seen.since.elapsed() >= duration
    }

    /// Renews the Lease for as long as that works; why it does not any more.
    async fn keep(&mut self, mut held: Held, keeper: &FenceKeeper) -> LeaseLost {
        let mut wait = RENEW_EVERY;
        loop {
            sleep(wait).await;
            // The clock may have run on while the process stood still.
            if Instant::now() >= held.certain_until {
                return LeaseLost::Expired;
            }
            match self.renew().await {
                Ok(renewed) => {
                    held = renewed;
                    keeper.move_to(held.certain_until);
                    wait = RENEW_EVERY;
                }
                Err(RenewError::Taken(by)) => return LeaseLost::Taken(by),
                Err(RenewError::Call(error)) => {
                    tracing::warn!(error = %chain(&error), "renewing the lease");
                    wait = LOOK_EVERY;
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<Held, RenewError> {
        let spec = self.seen.as_ref().and_then(|seen| seen.lease.spec.clone()).unwrap_or_default();
        let next = LeaseSpec {
            acquire_time: spec.acquire_time,
            lease_transitions: spec.lease_transitions,
            ..self.our_spec()
        };
        let sent = Instant::now();
        match self.replace(next).await {
            Ok(()) => return Ok(Held::since(sent)),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        // Another took it, or somebody edited it, or an attempt of ours arrived though its answer
        // did not. If it is still ours, the next attempt is made on what is there now.
        let lease = call(self.api.get(&self.config.name)).await?;
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        self.look_at(lease);
        match holder {
            Some(holder) if holder == self.config.identity => Err(CallError::Changed.into()),
            holder => Err(RenewError::Taken(holder.unwrap_or_default())),
        }
    }

    /// Gives the Lease back, so that nobody has to wait. If it fails, they wait.
    async fn release(&mut self) {
        let spec = self.seen.as_ref().and_then(|seen| seen.lease.spec.clone()).unwrap_or_default();
        let next = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        };
        match self.replace(next).await {
            Ok(()) => tracing::info!("gave the lead back"),
            Err(error) => tracing::warn!(error = %chain(&error), "giving the lead back"),
        }
    }

    fn our_spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }
    }

    /// Writes over the very version that was seen last.
    async fn replace(&mut self, spec: LeaseSpec) -> Result<(), CallError> {
        let metadata = self.seen.as_ref().map(|seen| seen.lease.metadata.clone());
        let mut lease = Lease { metadata: metadata.unwrap_or_default(), spec: Some(spec) };
        lease.metadata.managed_fields = None;
        let params = PostParams::default();
        let lease = call(self.api.replace(&self.config.name, &params, &lease)).await?;
        self.look_at(lease);
        Ok(())
    }
}

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the API server did not answer in time")]
    Silent,
    #[error("the lease was changed meanwhile")]
    Changed,
    #[error("the API server's answer")]
    Api(#[from] kube::Error),
}

impl CallError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }
}

#[derive(Debug)]
enum RenewError {
    Taken(String),
    Call(CallError),
}

impl From<CallError> for RenewError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    Ok(timeout(CALL_TIMEOUT, request).await.map_err(|_| CallError::Silent)??)
}

/// An error with its cause in one line.
fn chain(error: &CallError) -> impl Display {
    match error {
        CallError::Api(cause) => format!("{error}: {cause}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
