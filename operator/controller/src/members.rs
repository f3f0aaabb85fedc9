//! The membership of activators: decides who is in it from their pods, and publishes it as a
//! ConfigMap. The only writer of that ConfigMap.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rouse_core::function::names::{MANAGER_CONTROLLER, MEMBERSHIP_CONFIG_MAP, MEMBERSHIP_KEY};
use rouse_core::membership::{Member, Membership};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::delay;
use crate::context::{Context, Shared};
use crate::error::{Error, chain};
use crate::index::{ObjectKey, version};
use crate::reports::collector::answers;

/// How long a member whose container runs and which answers may be unready before it is dropped:
/// moving its Functions costs more than a readiness probe that came too late.
const UNREADY_GRACE: Duration = Duration::from_secs(10);

/// How long a newcomer waits after a member left. Who takes over a Function from the one that left
/// asks it for its claims; a newcomer to which the Function goes on in the same moment would ask one
/// that does not have them yet, and replace the pods for nothing. It forwards meanwhile.
const SETTLE: Duration = Duration::from_secs(2);

/// Pause before a member that is not ready, but answers, is asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// Where the membership is told.
type Published = watch::Sender<Membership>;

/// Members that are unready, by the UID of their pods.
type Unready = HashMap<String, Doubt>;

/// What is known of a member that is not ready.
#[derive(Clone, Debug)]
struct Doubt {
    since: Instant,
    /// Where it is asked whether it answers.
    peer: String,
    asked: bool,
    /// It does not answer: it is frozen, cut off or at its end, and its requests wait for another.
    silent: bool,
}

/// Keeps the membership right, and tells `published` what it is. Never ends.
pub(crate) async fn run(context: Shared, published: Published) {
    context.pods.ready().await;
    context.memberships.ready().await;
    let mut seen = context.membership_seen.subscribe();
    let mut unready = Unready::new();
    let mut asks = JoinSet::new();
    let mut failures = 0;
    let mut settled = Instant::now();
    loop {
        seen.mark_unchanged();
        let (current, next, mut again) =
            decide(&context, &published.borrow(), (&mut unready, settled));
        if next == current {
            publish(&context, &published, current).await;
        } else {
            match write(&context, &next).await {
                Ok(written) => {
                    failures = 0;
                    if current.members.iter().any(|member| !next.members.contains(member)) {
                        settled = Instant::now() + SETTLE;
                    }
                    context.memberships.assume(written);
                    tracing::info!(
                        version = next.version,
                        members = next.members.len(),
                        "membership"
                    );
                    publish(&context, &published, next).await;
                }
                Err(error) => {
                    failures += 1;
                    let wait = delay(error.class(), failures, MEMBERSHIP_CONFIG_MAP);
                    tracing::warn!(reason = error.reason(), error = chain(&error), "membership");
                    again = Some(Instant::now() + wait);
                }
            }
        }
        for (uid, doubt) in unready.iter_mut().filter(|(_, doubt)| !doubt.asked) {
            doubt.asked = true;
            asks.spawn(ask(context.clone(), uid.clone(), doubt.peer.clone()));
        }
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return },
            Some(Ok((uid, silent))) = asks.join_next(), if !asks.is_empty() => {
                if let Some(doubt) = unready.get_mut(&uid) {
                    doubt.silent = silent;
                    doubt.asked = silent;
                }
            }
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
    }
}

/// Whether a member that is not ready is silent. Takes a moment where it is not, so that it is not
/// asked all the time.
async fn ask(context: Shared, uid: String, peer: String) -> (String, bool) {
    // Named for the log by what is known here.
    let member = Member { name: uid.clone(), uid, peer };
    let silent = answers(&context, &member).await == Some(false);
    let Member { uid, peer, .. } = member;
    if silent {
        tracing::warn!(peer, "an activator is not ready and does not answer");
    } else {
        sleep(ASK_PAUSE).await;
    }
    (uid, silent)
}

/// Tells who the members are to all that must know, if it is not what they know.
async fn publish(context: &Context, published: &Published, now: Membership) {
    context.metrics.set_members(now.members.len());
    let known = context.reports.routes.knows_members();
    if known && *published.borrow() == now {
        return;
    }
    let released = context.reports.routes.set_members(&now.members);
    published.send_replace(now);
    for (namespace, name) in released {
        context.requests.send(&namespace, &name).await;
    }
}

