//! The task that follows the owner of one Function: it keeps the gate to what the owner last said,
//! and tells the owner what was sent. It ends when nobody has called the Function here for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rouse_core::membership::Member;
use rouse_core::spread::{FollowerLine, Subscribe, Subscription, VALID, Word};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Connect, Stream};
use crate::admission::{Gate, Pursuit};
use crate::function::FunctionHandle;
use crate::observe::index::{Observed, PodView};
use crate::pod::{Pod, Start};
use crate::upstream::Connections;

/// Pause between two lines of a follower that sends nothing.
const BEAT: Duration = Duration::from_secs(1);
/// Pause between two of one that sends.
const SAMPLE: Duration = Duration::from_millis(500);
/// Shortest pause between two, when something is to be told soon.
const SHORTEST: Duration = Duration::from_millis(10);
/// After so long without a request it follows no longer.
const QUIET: Duration = Duration::from_secs(10);
/// How long an owner may take to accept a stream.
const PATIENCE: Duration = Duration::from_secs(2);
/// First and longest pause before a stream is opened again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Whom to follow, and for what.
pub struct Follow {
    /// The Function.
    pub handle: Arc<FunctionHandle>,
    /// Its gate.
    pub gate: Arc<Gate>,
    /// Its owner.
    pub owner: Arc<Member>,
    /// UID of the pod of this activator.
    pub me: Arc<str>,
    /// What is known of the Function here: only pods that are in it are sent to.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// Opens streams.
    pub connect: Arc<Connect>,
}

/// How a stream ended.
enum End {
    /// There is nothing to follow for.
    Quiet,
    /// It broke off.
    Lost,
}

/// Where a stream is.
struct Course<'a> {
    follow: &'a Follow,
    pursuit: &'a Pursuit,
    lines: mpsc::Sender<FollowerLine>,
    subscription: Subscription,
    begun: Instant,
    told_at: Instant,
    /// What was told last was not nothing.
    busy: bool,
    /// Something is to be told soon.
    soon: bool,
    quiet_since: Instant,
}

/// Follows until there is nothing to follow for.
pub async fn run(follow: Follow) {
    let pursuit = follow.gate.pursue();
    follow.handle.shortcut().open(&follow.gate);
    let mut pause = PAUSES.0;
    loop {
        let begun = Instant::now();
        let lost = matches!(follow_once(&follow, &pursuit).await, Some(End::Lost));
        let needed = pursuit.stop() > 0 || follow.handle.shortcut().take_miss();
        if !lost || !needed {
            // The next request asks for it anew.
            return;
        }
        pause = if begun.elapsed() > VALID { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        sleep(pause).await;
    }
}

/// Follows as long as a stream lasts; none once the Function is of no concern here.
async fn follow_once(follow: &Follow, pursuit: &Pursuit) -> Option<End> {
    let subscribe = Subscribe {
        function: follow.handle.key.clone(),
        uid: Arc::clone(&follow.handle.uid),
        member: Arc::clone(&follow.me),
    };
    let connecting = (follow.connect)((*follow.owner).clone(), subscribe);
    let Ok(Some(Stream { lines, mut words })) = timeout(PATIENCE, connecting).await else {
        return Some(End::Lost);
    };
    let mut observed = follow.observed.clone();
    let now = Instant::now();
    let mut course = Course {
        follow,
        pursuit,
        lines,
        subscription: Subscription::default(),
        begun: now,
        told_at: now,
        busy: false,
        soon: false,
        quiet_since: now,
    };
    if let Some(end) = course.tell() {
        return Some(end);
    }
    loop {
        let end = tokio::select! {
            biased;
            word = words.next() => match word {
                Some(word) => course.hear(word),
                None => Some(End::Lost),
            },
            changed = observed.changed() => {
                if changed.is_err() {
                    return None;
                }
                observed.mark_unchanged();
                course.keep_to();
                None
            }
            () = sleep_until(course.tell_at()) => course.tell(),
            () = pursuit.changed(), if !course.soon => {
                course.soon = true;
                None
            }
        };
        if matches!(end, Some(End::Quiet)) {
            // The owner ends the stream when it has heard the last line.
            drop(timeout(PATIENCE, words.by_ref().count()).await);
        }
        if end.is_some() {
            return end;
        }
    }
}

impl Course<'_> {
    fn tell_at(&self) -> Instant {
        self.told_at
            + match (self.soon, self.busy) {
                (true, _) => SHORTEST,
                (false, true) => SAMPLE,
                (false, false) => BEAT,
            }
    }

    /// Tells the owner what was sent.
    fn tell(&mut self) -> Option<End> {
        let now = Instant::now();
        let limit =
            self.subscription.until().map_or(self.begun + VALID, |until| self.begun + until);
        if now >= limit {
            // It says nothing: another stream may find it, or another owner.
            return Some(End::Lost);
        }
        let sent = self.pursuit.take_sent();
        let (missed, told) = (self.follow.handle.shortcut().take_miss(), !sent.pods.is_empty());
        self.busy = sent.peak > 0 || told;
        if self.busy || missed {
            self.quiet_since = now;
        } else if now >= self.quiet_since + QUIET {
            return Some(self.part());
        }
        (self.told_at, self.soon) = (now, false);
        let counts = self.subscription.tell(sent.pods, (sent.peak, sent.traffic), now - self.begun);
        let said = self.lines.try_send(FollowerLine::Counts(counts));
        said.is_err().then_some(End::Lost)
    }

    /// Sends nothing more, and says so.
    fn part(&self) -> End {
        if self.pursuit.stop() > 0 {
            return End::Lost;
        }
        // Where it is not heard, the owner waits for a while for what does not come.
        drop(self.lines.try_send(FollowerLine::Goodbye));
        End::Quiet
    }

    /// Takes in what the owner says. A new table is kept to before it is acknowledged.
    fn hear(&mut self, word: Word) -> Option<End> {
        let changed = self.subscription.hear(word);
        if changed {
            self.keep_to();
        }
        if let Some(until) = self.subscription.until() {
            self.pursuit.permit(self.begun + until, self.subscription.share());
        }
        if changed { self.tell() } else { None }
    }

    /// Lets requests go to the pods that the owner names and that are there.
    fn keep_to(&self) {
        let observed = Arc::clone(&self.follow.observed.borrow());
        let limited = observed.function.settings.bounds.concurrency.limit.is_some();
        let there: HashMap<&str, &PodView> = observed
            .pods
            .iter()
            .filter(|view| !view.seen.going)
            .map(|view| (&*view.seen.uid, &**view))
            .collect();
        let pods: Vec<Arc<Pod>> = self
            .subscription
            .pods()
            .iter()
            .filter(|_| !limited)
            .filter_map(|uid| build_pod(there.get(&**uid)?))
            .collect();
        self.pursuit.keep_to(&pods, |uid| there.contains_key(uid));
    }
}

/// The pod as requests know it; none while it has no address.
fn build_pod(view: &PodView) -> Option<Arc<Pod>> {
    let seen = &view.seen;
    Some(Arc::new(Pod {
        uid: Arc::clone(&seen.uid),
        name: Arc::clone(&seen.name),
        revision: Arc::clone(&seen.revision),
        address: seen.address?,
        protocol: seen.protocol,
        memory: seen.memory,
        start: Start::default(),
        connections: Connections::default(),
    }))
}