/// The membership as it stands, as it shall be, and when to look again.
fn decide(
    context: &Context,
    known: &Membership,
    (unready, settled): (&mut Unready, Instant),
) -> (Membership, Membership, Option<Instant>) {
    let stored = context.memberships.get(&key(context));
    let current = read(stored.as_deref(), known);
    let pods = context.pods.all();
    let pods: Vec<PodSeen> = pods.iter().filter_map(|pod| PodSeen::of(pod)).collect();
    let port = context.config.peer_port;
    let now = Instant::now();
    let (members, again) = decide_members(&pods, &current, port, (unready, now));
    let (members, waits) = hold_newcomers(members, &current, settled > now);
    let next = current.next(members);
    let again = again.into_iter().chain(waits.then_some(settled)).min();
    (current, next, again)
}

fn key(context: &Context) -> ObjectKey {
    ObjectKey::new(&context.config.namespace, MEMBERSHIP_CONFIG_MAP)
}

/// The membership that `stored` holds. Versions never go back, so where somebody deleted or broke
/// it the next one is greater than all that this process knows of.
fn read(stored: Option<&ConfigMap>, known: &Membership) -> Membership {
    let Some(stored) = stored else {
        return Membership { version: known.version, ..Membership::default() };
    };
    let text = stored.data.as_ref().and_then(|data| data.get(MEMBERSHIP_KEY));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| Membership {
        // Greater than the number of changes that the object ever saw.
        version: version(&stored.metadata).unwrap_or_default().max(known.version),
        ..Membership::default()
    })
}

/// What matters of an activator's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodSeen {
    uid: String,
    name: String,
    ip: IpAddr,
    ready: bool,
    /// Its container runs, and nobody deletes it.
    running: bool,
}

impl PodSeen {
    /// None for a pod that has no address yet.
    fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let runs =
            status.container_statuses.iter().flatten().all(|container| {
                container.state.as_ref().is_some_and(|state| state.running.is_some())
            });
        let staying = pod.metadata.deletion_timestamp.is_none();
        Some(Self {
            uid: pod.metadata.uid.clone()?,
            name: pod.metadata.name.clone()?,
            ip: status.pod_ip.as_ref()?.parse().ok()?,
            ready,
            running: runs && staying && status.phase.as_deref() == Some("Running"),
        })
    }
}

/// Who is in: pods that are ready; and for a while those that were in, whose container runs and
/// answers but is not ready. Who is silent then, is being deleted, or whose container ended, goes at once: its connections are
/// gone, or will be.
fn decide_members(
    pods: &[PodSeen],
    current: &Membership,
    port: u16,
    (unready, now): (&mut Unready, Instant),
) -> (Vec<Member>, Option<Instant>) {
    let mut again: Option<Instant> = None;
    let mut members = Vec::new();
    unready.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
    for pod in pods.iter().filter(|pod| pod.running) {
        let member = Member {
            uid: pod.uid.clone(),
            name: pod.name.clone(),
            peer: SocketAddr::new(pod.ip, port).to_string(),
        };
        if pod.ready {
            unready.remove(&pod.uid);
            members.push(member);
        } else if current.members.contains(&member) {
            let peer = &member.peer;
            let doubt = unready.entry(pod.uid.clone()).or_insert_with(|| Doubt {
                since: now,
                peer: peer.clone(),
                asked: false,
                silent: false,
            });
            let until = doubt.since + UNREADY_GRACE;
            if now < until && !doubt.silent {
                members.push(member);
                again = Some(again.map_or(until, |at| at.min(until)));
            }
        }
    }
    (members, again)
}

/// Who of `members` is in while newcomers are held, and whether any waits. Nobody waits where no
/// member would be left: somebody must own the Functions.
fn hold_newcomers(
    mut members: Vec<Member>,
    current: &Membership,
    held: bool,
) -> (Vec<Member>, bool) {
    let was_in = |member: &Member| current.members.contains(member);
    let waits = held && members.iter().any(was_in) && !members.iter().all(was_in);
    if waits {
        members.retain(was_in);
    }
    (members, waits)
}

/// Writes `next` over the version that it was decided from.
async fn write(context: &Context, next: &Membership) -> Result<ConfigMap, Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.config.namespace);
    let text = serde_json::to_string(next)?;
    let data = BTreeMap::from([(MEMBERSHIP_KEY, text)]);
    let stored = context.memberships.get(&key(context));
    let version = stored.and_then(|stored| stored.metadata.resource_version.clone());
    let written = if let Some(resource_version) = version {
        let body: Value = json!({
            "metadata": {"resourceVersion": resource_version},
            "data": data,
        });
        let params = PatchParams {
            field_manager: Some(MANAGER_CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        api.patch(MEMBERSHIP_CONFIG_MAP, &params, &Patch::Merge(&body)).await
    } else {
        let body: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": MEMBERSHIP_CONFIG_MAP, "labels": {
                "app.kubernetes.io/name": "rouse",
                "app.kubernetes.io/component": "controller",
                "app.kubernetes.io/part-of": "rouse",
            }},
            "data": data,
        }))?;
        let params =
            PostParams { field_manager: Some(MANAGER_CONTROLLER.to_owned()), dry_run: false };
        api.create(&params, &body).await
    };
    let written = written.map_err(Error::Membership)?;
    context.metrics.wrote("ConfigMap", "apply");
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 8082;

    fn pod(i: u8, ready: bool, running: bool) -> PodSeen {
        PodSeen {
            uid: format!("uid-{i}"),
            name: format!("activator-{i}"),
            ip: IpAddr::from([10, 0, 0, i]),
            ready,
            running,
        }
    }

    fn uids(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.uid.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn only_ready_pods_come_in() {
        let pods = [pod(1, true, true), pod(2, false, true), pod(3, true, false)];
        let mut unready = Unready::new();
        let now = Instant::now();
        let none = Membership::default();
        let (members, again) = decide_members(&pods, &none, PORT, (&mut unready, now));
        assert_eq!(uids(&members), ["uid-1"]);
        assert_eq!(members[0].peer, "10.0.0.1:8082");
        assert_eq!(again, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_may_be_unready_for_a_while_and_goes_at_once_when_it_ends() {
        let current = Membership::default().next(
            decide_members(
                &[pod(1, true, true), pod(2, true, true)],
                &Membership::default(),
                PORT,
                (&mut Unready::new(), Instant::now()),
            )
            .0,
        );
        let mut unready = Unready::new();
        let start = Instant::now();
        let mut decide = |pods: &[PodSeen], now: Instant| {
            let (members, again) = decide_members(pods, &current, PORT, (&mut unready, now));
            (uids(&members).join(" "), again)
        };
        let shaky = [pod(1, false, true), pod(2, true, true)];
        let deadline = start + UNREADY_GRACE;
        assert_eq!(decide(&shaky, start), ("uid-1 uid-2".into(), Some(deadline)));
        let later = start + UNREADY_GRACE / 2;
        assert_eq!(decide(&shaky, later), ("uid-1 uid-2".into(), Some(deadline)));
        assert_eq!(decide(&shaky, deadline), ("uid-2".into(), None));
        unready.get_mut("uid-1").unwrap().silent = true;
        let (members, _) = decide_members(&shaky, &current, PORT, (&mut unready, later));
        assert_eq!(uids(&members), ["uid-2"], "who is silent goes at once");
        let mut decide = |pods: &[PodSeen], now: Instant| {
            let (members, again) = decide_members(pods, &current, PORT, (&mut unready, now));
            (uids(&members).join(" "), again)
        };
        assert_eq!(
            decide(&[pod(1, false, false), pod(2, true, true)], start),
            ("uid-2".into(), None),
            "terminating or ended"
        );
    }

    #[test]
    fn versions_never_go_back() {
        let known = Membership { version: 7, ..Membership::default() };
        assert_eq!(read(None, &known).version, 7);
        let mut stored = ConfigMap::default();
        stored.metadata.resource_version = Some("1234".into());
        assert_eq!(read(Some(&stored), &known).version, 1234);
        stored.data = Some(BTreeMap::from([(
            MEMBERSHIP_KEY.to_owned(),
            r#"{"version": 9, "members": []}"#.to_owned(),
        )]));
        assert_eq!(read(Some(&stored), &known).version, 9);
    }
}
